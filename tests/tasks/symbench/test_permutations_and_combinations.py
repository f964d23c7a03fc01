"""permutations_and_combinations: the rules of the text against every order, the scorer by hand."""

import itertools
import json
import pathlib
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import permutations_and_combinations
from r1ci_jax.tasks.symbench.permutations_and_combinations import Rule

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = permutations_and_combinations.PermutationsAndCombinations()
LEVELS = TASK.difficulties


def examples(count: int, seed: int = 3) -> list[Example]:
    """Neighbours are of one level, so that another item's gold looks alike."""
    return [TASK.generate(i, seed, level) for level in LEVELS for i in range(count)]


def gold(example: Example) -> str:
    text = TASK.gold(example)
    assert text is not None
    return text


def correct(example: Example, text: str) -> bool:
    verdict = TASK.score(example, text)
    assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
    return verdict.correct


def fulfils(line: str, row: tuple[str, ...]) -> bool:
    """A rule of the question's text, read anew."""
    item, rest = line.removeprefix("Jar ").split(" ", 1)
    here = row.index(item)
    if found := re.fullmatch(r"stands in place (\d+)\.", rest):
        return here == int(found[1]) - 1
    if found := re.fullmatch(r"does not stand in place (\d+)\.", rest):
        return here != int(found[1]) - 1
    if found := re.fullmatch(r"stands somewhere to the left of jar (\w)\.", rest):
        return found[1] in row[here + 1 :]
    if found := re.fullmatch(r"stands directly beside jar (\w), on either side\.", rest):
        return found[1] in row[max(0, here - 1) : here + 2]
    found = re.fullmatch(r"does not stand directly beside jar (\w)\.", rest)
    assert found is not None, line
    return found[1] not in row[max(0, here - 1) : here + 2]


def solutions(question: str) -> set[tuple[str, ...]]:
    """Every order that the text allows, by trying all of them."""
    items = re.findall(r"with the labels (.+?) are to stand", question)[0].split(", ")
    rules = re.findall(r"^\d+\. (.+)$", question, re.MULTILINE)
    assert len(rules) >= 2
    rows = itertools.permutations(items)
    return {row for row in rows if all(fulfils(rule, row) for rule in rules)}


@pytest.mark.parametrize(("level", "count", "most"), [(1, 30, 2), (2, 15, 3), (3, 5, 4)])
def test_exactly_the_orders_that_the_text_allows_are_right(
    level: int, count: int, most: int
) -> None:
    for index in range(count):
        example = TASK.generate(index, 3, level)
        right = solutions(example.question)
        assert 1 <= len(right) <= most
        assert tuple(gold(example).split(",")) in right
        for row in itertools.permutations("ABCDEFG"[: level + 4]):
            if level == 1 or row in right or row[0] == "A":
                assert correct(example, ",".join(row)) is (row in right)


RULES = [
    Rule(kind="at", item="B", place=2),
    Rule(kind="not_at", item="A", place=1),
    Rule(kind="left", item="A", other="D"),
    Rule(kind="beside", item="A", other="C"),
    Rule(kind="apart", item="B", other="C"),
    Rule(kind="beside", item="B", other="C"),
    Rule(kind="left", item="D", other="A"),
]


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_the_search_finds_what_trying_all_finds(size: int) -> None:
    for rules in itertools.combinations(RULES, size):
        found = list(permutations_and_combinations.arrangements("ABCD", rules))
        tried = map("".join, itertools.permutations("ABCD"))
        assert found == [row for row in tried if all(rule.holds(row) for rule in rules)]


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (Rule(kind="at", item="B", place=2), "ABC CBA", "BAC ACB"),
        (Rule(kind="not_at", item="B", place=2), "BAC ACB", "ABC CBA"),
        (Rule(kind="left", item="B", other="C"), "ABC BAC BCA", "ACB CAB CBA"),
        (Rule(kind="beside", item="B", other="C"), "ABC ACB BCA CBA", "BAC CAB"),
        (Rule(kind="apart", item="B", other="C"), "BAC CAB", "ABC ACB BCA CBA"),
    ],
)
def test_every_rule_by_hand(rule: Rule, right: str, wrong: str) -> None:
    assert all(rule.holds(row) for row in right.split())
    assert not any(rule.holds(row) for row in wrong.split())


def released_question(*constraints: str) -> str:
    listed = "\n".join(f"{i}. {text}" for i, text in enumerate(constraints, start=1))
    return f"4 books labeled A, B, C, D on.\n\nThe constraints are:\n{listed}\n\nQuestion:\n"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B,C,D,A", True),
        (" B, C , D,A\n", True),
        ('["B", "C", "D", "A"]', True),
        ("(B, 'C', D, A)", True),
        ("C,B,D,A", True),  # not the stored answer, yet it keeps all rules
        ("C,B,A,D", False),
        ("B,C,A,D", False),
        ("A,C,B,D", False),
        ("D,B,C,A", False),
        ("B,C,D", False),
        ("B,C,D,A,A", False),
        ("B,C,D,D", False),
        ("B,C,D,E", False),
        ("b,c,d,a", False),
        ("B C D A", False),
        ("BCDA", False),
        ("B,C,D,A.", True),
        ("[B,C,D,A", False),
        ("[[B,C,D,A]]", False),
        ("'B,C,D,A'", True),
        ("B,C,D,A\nB,C,D,A", False),
        ("B,C,D,A or C,B,D,A", False),
        ("the order is B,C,D,A", False),
    ],
)
def test_the_scorer_by_hand(text: str, right: bool) -> None:
    question = released_question(
        "Book A must be adjacent to book D.",
        "Book C must be adjacent to book B.",
        "Book A must be to the right of book B.",
        "Book D cannot be placed in position 4.",
    )
    item = TASK.parse_released(0, question, {"correct_solution": ["B", "C", "D", "A"]})
    assert correct(item.example, text) is right


def test_orders_of_other_items_score_only_where_they_fit(drawn: Drawn) -> None:
    items = drawn(TASK, 1, 20) + drawn(TASK, 2, 20)
    for i, example in enumerate(items):
        mine, other = gold(example), gold(items[(i + 1) % len(items)])
        letters = tuple(other.split(","))
        if len(letters) == mine.count(",") + 1:
            assert correct(example, other) is (letters in solutions(example.question))
        assert not correct(example, mine + " " * 400)


@pytest.mark.parametrize("level", LEVELS)
def test_items_and_rules_grow_with_the_level(level: int, drawn: Drawn) -> None:
    items = drawn(TASK, level, 40)
    assert {gold(example).count(",") + 1 for example in items} == {level + 4}
    rules = [len(json.loads(example.metadata)["rules"]) for example in items]
    low, high = {1: (4, 5), 2: (5, 7), 3: (6, 8), 4: (7, 10), 5: (9, 12)}[level]
    assert low <= sum(rules) / len(rules) <= high


def test_released_rules_are_all_read(shared_data: pathlib.Path) -> None:
    path = shared_data / "symbench" / "permutations_and_combinations.jsonl"
    for number, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        item = TASK.parse_released(number, row["question"], row["solution"])
        read = json.loads(item.example.metadata)
        assert list(read["items"]) == row["solution"]["items"]
        assert len(read["rules"]) == len(row["solution"]["constraints_text"].splitlines())


GOOD = released_question("Book A must be adjacent to book D.")


@pytest.mark.parametrize(
    ("question", "solution"),
    [
        ("no books", {"correct_solution": ["A"]}),
        (GOOD, {}),
        (GOOD, None),
        (GOOD.replace("book D", "book E"), {"correct_solution": ["A"]}),
        (GOOD.replace("adjacent", "close"), {"correct_solution": ["A"]}),
    ],
)
def test_a_malformed_item_says_so(question: str, solution: object) -> None:
    with pytest.raises(UserError, match="released item 3 of permutations_and_combinations"):
        TASK.parse_released(3, question, solution)
