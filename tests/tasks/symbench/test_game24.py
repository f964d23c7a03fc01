"""Game 24: formulas of numbers in any order, against a search that joins pairs."""

import itertools
import json
import pathlib
import random
import re
from collections.abc import Iterator
from fractions import Fraction

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench.game24 import RELEASED_DEFECTS, Game24, plainly_reachable

TASK = Game24()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def item(*numbers: int) -> Example:
    return TASK.parse_released(0, " ".join(map(str, numbers)), None).example


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((3, 3, 8, 8), "8/(3-8/3)"),
        ((3, 3, 8, 8), " ( 8 ) / ((3 - (8 / 3)))\n"),
        ((1, 5, 5, 5), "5*(5-1/5)"),
        ((1, 1, 4, 6), "1*4*6*1"),
        ((1, 1, 4, 6), "6*4/1/1"),
    ],
)
def test_right_formulas(numbers: tuple[int, ...], text: str) -> None:
    assert TASK.score(item(*numbers), text).correct


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4*6", "exactly once"),
        ("4*6*1*1*1", "exactly once"),
        ("4*6+2-2", "exactly once"),
        ("14+6+4", "exactly once"),
        ("11-4+6", "exactly once"),
        ("4*6*1+1", "the value is 25"),
        ("4*6/(1-1)", "divides by zero"),
        ("-1+1+4*6", "not a formula"),
        ("(4)(6)*1*1", "not a formula"),
        ("4*6*1*1)", "not a formula"),
        ("4*6*1**1", "not a formula"),
        ("4*6*1*1=24", "not a formula"),
        ("4*6*1*1;", "not a formula"),
        ("[4*6*1*1]", "not a formula"),
        ("4\n*6*1*1", "not a formula"),
        ("4\u00d76*1*1", "not a formula"),
        ("4.0*6*1*1", "not a formula"),
        ("04*6*1*1", "not a formula"),
        ("24", "exactly once"),
    ],
)
def test_wrong_answers_and_why(text: str, reason: str) -> None:
    verdict = TASK.score(item(1, 1, 4, 6), text)
    assert not verdict.correct and reason in verdict.reason, verdict


Part = tuple[Fraction, str]


def joined(left: Part, right: Part) -> Iterator[Part]:
    """Both parts joined in every way, fully wrapped in parentheses."""
    (a, one), (b, two) = left, right
    yield from ((a + b, f"({one}+{two})"), (a - b, f"({one}-{two})"), (a * b, f"({one}*{two})"))
    yield b - a, f"({two}-{one})"
    if b:
        yield a / b, f"({one}/{two})"
    if a:
        yield b / a, f"({two}/{one})"


def solve(parts: list[Part], target: int) -> str | None:
    """Join any two parts until one is left: a formula for the target, if there is one."""
    if len(parts) == 1:
        return parts[0][1] if parts[0][0] == target else None
    for i, j in itertools.combinations(range(len(parts)), 2):
        rest = [part for k, part in enumerate(parts) if k not in (i, j)]
        for part in joined(parts[i], parts[j]):
            found = solve([*rest, part], target)
            if found:
                return found
    return None


def solved(numbers: list[int]) -> str | None:
    return solve([(Fraction(n), str(n)) for n in numbers], 24)


def test_solutions_of_a_search_score() -> None:
    for example in EXAMPLES:
        row = re.search(r"numbers: ([\d, ]+)\n", example.question)
        assert row is not None
        numbers = list(map(int, row[1].split(", ")))
        if len(numbers) == 4:
            found = solved(numbers)
            assert found is not None and TASK.score(example, found).correct


def test_the_easy_level_is_the_one_without_parentheses_and_division() -> None:
    for numbers in ([1, 1, 4, 6], [5, 5, 5, 9], [2, 3, 5, 12], [3, 3, 8, 8], [1, 2, 7, 7]):
        flat = any(
            eval(f"{a}{x}{b}{y}{c}{z}{d}") == 24  # the test's own text
            for a, b, c, d in itertools.permutations(numbers)
            for x, y, z in itertools.product("+-*", repeat=3)
        )
        assert plainly_reachable(numbers, 24) == flat
    for example in EXAMPLES:
        plain = plainly_reachable(json.loads(example.metadata)["numbers"], 24)
        assert plain == (example.difficulty == 1)


def test_blanks_and_outer_parentheses_do_not_matter() -> None:
    rng = random.Random(1)
    for example in EXAMPLES:
        text = TASK.gold(example) or ""
        assert TASK.score(example, text.replace(" ", "")).correct
        assert TASK.score(example, f"({text})").correct
        numbers = json.loads(example.metadata)["numbers"]
        total = "+".join(map(str, rng.sample(numbers, len(numbers))))
        assert TASK.score(example, total).correct == (sum(numbers) == 24)
        assert not TASK.score(example, f"{text} = 24").correct
        assert not TASK.score(example, "24").correct


def test_released_sample(shared_data: pathlib.Path) -> None:
    """The release stores no formulas: our search finds one for every puzzle, and it scores."""
    scored, lines = 0, (shared_data / "symbench" / "game24.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        found = TASK.parse_released(number, json.loads(line)["puzzle"], None)
        assert found.gold is None and TASK.gold(found.example) is None
        text = solved(json.loads(found.example.metadata)["numbers"])
        scored += text is not None and TASK.score(found.example, text).correct
    assert (len(lines), scored, sum(RELEASED_DEFECTS.values())) == (137, 137, 0)


def test_unreadable_released_items_are_reported() -> None:
    found = TASK.parse_released(1, "", {"puzzle": "1 1 4 6"}).example
    assert "1, 1, 4, 6" in found.question and TASK.score(found, "4*6*1*1").correct
    for broken in (("Hello", None), ("", {}), ("1 1 4 x", {"id": 3}), ("24", None)):
        with pytest.raises(UserError, match="released item 4 of game24"):
            TASK.parse_released(4, *broken)
