"""number_multiply: golds against column multiplication, the scorer against near misses."""

import json
import pathlib
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import number_multiply

type Drawn = Callable[[Task, int, int], list[Example]]

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
        ("-405,000", True),
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
    item = TASK.parse_released(0, "What is the result of 9*-45*-10*-100?", {"answer": "-405000"})
    assert correct(item.example, text) is right


def test_the_product_has_to_be_worked_out() -> None:
    for example in examples(20):
        factors = json.loads(example.metadata)["factors"]
        assert not correct(example, "*".join(map(str, factors)))
        assert not correct(example, str(-int(gold(example))))


@pytest.mark.parametrize("level", LEVELS)
def test_products_grow_with_the_level_and_half_are_negative(level: int, drawn: Drawn) -> None:
    golds = [gold(example) for example in drawn(TASK, level, 450)]
    digits = [len(text.lstrip("-")) for text in golds]
    low, high = {1: (3, 4), 2: (4, 6), 3: (6, 9), 4: (9, 13), 5: (15, 20)}[level]
    assert low <= min(digits) and max(digits) <= high
    assert 0.4 < sum(text[0] == "-" for text in golds) / len(golds) < 0.6


def test_both_forms_of_a_released_answer_are_read(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "number_multiply.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        row = json.loads(line)
        item = TASK.parse_released(number, row["question"], row)
        assert TASK.parse_released(number, row["question"], row["answer"]) == item
        assert not correct(item.example, str(-int(item.gold or "0")))


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
        TASK.parse_released(3, question, solution)
