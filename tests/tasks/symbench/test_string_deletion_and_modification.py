"""Rewriting a string: golds against regular expressions, every kind of rule by hand."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import string_deletion_and_modification as module
from r1ci_jax.tasks.symbench.string_deletion_and_modification import Rule

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = module.StringDeletionAndModification()
QUOTED = '"([a-d]+)"'


def examples(count: int = 20, seed: int = 3) -> list[Example]:
    return [TASK.generate(i, seed, level) for level in TASK.difficulties for i in range(count)]


def item(string: str, *rules: Rule) -> Example:
    drawn = {"rules": [dataclasses.asdict(rule) for rule in rules], "string": string}
    return TASK.item(0, "?", drawn, None).example


def correct(example: Example, text: str) -> bool:
    verdict = TASK.score(example, text)
    assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
    return verdict.correct


def substitution(sentence: str) -> tuple[str, str]:
    """A sentence of the question as a pattern for the whole string and its replacement."""
    if found := re.match(r"If the string has more than (\d+) letters", sentence):
        # groups before and behind the middle letter: as many before as behind, or one more before
        pairs = [(n // 2, n - n // 2 - 1) for n in range(int(found[1]) + 1, 100)]
        options = [f"^(?P<x{i}>.{{{a}}}).(?P<y{i}>.{{{b}}})$" for i, (a, b) in enumerate(pairs)]
        groups = [rf"\g<x{i}>\g<y{i}>" for i in range(len(pairs))]
        return "|".join(options), "".join(groups)
    if found := re.match(rf"If the letter {QUOTED} occurs .* append {QUOTED} to", sentence):
        letter, tail = found.groups()
        return f"^((?:[^{letter}]*{letter}[^{letter}]*{letter}[^{letter}]*)+)$", rf"\1{tail}"
    found = re.match(rf"If the string (begins with|ends with|contains) {QUOTED}, (.*)\.$", sentence)
    assert found, sentence
    place, text, change = found.groups()
    put = re.search(rf"by {QUOTED}", change)
    back = re.search(rf"append {QUOTED} to the string", change)
    front = re.search(rf"put {QUOTED} in front of", change)
    assert put or "remove" in change
    before, behind = {
        "begins with": ("", ".*"),
        "ends with": (".*", ""),
        "contains": (".*?", ".*"),
    }[place]
    added = [hit[1] if hit else "" for hit in (front, put, back)]
    return f"^({before}){text}({behind})$", rf"{added[0]}\1{added[1]}\2{added[2]}"


def solve(question: str) -> tuple[str, int]:
    """The last string and the number of steps, from the question's text alone."""
    rules = [substitution(line) for line in re.findall(r"^\d+\. (.*)$", question, re.MULTILINE)]
    found = re.search(r"the string at the start is ([a-d]+)\?", question)
    assert found
    string, steps = found[1], 0
    while True:
        for pattern, replacement in rules:
            changed, count = re.subn(pattern, replacement, string, count=1)
            if count:
                string, steps = changed, steps + 1
                break
        else:
            return string, steps


def test_golds_agree_with_regular_expressions() -> None:
    steps = {1: (3, 5), 2: (6, 9), 3: (10, 14), 4: (15, 20), 5: (21, 32)}
    for example in examples(12):
        string, taken = solve(example.question)
        assert TASK.gold(example) == string
        fewest, most = steps[example.difficulty]
        assert fewest <= taken <= most


@pytest.mark.parametrize(
    ("rule", "string", "after"),
    [
        (Rule(at="start", text="ab", put="c"), "abab", "cab"),
        (Rule(at="start", text="ab"), "ab", ""),
        (Rule(at="start", text="ab"), "aab", None),
        (Rule(at="start", text="bc", back="aa"), "bcb", "baa"),
        (Rule(at="start", text="cb", put="aa", cut=True), "cbbc", "aab"),
        (Rule(at="end", text="ab", put="ca"), "abab", "abca"),
        (Rule(at="end", text="ab", put="c", front="d"), "bab", "dbc"),
        (Rule(at="end", text="ab"), "b", None),
        (Rule(at="anywhere", text="aba", put="c"), "bababa", "bcba"),
        (Rule(at="anywhere", text="aba"), "abba", None),
        (Rule(at="inside", text="ca"), "cabca", "cab"),
        (Rule(at="inside", text="ca"), "cab", None),
        (Rule(at="longer", limit=3), "abcd", "abd"),
        (Rule(at="longer", limit=3), "abcde", "abde"),
        (Rule(at="longer", limit=3), "abc", None),
        (Rule(at="even", text="b", back="ab"), "babc", "babcab"),
        (Rule(at="even", text="b", back="ab"), "bac", None),
        (Rule(at="even", text="b", back="ab"), "aac", None),
    ],
)
def test_each_kind_of_rule(rule: Rule, string: str, after: str | None) -> None:
    assert module.apply(rule, string) == after


def test_each_step_starts_with_the_first_rule() -> None:
    rules = (Rule(at="start", text="a"), Rule(at="anywhere", text="b"), Rule(at="end", text="c"))
    example = item("bacbd", *rules)
    assert module.rewrite("bacbd", list(rules)) == ["bacbd", "acbd", "cbd", "cd"]
    assert correct(example, "cd")
    assert not correct(example, "bacbd") and not correct(example, "cbd")


def test_forms_of_an_answer() -> None:
    example = item("abc", Rule(at="start", text="a"))
    for text in ("bc", " bc\n", '"bc"', "'bc'", ' " bc " '):
        assert correct(example, text)
    for text in (
        "BC",
        "b c",
        "bc!",
        "bc bc",
        "bc\nbc",
        "bc or b",
        '"bc',
        "'bc\"",
        '""bc""',
        "[bc]",
    ):
        assert not correct(example, text)


def test_rules_that_never_end_are_wrong() -> None:
    example = item(
        "ab", Rule(at="start", text="ab", put="ba"), Rule(at="start", text="b", put="ab")
    )
    assert not correct(example, "ab") and not correct(example, "")


def test_the_string_at_the_start_is_wrong(drawn: Drawn) -> None:
    for example in (one for level in TASK.difficulties for one in drawn(TASK, level, 20)):
        start = json.loads(example.metadata)["string"]
        assert start == TASK.gold(example) or not correct(example, start)


def test_released_golds(shared_data: pathlib.Path) -> None:
    path = shared_data / "symbench" / "string_deletion_and_modification.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    items = [TASK.parse_released(i, r["question"], r["solution"]) for i, r in enumerate(rows)]
    assert (len(items), sum(correct(item.example, str(item.gold)) for item in items)) == (50, 50)
    assert module.RELEASED_DEFECTS == {}
    elsewhere = 0
    for row, read in zip(rows, items, strict=True):
        metadata = json.loads(read.example.metadata)
        rules = [Rule(**rule) for rule in metadata["rules"]]
        assert len(rules) == len(row["solution"]["selected_rules"])
        states = module.rewrite(metadata["string"], rules)
        assert states == row["solution"]["intermediate_states"]
        elsewhere += going_on(metadata["string"], rules) != read.gold
    assert [elsewhere] == list(module.RELEASED_REMARKS.values())


def going_on(string: str, rules: list[Rule]) -> str:
    """The other reading of the released wording: the rule below comes next."""
    spot, idle = 0, 0
    while idle < len(rules) and spot < 2_000:
        changed = module.apply(rules[spot % len(rules)], string)
        spot, idle = spot + 1, idle + 1 if changed is None else 0
        string = string if changed is None else changed
    return string


def test_released_items_of_another_form_are_refused() -> None:
    known = "1. If the string starts with 'cc', remove the first two characters.\n"
    asked = 'For the string "abc", what is the final string?'
    for question in ("", known, asked, f"{known}2. If the string is odd, stop.\n{asked}"):
        with pytest.raises(UserError, match="released item 7 of string_deletion"):
            TASK.parse_released(7, question, {"final_string": "abc"})
    assert TASK.parse_released(7, known + asked, {"final_string": "abc"}).gold == "abc"
