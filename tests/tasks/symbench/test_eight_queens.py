"""Eight queens: boards to complete, against all placements found with bit masks."""

import json
import pathlib
import random
import re
import time

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench.eight_queens import RELEASED_DEFECTS, RELEASED_REMARKS, EightQueens

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


def test_only_right_answers_score() -> None:
    rng = random.Random(2)
    for position, example in enumerate(EXAMPLES):
        text = gold(example)
        cells = text.split(", ")
        rng.shuffle(cells)
        for form in (text, f" {text}\n", f"[{text}]", ",".join(cells)):
            assert TASK.score(example, form).correct
        missing, doubled = ", ".join(cells[1:]), ", ".join([*cells[1:], cells[1]])
        other = gold(EXAMPLES[(position + 20) % len(EXAMPLES)])  # a board of another level
        near = (f"{text}\n7", f"{text}\n{text}1", f"{text} or 1", f"{text}.", f"<{text}>")
        wrongs = (*near, missing, doubled, "", "0", "None", example.question)
        for wrong in (*wrongs, *([other] if len(other) != len(text) else [])):
            verdict = TASK.score(example, wrong)
            assert not verdict.correct, (wrong, text)
            assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120


def test_hostile_answers_are_wrong_at_once() -> None:
    started = time.perf_counter()
    many, wide = ", ".join(["0 1"] * 80), "9" * 399
    for text in ("1" * 10**7, "[" * 10**6, many, wide, "9**9**9**9", "__import__('os')", "² 1"):
        assert not TASK.score(EXAMPLES[0], text).correct
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("level", "drawings", "least"), [(1, 410, 400), (2, 410, 400), (5, 20, 20)]
)
def test_levels_have_enough_different_questions_and_answers(
    level: int, drawings: int, least: int
) -> None:
    drawn = [TASK.generate(i, 0, level) for i in range(drawings)]
    assert len({base.normalised(example.question) for example in drawn}) >= least
    golds = [gold(example) for example in drawn]
    assert max(map(golds.count, golds)) <= max(1, drawings // 20)


def test_released_sample(shared_data: pathlib.Path) -> None:
    scored = bare = 0
    lines = (shared_data / "symbench" / "eight_queens.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        found = TASK.released(number, row["question"], row["solution"])
        assert found.gold is not None
        scored += TASK.score(found.example, found.gold).correct
        bare += "Q" not in "".join(json.loads(found.example.metadata)["board"])
    assert (len(lines), scored, sum(RELEASED_DEFECTS.values())) == (75, 75, 0)
    assert [bare] == list(RELEASED_REMARKS.values()) == [23]


def test_unreadable_released_items_are_reported() -> None:
    question = "Given a 4*4 grid\n\n0000\n0000\n1000\n000X\n\nReturn"
    found = TASK.released(1, question, {"solution": [[2, 0], [0, 1], [1, 3], [3, 2]]})
    assert found.gold == "2 0, 0 1, 1 3, 3 2" and TASK.score(found.example, found.gold).correct
    assert json.loads(found.example.metadata)["board"] == ["....", "....", "Q...", "...X"]
    broken = [("Hello", {"solution": []}), (question, None), (question, {"solution": [1]})]
    for case in [*broken, (question.replace("0000\n", "", 1), {"solution": []})]:
        with pytest.raises(UserError, match="released item 4 of eight_queens"):
            TASK.released(4, *case)
