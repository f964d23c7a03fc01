"""Letter diagrams: every rule of the scorer, uniqueness against a search over whole rows."""

import itertools
import json
import pathlib
import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import letter_logic_diagram as diagram

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = diagram.LetterLogicDiagram()


def giving(*grid: str) -> Example:
    return Example(
        id="x", task=TASK.name, question="?", answer="", difficulty=1,
        metadata=json.dumps({"grid": grid}),
    )  # fmt: skip


THREE = giving("a__", "___", "___")
"""A letter's minor diagonal and the corner leave one solution of three rows."""
FREE = giving("___", "___", "___")


@pytest.mark.parametrize(
    "text", ["a,b,c\nb,c,a\nc,a,b", " a, b ,c\nb,c,a \n c,a,b\n", "a,b,c\r\nb,c,a\r\nc,a,b"]
)
def test_right_answers(text: str) -> None:
    assert TASK.score(THREE, text).correct


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("b,a,c\na,c,b\nc,b,a", "given letter of row 1"),
        ("a,b,c\nc,a,b\nb,c,a", "minor diagonal"),
        ("a,b,c\na,b,c\na,b,c", "column 1"),
        ("a,a,a\nb,b,b\nc,c,c", "row 1"),
        ("a,b,d\nb,d,a\nd,a,b", "row 1"),
        ("A,B,C\nB,C,A\nC,A,B", "row 1"),
        ("a,b,c\nb,c,a", "has not 3 rows"),
        ("a,b,c\nb,c,a\nc,a,b\nc,a,b", "has not 3 rows"),
        ("a,b,c,b,c,a,c,a,b", "has not 3 rows"),
        ("a,b,c\nb,c,a\nc,a", "has not 3 rows"),
        ("abc\nbca\ncab", "not a grid"),
        ("a b c\nb c a\nc a b", "not a grid"),
        ("a,b,c\n\nb,c,a\n\nc,a,b", "not a grid"),
        ("a,b,c,\nb,c,a,\nc,a,b,", "not a grid"),
        ("a,b,c\nb,c,a\nc,_,b", "row 3"),
        ("[['a','b','c'],['b','c','a'],['c','a','b']]", "not a grid"),
    ],
)
def test_wrong_answers(text: str, reason: str) -> None:
    verdict = TASK.score(THREE, text)
    assert not verdict.correct and reason in verdict.reason


def test_any_grid_that_obeys_the_rules_is_right() -> None:
    for a, b, c in itertools.permutations("abc"):
        assert TASK.score(FREE, f"{a},{b},{c}\n{b},{c},{a}\n{c},{a},{b}").correct


def by_rows(grid: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All solutions, a whole row at a time."""
    size = len(grid)
    letters = "abcdefgh"[:size]

    def extend(rows: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if len(rows) == size:
            if len({row[size - 1 - n] for n, row in enumerate(rows)}) == 1:
                yield rows
            return
        for letters_in_order in itertools.permutations(letters):
            row = "".join(letters_in_order)
            given = zip(grid[len(rows)], row, strict=True)
            clear = all(a != b for above in rows for a, b in zip(above, row, strict=True))
            if clear and all(a in ("_", b) for a, b in given):
                yield from extend((*rows, row))

    return extend(())


def test_golds_are_the_only_solutions() -> None:
    for level, count in ((1, 12), (2, 1)):
        for index in range(count):
            example = TASK.generate(index, 7, level)
            (only,) = by_rows(json.loads(example.metadata)["grid"])
            assert TASK.gold(example) == "\n".join(",".join(row) for row in only)


@pytest.mark.parametrize(
    "grid",
    [
        ["____"] * 4,
        ["a___", "____", "____", "____"],
        ["a___", "_b__", "____", "____"],
        ["a__b", "____", "____", "c___"],
        ["ab__", "a___", "____", "____"],
    ],
)
def test_the_solver_finds_every_solution(grid: list[str]) -> None:
    found = sorted(tuple(rows) for rows in diagram.solutions(grid))
    assert found == sorted(by_rows(grid))
    shuffled = sorted(tuple(rows) for rows in diagram.solutions(grid, random.Random(1)))
    assert shuffled == found


def test_the_question_shows_no_whole_grid_and_a_repeated_row_is_wrong(drawn: Drawn) -> None:
    for example in (one for level in TASK.difficulties for one in drawn(TASK, level, 20)):
        gold = TASK.gold(example) or ""
        first = gold.partition("\n")[0]
        assert f"\n{gold}\n" not in example.question
        assert not TASK.score(example, f"{gold}\n{first}").correct


def test_levels_have_ever_more_blanks(drawn: Drawn) -> None:
    blanks = []
    for level in TASK.difficulties:
        grids = [json.loads(e.metadata)["grid"] for e in drawn(TASK, level, 20)]
        (count,) = {"".join(grid).count("_") for grid in grids}
        blanks.append(count)
    assert blanks == sorted(set(blanks))


def test_released_items(shared_data: pathlib.Path) -> None:
    rows = (shared_data / "symbench" / "letter_logic_diagram.jsonl").read_text().splitlines()
    drawn = [json.loads(row) for row in rows]
    items = [
        TASK.parse_released(n, row["question"], row["solution"]) for n, row in enumerate(drawn)
    ]
    scored = sum(TASK.score(item.example, item.gold or "").correct for item in items)
    assert (len(items), scored, diagram.RELEASED_DEFECTS) == (100, 100, {})
    # Nearly half of the released diagrams have further solutions, which score as well.
    grids = [json.loads(item.example.metadata)["grid"] for item in items]
    found = [list(itertools.islice(diagram.solutions(grid), 2)) for grid in grids]
    assert sum(len(two) > 1 for two in found) == 43
    for item, two in zip(items, found, strict=True):
        for rows_found in two:
            text = "\n".join(",".join(row) for row in rows_found)
            assert TASK.score(item.example, text).correct


def test_malformed_items_are_reported() -> None:
    for question, solution in (
        ("", {"solution": []}),
        ("empty cells blank):\n\na,b\nb,a\n", {"solution": []}),
        ("empty cells blank):\n\n" + "a,,,,,,\n" * 7, {"solution": "abc"}),
    ):
        with pytest.raises(UserError, match="released item 7 of letter_logic_diagram"):
            TASK.parse_released(7, question, solution)
