"""Marks around an answer: they are removed for every task, and never make a wrong answer right."""

import json

import pytest

from r1ci_jax.tasks import answer_forms, base, registry
from r1ci_jax.tasks.base import Example, Verdict

_STORED = ("symbench", "extra", "toy")
NAMES = tuple(
    name
    for suite in _STORED
    for name in registry.names(suite=suite)
    if not name.startswith(("gsm_", "math_"))
)
FRAMES = ("**{}**", "`{}`", "{}.", "**{}.**", "\u201c{}\u201d", "\\(\\boxed{{{}}}\\)")


@pytest.mark.parametrize(
    ("text", "gold", "found"),
    [
        ("(B).", "(B)", ["(B)"]),
        ("**(B)**", "(B)", ["(B)"]),
        ("**(B).**", "(B)", ["(B).", "(B)"]),
        ("(B)", "B", ["B"]),
        ("yes.", "Yes", ["yes"]),
        ("8.", 8, ["8"]),
        ("\u22128", -8, ["-8"]),
        ("1,234.", 1234, ["1,234", "1234"]),
        ("$1,234.5$", 1234.5, ["1,234.5", "1234.5"]),
        # Commas are removed only where one number is stored, and only between thousands.
        ("1,234", [1, 234], []),
        ("12,34", 1234, []),
        # Marks that the stored answer has are a part of it.
        ("(> ])", "> )", []),
        ("*a*b*", "a*b", []),
        ("**2*x**2 + 1**", "2*x**2 + 1", ["2*x**2 + 1"]),
        ("**bold**", "**bold**", []),
        ("'a'", "'a', 'b'", []),
        ("The end.", "The end.", []),
        # Two marks are no pair around the whole.
        ("(1+2)*(3)", "9", []),
        ("'a' or 'b'", "a", []),
        ("...", "a", []),
        (".", "a", []),
        ("()", "a", []),
        ("", "", []),
        ("\ud800.", "a", ["\ud800"]),
    ],
)
def test_forms_by_hand(text: str, gold: object, found: list[str]) -> None:
    assert answer_forms.forms(text, json.dumps(gold)) == found


def test_a_text_of_marks_has_few_forms() -> None:
    assert len(answer_forms.forms("(" * 5000 + "x" + ")" * 5000, "1")) <= 8


@pytest.mark.parametrize("name", NAMES)
def test_a_framed_answer_counts_as_the_bare_one(name: str) -> None:
    task = registry.get(name)
    for level in (task.difficulties[0], task.difficulties[-1]):
        examples = [task.generate(index, 3, level) for index in range(3)]
        golds = [task.gold(example) or "" for example in examples]
        for example in examples:
            for text in golds:
                is_right = task.score(example, text).correct
                has_marks = task.marks_matter or set("*`._") & set(text)
                for frame in FRAMES:
                    framed = task.score(example, frame.format(text)).correct
                    assert framed == is_right or (has_marks and not framed), (frame, text)


class Brackets(base.Task):
    """A task whose answers consist of brackets."""

    name = "brackets"
    marks_matter = True

    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        return Example(id="x", task="brackets", question="?", answer='"]"', difficulty=1)

    def score(self, example: Example, answer_text: str) -> Verdict:
        return Verdict(correct=answer_text == json.loads(example.answer), reason="compared")


def test_nothing_is_removed_where_marks_matter() -> None:
    class Words(Brackets):
        marks_matter = False

    example = Brackets().generate(0, 0, 1)
    assert Brackets().score(example, "]").correct
    assert not Brackets().score(example, "(])").correct
    assert Words().score(example, "(])").correct
    assert [v.correct for v in Words().score_all([(example, "(])"), (example, ")")])] == [
        True,
        False,
    ]
    assert registry.get("bbh_dyck_languages").marks_matter
