"""Answers that others mark in their own ways, written in ours."""

import pytest

from r1ci_jax.data.external import written_answers


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("So it is $\\boxed{\\frac{1}{2}}$, done.", "So it is <<<\\frac{1}{2}>>>"),
        ("First \\boxed{1}, then \\[ \\boxed {2} \\]", "First \\boxed{1}, then <<<2>>>"),
        ("<answer>\n B \n</answer> bye", "<<<B>>>"),
        ("Work.\nAnswer: 7", "Work.\nAnswer: <<<7>>>"),
        ("Work.\n**Final answer:** 3, 4\n", "Work.\n**Final answer: <<<3, 4>>>"),
        ("The answer is 7", "The answer is <<<7>>>"),
        ("Answer: 7\nBut who knows?", None),
        ("\\boxed{1", None),
        ("<answer>7", None),
        ("\\boxed{ }", None),
        ("\\boxed{<<<1>>>}", None),
        ("It is 7.", None),
    ],
)
def test_answers_are_found_and_marked(text: str, written: str | None) -> None:
    assert written_answers.with_marks(text) == written
