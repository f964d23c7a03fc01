"""Answers in LaTeX's box."""

import pytest

from r1ci_jax.text import boxed_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{1} or \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\[ \boxed{ \text{not so} } \]", "not so"),
        (r"\boxed{\text{a} + \text{b}}", r"\text{a} + \text{b}"),
        (r"\boxed{ }", None),
        (r"\boxed{4} then \boxed{5", None),  # cut off: the last one is not known
        (r"\fbox{4} boxed{5}", None),
        ("", None),
    ],
)
def test_the_last_box_counts(text: str, answer: str | None) -> None:
    assert boxed_answer.last_boxed(text) == answer
