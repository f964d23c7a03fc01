"""Eight queens: boards to complete, against all placements found with bit masks."""

import json
import pathlib
import random
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench.eight_queens import RELEASED_REMARKS, EightQueens

TASK = EightQueens()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def gold(example: Example) -> str:
    text = TASK.gold(example)
    assert text is not None
    return text


def item(*board: str) -> Example:
    return TASK.item(0, "", {"board": board}, None).example


def placements(side: int) -> list[tuple[int, ...]]:
    """The column of each row's queen, in all placements without attacks."""
    found: list[tuple[int, ...]] = []

    def extend(columns: tuple[int, ...], down: int, left: int, right: int) -> None:
        if len(columns) == side:
            found.append(columns)
        for column in range(side):
            bit = 1 << column
            if not bit & (down | left | right):
                extend((*columns, column), down | bit, (left | bit) >> 1, (right | bit) << 1)

    extend((), 0, 0, 0)
    return found


def written(columns: tuple[int, ...]) -> str:
    return ", ".join(f"{row} {column}" for row, column in enumerate(columns))


FOUR = item("....", "....", "Q...", "...X")
"""Only the columns 1, 3, 0, 2 complete it."""


@pytest.mark.parametrize(
    "text",
    ["0 1, 1 3, 2 0, 3 2", " 3 2,0 1,2 0,1 3\n", "[0 1, 1 3, 2 0, 3 2]", "0  1 , 1 3 , 2 0 , 3 2"],
)
def test_right_forms(text: str) -> None:
    assert TASK.score(FOUR, text).correct


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 1, 1 3, 2 0", "3 queens, not 4"),
        ("0 1, 1 3, 2 0, 3 2, 3 2", "5 queens"),
        ("0 1, 1 3, 2 0, 2 0", "attack"),
        ("0 1, 1 3, 2 0, 4 2", "outside"),
        ("0 2, 1 0, 2 3, 3 1", "given queen"),
        ("0 1, 1 3, 2 0, 3 3", "blocked"),
        ("0 0, 1 3, 2 0, 3 2", "attack"),
        ("0 2, 1 3, 2 0, 3 1", "attack"),
        ("1 2, 2 4, 3 1, 4 3", "outside"),
        ("(0, 1), (1, 3), (2, 0), (3, 2)", "not a list"),
        ("[[0, 1], [1, 3], [2, 0], [3, 2]]", "not a list"),
        ("0 1, 1 3, 2 0, 3 2,", "not a list"),
        ("0 1, 1 3, 2 0, -1 2", "not a list"),
        ("0 1 1 3 2 0 3 2", "not a list"),
        ("1, 3, 0, 2", "not a list"),
        ("0\n1, 1 3, 2 0, 3 2", "not a list"),
        ("00 1, 1 3, 2 0, 3 2", "not a list"),
    ],
)
def test_wrong_answers_and_why(text: str, reason: str) -> None:
    verdict = TASK.score(FOUR, text)
    assert not verdict.correct and reason in verdict.reason, verdict


def test_exactly_the_fitting_placements_score() -> None:
    known = {side: placements(side) for side in (8, 9)}
    assert [len(found) for found in known.values()] == [92, 352]
    for example in EXAMPLES:
        board = re.findall(r"^[.XQ]+$", example.question, re.MULTILINE)
        right = 0
        for columns in known.get(len(board), ()):
            stand = [board[row][column] for row, column in enumerate(columns)]
            fits = "X" not in stand and stand.count("Q") == "".join(board).count("Q")
            assert TASK.score(example, written(columns)).correct == fits
            right += fits
        assert right or len(board) > 9


def test_no_placement_fits_many_boards() -> None:
    drawn = [TASK.generate(i, 5, 2) for i in range(150)]
    for columns in placements(8):
        assert sum(TASK.score(one, written(columns)).correct for one in drawn) < 0.1 * len(drawn)


def test_any_order_of_the_cells_is_right() -> None:
    rng = random.Random(2)
    for example in EXAMPLES:
        text = gold(example)
        cells = text.split(", ")
        rng.shuffle(cells)
        assert TASK.score(example, f"[{text}]").correct
        assert TASK.score(example, ",".join(cells)).correct
        assert not TASK.score(example, ", ".join(cells[1:])).correct
        assert not TASK.score(example, ", ".join([*cells[1:], cells[1]])).correct


def test_released_boards_without_a_queen(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "eight_queens.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    items = [TASK.parse_released(i, row["question"], row["solution"]) for i, row in enumerate(rows)]
    bare = sum("Q" not in "".join(json.loads(one.example.metadata)["board"]) for one in items)
    assert [bare] == list(RELEASED_REMARKS.values()) == [23]


def test_unreadable_released_items_are_reported() -> None:
    question = "Given a 4*4 grid\n\n0000\n0000\n1000\n000X\n\nReturn"
    found = TASK.parse_released(1, question, {"solution": [[2, 0], [0, 1], [1, 3], [3, 2]]})
    assert found.gold == "2 0, 0 1, 1 3, 3 2" and TASK.score(found.example, found.gold).correct
    assert json.loads(found.example.metadata)["board"] == ["....", "....", "Q...", "...X"]
    broken = [("Hello", {"solution": []}), (question, None), (question, {"solution": [1]})]
    for case in [*broken, (question.replace("0000\n", "", 1), {"solution": []})]:
        with pytest.raises(UserError, match="released item 4 of eight_queens"):
            TASK.parse_released(4, *case)
