"""Reversi: golds against an independent replay, the scorer against near misses."""

import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import reversi

TASK = reversi.Reversi()


def examples(count: int = 20, seed: int = 3) -> list[Example]:
    return [TASK.generate(i, seed, level) for level in TASK.difficulties for i in range(count)]


def item(grid: list[str], *moves: tuple[str, int, int]) -> Example:
    return TASK.item(0, "?", {"grid": grid, "moves": moves}, None).example


def correct(example: Example, text: str) -> bool:
    verdict = TASK.score(example, text)
    assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
    return verdict.correct


def replay(question: str) -> str:
    """The final cells from the question's text alone: rays are matched as strings."""
    grid = [list(row) for row in re.findall(r"^[01*]{4,}$", question, re.MULTILINE)]
    size = len(grid)
    for who, r, c in re.findall(r"^\d+\. (Black|White) plays \((\d+), (\d+)\)\.$", question, re.M):
        me, you = ("0", "1") if who == "Black" else ("1", "0")
        row, column = int(r) - 1, int(c) - 1
        assert grid[row][column] == "*"
        before = [line[:] for line in grid]
        grid[row][column] = me
        turned = 0
        for step in [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]:
            cells = [(row + k * step[0], column + k * step[1]) for k in range(1, size)]
            cells = [cell for cell in cells if min(cell) >= 0 and max(cell) < size]
            ray = "".join(before[a][b] for a, b in cells)
            hit = re.match(f"({you}+){me}", ray)
            for a, b in cells[: len(hit[1]) if hit else 0]:
                grid[a][b] = me
                turned += 1
        assert turned, "a drawn move turns at least one piece"
    return ",".join(cell for line in grid for cell in line)


def test_golds_agree_with_an_independent_replay() -> None:
    for example in examples():
        assert TASK.gold(example) == replay(example.question)


@pytest.mark.parametrize(
    ("grid", "moves", "expected"),
    [
        (["****", "*10*", "*01*", "****"], [("0", 2, 1)], ["****", "000*", "*01*", "****"]),
        # a gap, an edge or an empty end turns nothing
        (["0*1*", "****", "1***", "****"], [("0", 1, 4)], ["0*10", "****", "1***", "****"]),
        (["1110", "****", "****", "0***"], [("1", 4, 4)], ["1110", "****", "****", "0**1"]),
        # three directions at once; a turned piece starts no further change
        (["0***", "*1**", "01*1", "***0"], [("0", 3, 3)], ["0***", "*0**", "0001", "***0"]),
        (
            ["****", "*10*", "*01*", "****"],
            [("0", 2, 1), ("1", 1, 1), ("0", 4, 3)],
            ["1***", "010*", "*00*", "**0*"],
        ),
    ],
)
def test_hand_made_games(
    grid: list[str], moves: list[tuple[str, int, int]], expected: list[str]
) -> None:
    example = item(grid, *moves)
    answer = ",".join("".join(expected))
    assert correct(example, answer)
    cells = answer.split(",")
    for spot, cell in enumerate(cells):
        for other in {"0", "1", "*"} - {cell}:
            assert not correct(example, ",".join([*cells[:spot], other, *cells[spot + 1 :]]))


def test_forms_of_an_answer() -> None:
    example = item(["**", "**"], ("1", 1, 2))
    for text in ("*,1,*,*", " [*, 1, *, *]\n", "['*','1','*','*']", '["*", "1", "*", "*"]'):
        assert correct(example, text)
    wrong = (
        "*1**",
        "* 1 * *",
        "*,1,*",
        "*,1,*,*,*",
        "*,1,*,*\n0",
        "*,1,*,*.",
        "*,1,*,* or 0",
        "*1,**",
    )
    for text in (*wrong, "*,1,*,'*", "[*,1,*,*", "(*,1,*,*)", "*,1,,*,*", "-,1,-,-", "*,1,*,*,"):
        assert not correct(example, text)


def test_the_grid_at_the_start_is_wrong() -> None:
    for example in examples():
        assert not correct(example, ",".join("".join(json.loads(example.metadata)["grid"])))


def test_released_grids_are_the_golds(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "reversi.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    items = [TASK.parse_released(i, r["question"], r["solution"]) for i, r in enumerate(rows)]
    shown = [",".join("".join(json.loads(item.example.metadata)["grid"])) for item in items]
    copied = sum(item.gold == grid for item, grid in zip(items, shown, strict=True))
    assert [copied] == list(reversi.RELEASED_REMARKS.values())


def test_released_items_of_another_form_are_refused() -> None:
    for question in ("", "n=2\n**\n**\n", "**\n*\nRound 1: Your's landing position is (1,1)"):
        with pytest.raises(UserError, match="released item 7 of reversi"):
            TASK.parse_released(7, question, {"solution": "*"})
    with pytest.raises(UserError, match="leaves the grid"):
        TASK.parse_released(
            7, "**\n**\nRound 1: Your's landing position is (3,1)", {"solution": "*"}
        )
