"""pooling: golds against a cell-by-cell count from the question's text, the scorer by hand."""

import json
import pathlib
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import pooling

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = pooling.Pooling()
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


def solve(question: str) -> list[float]:
    """The values from the question's text: each cell is handed to every window that covers it."""
    rows = [[int(n) for n in line.split(", ")] for line in question.split("\n\n")[1].split("\n")]
    window = int(re.findall(r"covers (\d+) rows", question)[0])
    step = {"one": 1, "2": 2}[re.findall(r"right by (\w+) cell", question)[0]]
    covered: dict[tuple[int, int], list[int]] = {}
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            for top in range(max(0, r - window + 1), r + 1):
                for left in range(max(0, c - window + 1), c + 1):
                    if top % step == 0 and left % step == 0:
                        covered.setdefault((top, left), []).append(value)
    whole = [covered[place] for place in sorted(covered) if len(covered[place]) == window**2]
    if "take the largest number" in question:
        return [float(sorted(cells)[-1]) for cells in whole]
    assert "take the average" in question
    return [sum(cells) / len(cells) for cells in whole]


def test_golds_agree_with_a_count_cell_by_cell() -> None:
    seen: set[tuple[int, int, str]] = set()
    for example in examples(40):
        values = solve(example.question)
        given = [float(part) for part in gold(example).split(",")]
        assert len(values) == len(given) >= 4
        assert all(abs(x - y) <= 0.005 + 1e-9 for x, y in zip(values, given, strict=True))
        # What a program prints, in full, is right too.
        assert correct(example, str(values)) and correct(example, ",".join(map(str, values)))
        drawn = json.loads(example.metadata)
        seen.add((drawn["window"], drawn["stride"], drawn["kind"]))
    assert len(seen) == 12  # windows 2 to 4, strides 1 and 2, both kinds


def by_hand(kind: str) -> Example:
    grid = "-1, 7, 20\n6, 16, -4\n9, 13, 7"
    text = f"perform {kind} pooling by using a 2*2 sliding window:\n{grid}\nFor example, 0"
    return TASK.parse_released(0, text, {"solution": [[0]]}).example


@pytest.mark.parametrize(
    ("kind", "text", "right"),
    [
        ("max", "16,20,16,16", True),
        ("max", " [16, 20,16 , 16]\n", True),
        ("max", "(16,20,16,16)", True),
        ("max", "16.0,20.0,16.0,16.0", True),
        ("max", "16,20,16", False),
        ("max", "16,20,16,16,16", False),
        ("max", "16,20,16,15", False),
        ("max", "20,16,16,16", False),
        ("max", "16 20 16 16", False),
        ("max", "[[16,20],[16,16]]", False),
        ("max", "16,20,16,16\n16", False),
        ("max", "16,20,16,16.", True),
        ("max", "16,20,16,16,", False),
        ("max", "'16','20','16','16'", False),
        ("max", "16,20,16,1.6e1", False),
        ("max", "7,9.75,11,8", False),
        ("average", "7,9.75,11,8", True),
        ("average", "7.0,9.750,11.00,+8", True),
        ("average", "7,9.8,11,8", False),
        ("average", "7,10,11,8", False),
        ("average", "7,39/4,11,8", False),
        ("average", "7,9.76,11,8", False),
        ("average", "7,9.751,11,8", False),
        ("average", "16,20,16,16", False),
    ],
)
def test_the_scorer_by_hand(kind: str, text: str, right: bool) -> None:
    assert correct(by_hand(kind), text) is right


@pytest.mark.parametrize("level", LEVELS)
def test_grids_grow_and_half_ask_for_averages(level: int, drawn: Drawn) -> None:
    items = [json.loads(example.metadata) for example in drawn(TASK, level, 450)]
    sizes = {len(one["grid"]) for one in items}
    assert sizes == {1: {3, 4}, 2: {4, 5}, 3: {5, 6}, 4: {6, 7}, 5: {8, 9}}[level]
    averages = sum(one["kind"] == "average" for one in items)
    assert averages == 0 if level == 1 else 180 < averages < 270


def test_released_grids_are_read_and_half_ask_for_averages(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "pooling.jsonl").read_text().splitlines()
    averages = 0
    for number, line in enumerate(lines):
        row = json.loads(line)
        item = TASK.parse_released(number, row["question"], row["solution"])
        averages += row["solution"]["pooling_type"] == "average" and "." in (item.gold or "")
        assert json.loads(item.example.metadata)["grid"] == row["solution"]["matrix"]
        assert not correct(item.example, "0,0,0,0")
    assert averages == 50


ITEM = "perform max pooling by using a 2*2 sliding window:\n{}\nFor example, 0"


@pytest.mark.parametrize(
    ("question", "solution"),
    [
        ("no grid", {"solution": [[1]]}),
        (ITEM.format("1, 2\n3"), {"solution": [[1]]}),
        (ITEM.format("1, x\n3, 4"), {"solution": [[1]]}),
        (ITEM.format("1, 2\n3, 4"), {"solution": 4}),
        (ITEM.format("1, 2\n3, 4"), {"solution": [4]}),
        (ITEM.format("1, 2\n3, 4"), None),
    ],
)
def test_a_malformed_item_says_so(question: str, solution: object) -> None:
    with pytest.raises(UserError, match="released item 3 of pooling"):
        TASK.parse_released(3, question, solution)
