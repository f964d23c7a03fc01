"""pattern_recognition: golds against a search through all squares, the scorer by hand."""

import itertools
import json
import pathlib
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import pattern_recognition

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = pattern_recognition.PatternRecognition()
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


def squares(rows: list[str]) -> set[frozenset[tuple[int, int]]]:
    """The cells of every filled square that is part of no other, by trying all of them."""
    found: set[frozenset[tuple[int, int]]] = set()
    for top, left in itertools.product(range(len(rows)), range(len(rows[0]))):
        for side in range(3, min(len(rows) - top, len(rows[0]) - left) + 1):
            band = [row[left : left + side] for row in rows[top : top + side]]
            if len(set("".join(band))) != 1:
                break  # a larger one would hold this one
            cells = itertools.product(range(top, top + side), range(left, left + side))
            found.add(frozenset(cells))
    return {cells for cells in found if not any(cells < other for other in found)}


def grid_of(example: Example) -> list[str]:
    return [line.replace(" ", "") for line in example.question.split("\n\n")[1].split("\n")]


def test_golds_agree_with_trying_all_squares() -> None:
    for example in examples(40):
        (only,) = squares(grid_of(example))
        assert gold(example) == "{},{}".format(*max(only))


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        ("XXX XXX XXX", [(2, 2, 3)]),
        ("XXX XXX XXY", []),
        ("XX XX", []),
        ("AXXX AXXX AXXX", [(2, 3, 3)]),
        ("XXXX XXXX XXXX", [(2, 2, 3), (2, 3, 3)]),
        ("XXXX XXXX XXXX XXXX", [(3, 3, 4)]),
        ("XXXX XYYX XYYX XXXX", []),
        ("XXXXX XXXXX XXXXX XXXXX BAAAX", [(3, 3, 4), (3, 4, 4)]),
        ("XXXAA XXXAA XXXXX AAXXX AAXXX", [(2, 2, 3), (4, 4, 3)]),
    ],
)
def test_blocks_by_hand(picture: str, found: list[tuple[int, int, int]]) -> None:
    rows = picture.split()
    assert pattern_recognition.blocks([list(row) for row in rows]) == found
    assert {(*max(cells), round(len(cells) ** 0.5)) for cells in squares(rows)} == set(found)


QUESTION = "If the matrix is\n\n{}\n\nPlease provide the row"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("2,3", True),
        (" 2, 3\n", True),
        ("[2, 3]", True),
        ("(2,3)", True),
        ("2 3", True),
        ("3,2", False),
        ("3,4", False),
        ("2,2", False),
        ("2", False),
        ("2,3,3", False),
        ("2,3\n2,3", False),
        ("row 2, column 3", False),
        ("2;3", False),
        ("[2,3", False),
        ("[[2,3]]", False),
        ("2,3 or 3,3", False),
        ("'2','3'", False),
        ("2.5,3", False),
    ],
)
def test_the_scorer_by_hand(text: str, right: bool) -> None:
    question = QUESTION.format("A X X X\nB X X X\nC X X X\nX X Y X")
    item = TASK.parse_released(0, question, {"row": 2, "column": 3})
    assert correct(item.example, text) is right


@pytest.mark.parametrize("level", LEVELS)
def test_grids_grow_with_the_level(level: int, drawn: Drawn) -> None:
    sides = {len(grid_of(example)) for example in drawn(TASK, level, 300)}
    low, high = {1: (6, 8), 2: (8, 10), 3: (10, 13), 4: (13, 16), 5: (16, 20)}[level]
    assert sides == set(range(low, high + 1))


def test_released_grids_have_one_square(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "pattern_recognition.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        item = TASK.parse_released(number, row["question"], row["solution"])
        assert len(json.loads(item.example.metadata)["corners"]) == 1


@pytest.mark.parametrize(
    ("question", "solution"),
    [
        ("no matrix", {"row": 1, "column": 1}),
        (QUESTION.format("A B\nC"), {"row": 1, "column": 1}),
        (QUESTION.format("A B\nC D"), {"row": 1}),
        (QUESTION.format("A B\nC D"), None),
    ],
)
def test_a_malformed_item_says_so(question: str, solution: object) -> None:
    with pytest.raises(UserError, match="released item 3 of pattern_recognition"):
        TASK.parse_released(3, question, solution)
