"""number_multiply: golds against column multiplication, the scorer against near misses."""

import json
import pathlib
import re
import time

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import number_multiply

TASK = number_multiply.NumberMultiply()
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


def column_product(left: str, right: str) -> str:
    """Multiplication as on paper, digit by digit; both texts are digits only."""
    columns = [0] * (len(left) + len(right))
    for i, x in enumerate(reversed(left)):
        for j, y in enumerate(reversed(right)):
            columns[i + j] += "0123456789".index(x) * "0123456789".index(y)
    for place in range(len(columns) - 1):
        columns[place + 1] += columns[place] // 10
        columns[place] %= 10
    return "".join(map(str, reversed(columns))).lstrip("0")


def solve(question: str) -> str:
    """The answer from the question's text alone."""
    listed = re.findall(r"-?\d+", question.split(":")[1].split(".")[0])
    product = "1"
    for factor in listed:
        product = column_product(product, factor.lstrip("-"))
    return "-" * (sum(factor[0] == "-" for factor in listed) % 2) + product


def test_golds_agree_with_multiplication_on_paper() -> None:
    assert column_product("99", "12") == "1188"
    for example in examples(40):
        assert gold(example) == solve(example.question)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("-405000", True),
        (" -405000\n", True),
        ("-405000.0", True),
        ("405000", False),
        ("+405000", False),
        ("-405001", False),
        ("-405,000", False),
        ("-405 000", False),
        ("-4.05e5", False),
        ("-405000.5", False),
        ("- 405000", False),
        ("[-405000]", False),
        ("4050*-100", False),
        ("-405000 or 405000", False),
        ("-405000\n-405000", False),
        ("the product is -405000", False),
    ],
)
def test_the_scorer_by_hand(text: str, right: bool) -> None:
    item = TASK.released(0, "What is the result of 9*-45*-10*-100?", {"answer": "-405000"})
    assert correct(item.example, text) is right


def test_golds_score_and_cheap_answers_do_not() -> None:
    items = examples(20)
    golds = [gold(example) for example in items]
    for i, example in enumerate(items):
        mine, other = golds[i], golds[(i + 1) % len(golds)]
        assert correct(example, mine) and correct(example, f" {mine}\n")
        factors = json.loads(example.metadata)["factors"]
        unsolved = "*".join(map(str, factors))
        cheap = ("", "0", "None", example.question, unsolved, f"{mine}\n{mine}", f"{mine}\n1")
        for text in (*cheap, f"{mine} or {other}", f"{mine}\n{mine}1", f"{mine} or 1", "-24"):
            assert not correct(example, text)
        assert correct(example, other) is (other == mine)


@pytest.mark.parametrize("level", LEVELS)
def test_levels_grow_and_hold_many_questions(level: int) -> None:
    drawn = [TASK.generate(i, 0, level) for i in range(500)]
    assert len({example.question for example in drawn}) >= 480
    golds = [gold(example) for example in drawn]
    assert max(map(golds.count, golds)) <= 5
    digits = [len(text.lstrip("-")) for text in golds]
    low, high = {1: (3, 4), 2: (4, 6), 3: (6, 9), 4: (9, 13), 5: (15, 20)}[level]
    assert low <= min(digits) and max(digits) <= high
    assert 0.4 < sum(text[0] == "-" for text in golds) / len(golds) < 0.6
    assert drawn[7] == TASK.generate(7, 0, level) != TASK.generate(7, 1, level)


def test_hostile_answers_are_wrong_at_once() -> None:
    example = TASK.generate(0, 0, 5)
    start = time.perf_counter()
    for text in (
        "9" * 10_000_000,
        "9" * 400,
        "[" * 10_000_000,
        "9**9**9**9",
        '__import__("os").system("true")',
        "\0",
        "٣",
        "nan",
        "inf",
        "--1",
        "(" * 200 + ")" * 200,
    ):
        assert not correct(example, text)
    assert time.perf_counter() - start < 0.5


def test_released_items(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "number_multiply.jsonl").read_text().splitlines()
    scored = 0
    for number, line in enumerate(lines):
        row = json.loads(line)
        item = TASK.released(number, row["question"], row)
        assert item.gold is not None
        scored += correct(item.example, item.gold)
        assert TASK.released(number, row["question"], row["answer"]) == item
        assert not correct(item.example, str(-int(item.gold)))
    assert (len(lines), scored) == (150, 150)
    assert sum(number_multiply.RELEASED_DEFECTS.values()) == 0


@pytest.mark.parametrize(
    ("question", "solution"),
    [
        ("What is 2 times 3?", "6"),
        ("What is the result of 2*3?", None),
        ("What is the result of 2*3?", {"values": [2, 3]}),
        ("What is the result of 2*3?", "six"),
    ],
)
def test_a_malformed_item_says_so(question: str, solution: object) -> None:
    with pytest.raises(UserError, match="released item 3 of number_multiply"):
        TASK.released(3, question, solution)
