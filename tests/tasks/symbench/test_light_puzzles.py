"""Light puzzles: the panel after the presses, against parities counted light by light."""

import collections
import json
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import check
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import light_puzzles

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = light_puzzles.LightPuzzles()


def panel(*lights: int) -> Example:
    example = TASK.generate(0, 0, 1)
    metadata = json.dumps({"lights": lights})
    return Example(
        id="x", task=TASK.name, question=example.question, answer="", difficulty=1,
        metadata=metadata,
    )  # fmt: skip


def test_presses_switch_their_lights_only() -> None:
    buttons = {"A": [(1, 1), (2, 2)], "B": [(1, 2), (2, 2)]}
    assert light_puzzles.press(["01", "10"], buttons, "A") == [1, 1, 1, 1]
    assert light_puzzles.press(["01", "10"], buttons, "AB") == [1, 0, 1, 0]
    assert light_puzzles.press(["01", "10"], buttons, "AA") == [0, 1, 1, 0]
    assert light_puzzles.press(["001"], {"A": [(1, 3)]}, "A") == [0, 0, 0]


@pytest.mark.parametrize("text", ["0,1,1,0", " 0, 1, 1, 0\n", "[0, 1, 1, 0]", "0 1 1 0"])
def test_right_answers(text: str) -> None:
    assert TASK.score(panel(0, 1, 1, 0), text).correct


@pytest.mark.parametrize(
    "text",
    [
        "0,1,1,1",
        "0,1,1",
        "0,1,1,0,0",
        "0110",
        "0,1,1,2",
        "0,1,1,-1",
        "0,1,1,off",
        "0,1;1,0",
        "[0,1,1,0",
        "[[0,1],[1,0]]",
        "0,1,1,0\n0,1,1,0",
        "0,1,1,0 or 1,1,1,0",
        "lights: 0,1,1,0",
    ],
)
def test_wrong_answers(text: str) -> None:
    assert not TASK.score(panel(0, 1, 1, 0), text).correct


def by_parity(question: str) -> str:
    """Each light by itself: it ends as it began, switched once per press of a button on it."""
    head, _, tail = question.partition("\n\n")
    rows = head.split("\n")[1:]
    wiring = {
        name: {tuple(map(int, cell)) for cell in re.findall(r"\((\d+), (\d+)\)", cells)}
        for name, cells in re.findall(r"^Button ([A-Z]): (.+)$", tail, re.MULTILINE)
    }
    order = re.search(r"in this order: ([A-Z, ]+)\.", tail)
    assert order is not None
    presses = collections.Counter(order[1].split(", "))
    return ",".join(
        str((int(light) + sum(presses[n] for n in wiring if (r, c) in wiring[n])) % 2)
        for r, row in enumerate(rows, 1)
        for c, light in enumerate(row, 1)
    )


def test_golds_agree_with_parities_read_from_the_question() -> None:
    for example in check.sample_examples(TASK, 3, 100):
        assert TASK.gold(example) == by_parity(example.question)


def test_the_panel_at_the_start_and_a_dark_one_are_wrong(drawn: Drawn) -> None:
    for example in (one for level in TASK.difficulties for one in drawn(TASK, level, 20)):
        start = re.sub(r"\s", "", example.question.split("\n\n")[0].partition(":")[2])
        dark = ",".join("0" * len(start))
        assert not TASK.score(example, ",".join(start)).correct
        assert dark == TASK.gold(example) or not TASK.score(example, dark).correct


def test_panels_grow_with_the_level() -> None:
    metadata = [json.loads(TASK.generate(0, 0, level).metadata) for level in TASK.difficulties]
    assert [len(drawn["lights"]) for drawn in metadata] == [9, 16, 25, 36, 49]


def test_malformed_items_are_reported() -> None:
    grid = "Given n=2 and the number of buttons=1, the initial network is:\n01\n10\n\n"
    wires = 'Button A controls the lights at ["2", "1"]\n\n'
    good = f"{grid}{wires}Round 1: Button A\n"
    assert TASK.parse_released(7, good, {"solution": [0, 1, 0, 0]}).gold == "0,1,0,0"
    for question, solution in (
        ("", {"solution": [0]}),
        (good, None),
        (good, {"solution": "0"}),
        (good.replace("Round 1: Button A", "Round 1: Button B"), {"solution": [0]}),
        (good.replace('"2"', '"3"'), {"solution": [0]}),
        (good.replace("n=2", "n=3"), {"solution": [0]}),
    ):
        with pytest.raises(UserError, match="released item 7 of light_puzzles"):
            TASK.parse_released(7, question, solution)
