"""matrix_transformation: golds against index arithmetic, the scorer against near misses."""

import json
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import matrix_transformation

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = matrix_transformation.MatrixTransformation()
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


# Where the entry at (r, c) of the new matrix stands in the old one, of R rows and C columns.
ORIGIN = {
    "Turn the matrix 90 degrees clockwise": lambda r, c, R, C: (R - 1 - c, r),
    "Turn the matrix 90 degrees anticlockwise": lambda r, c, R, C: (c, C - 1 - r),
    "Turn the matrix by 180 degrees": lambda r, c, R, C: (R - 1 - r, C - 1 - c),
    "Mirror the matrix left to right": lambda r, c, R, C: (r, C - 1 - c),
    "Mirror the matrix top to bottom": lambda r, c, R, C: (R - 1 - r, c),
    "Transpose the matrix": lambda r, c, R, C: (c, r),
}


def solve(question: str) -> str:
    """The answer from the question's text alone, by looking up where every entry comes from."""
    rows = [line.split(" ") for line in question.split("\n\n")[1].split("\n")]
    for line in question.split("\n\n")[2].split("\n"):
        step = re.sub(r"^\d+\. ", "", line).split(":")[0].removesuffix(".")
        if step not in ORIGIN:
            assert step.startswith("Carry out these steps")
            continue
        height, width = len(rows), len(rows[0])
        turned = "90" in step or "Transpose" in step
        shape = (width, height) if turned else (height, width)
        old = {(r, c): rows[r][c] for r in range(height) for c in range(width)}
        rows = [
            [old[ORIGIN[step](r, c, height, width)] for c in range(shape[1])]
            for r in range(shape[0])
        ]
    return ",".join(",".join(row) for row in rows)


@pytest.mark.parametrize(
    ("step", "result"),
    [
        ("clockwise", ["DA", "EB", "FC"]),
        ("anticlockwise", ["CF", "BE", "AD"]),
        ("half", ["FED", "CBA"]),
        ("left_right", ["CBA", "FED"]),
        ("top_bottom", ["DEF", "ABC"]),
        ("transpose", ["AD", "BE", "CF"]),
    ],
)
def test_every_step_by_hand(step: str, result: list[str]) -> None:
    made = matrix_transformation.transform([list("ABC"), list("DEF")], step)
    assert made == [list(row) for row in result]


def test_golds_agree_with_index_arithmetic() -> None:
    for example in examples(40):
        assert gold(example) == solve(example.question)


def by_hand(question_matrix: str, answer: str) -> Example:
    question = f"rotate 90 degrees clockwise\nmatrix is \n{question_matrix}.\nWhat is the result?"
    return TASK.parse_released(0, question, {"formatted_solution": answer}).example


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("J,Q,H,R", True),
        (" J, Q , H,R\n", True),
        ("[J, Q, H, R]", True),
        ("(J,Q,H,R)", True),
        ("['J', \"Q\", 'H', 'R']", True),
        ("J Q H R", False),
        ("JQHR", False),
        ("J,Q,H", False),
        ("J,Q,H,R,", False),
        ("J,Q,H,R,J", False),
        ("R,H,Q,J", False),
        ("Q,R,J,H", False),
        ("j,q,h,r", False),
        ("J,Q;H,R", False),
        ("[J,Q,H,R", False),
        ("[J,Q,H,R)", False),
        ("[[J,Q],[H,R]]", False),
        ("'J,Q,H,R'", True),
        ("J,Q,H,R.", True),
        ("result: J,Q,H,R", False),
        ("J,Q,H,R\nJ,Q,H,R", False),
    ],
)
def test_the_scorer_by_hand(text: str, right: bool) -> None:
    assert correct(by_hand("Q R\nJ H", "J,Q,H,R"), text) is right


def test_symbols_may_be_entries() -> None:
    example = by_hand("& @ %\n@ & *", "@,&,&,@,*,%")
    assert correct(example, "@,&,&,@,*,%")
    assert correct(example, "['@', '&', '&', '@', '*', '%']")
    assert not correct(example, "@,&,&,@,%,*")


def test_the_entries_as_shown_are_wrong() -> None:
    for example in examples(20):
        rows = example.question.split("\n\n")[1].split("\n")
        assert not correct(example, ",".join(",".join(row.split(" ")) for row in rows))
        assert not correct(example, gold(example) + " " * 400)


@pytest.mark.parametrize("level", LEVELS)
def test_matrices_grow_with_the_level(level: int, drawn: Drawn) -> None:
    items = drawn(TASK, level, 450)
    assert "X,Y,Z,1,2,3" not in map(gold, items)
    low, high = {1: (4, 9), 2: (9, 16), 3: (16, 25), 4: (25, 36), 5: (36, 49)}[level]
    assert all(low <= len(json.loads(e.metadata)["entries"]) <= high for e in items)


@pytest.mark.parametrize(
    ("question", "solution"),
    [
        ("no matrix", {"formatted_solution": "A"}),
        ("rotate 90 degrees clockwise\nmatrix is \nA B\nC.\nWhat is the result?", {}),
        ("rotate 90 degrees clockwise\nmatrix is \nA B\nC D.\nWhat is the result?", {}),
        ("rotate 90 degrees clockwise\nmatrix is \nA B\nC D.\nWhat is the result?", "C,A,D,B"),
    ],
)
def test_a_malformed_item_says_so(question: str, solution: object) -> None:
    with pytest.raises(UserError, match="released item 3 of matrix_transformation"):
        TASK.parse_released(3, question, solution)
