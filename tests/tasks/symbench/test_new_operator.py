"""new_operator: golds against term rewriting of the question's text, the scorer by hand."""

import ast
import json
import pathlib
import re
from collections.abc import Callable
from fractions import Fraction

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import new_operator

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = new_operator.NewOperator()
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


def formula_value(node: ast.expr, values: dict[str, Fraction]) -> Fraction:
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    assert isinstance(node, ast.BinOp)
    left, right = formula_value(node.left, values), formula_value(node.right, values)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    if isinstance(node.op, ast.Mult):
        return left * right
    assert isinstance(node.op, ast.Div)
    return left / right


def solve(question: str) -> Fraction:
    """Rewrite the expression of the text: a bracketed number is that number, the first operation
    of an innermost bracket is its value. Numbers are written as <numerator/denominator>."""
    formulas = dict(re.findall(r"^a (\S) b = (.+)$", question, re.MULTILINE))
    text = re.findall(r"^Calculate (.+)$", question, re.MULTILINE)[0].replace(" ", "")
    text = re.sub(r"\d+", r"<\g<0>>", text)
    while re.fullmatch(r"<[^<>]*>", text) is None:
        text = re.sub(r"\((<[^<>]*>)\)", r"\1", text)
        # An operation comes first when a bracket or the start is left of it.
        found = re.search(r"(?:^|(?<=\())<([^<>]*)>([^<>()])<([^<>]*)>", text)
        if found is not None:
            pair = {"a": Fraction(found[1]), "b": Fraction(found[3])}
            value = formula_value(ast.parse(formulas[found[2]], mode="eval").body, pair)
            text = f"{text[: found.start()]}<{value}>{text[found.end() :]}"
    return Fraction(text[1:-1])


def test_golds_agree_with_term_rewriting() -> None:
    for example in examples(60):
        value = solve(example.question)
        assert Fraction(gold(example)) == value
        assert 0.1 <= abs(value) <= 1_000_000
        # What a program that works with floats prints is right too.
        assert correct(example, repr(float(value)))
        assert correct(example, f"{float(value):.3f}")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 # 4", 14),
        ("4#3", 13),
        ("3 # 4 @ 5", 140),
        ("3 @ 4 # 5", 58),
        ("3 @ (4 # 5)", 108),
        ("(3 @ 4) # 5", 58),
        ("((3)) # (4)", 14),
        ("6 & 4", "5/2"),
        ("6 & 4 & 5", "3/2"),
        ("6 & (4 & 5)", "13/3"),
        ("6 % 4", 4),
        ("6 ~ 4", 20),
        ("7", 7),
    ],
)
def test_values_by_hand(expression: str, value: int | str) -> None:
    operators = {
        "#": new_operator.Operator(form="sum", p=2, q=2),
        "@": new_operator.Operator(form="product", p=2),
        "&": new_operator.Operator(form="ratio"),
        "%": new_operator.Operator(form="difference", p=2, q=2),
        "~": new_operator.Operator(form="mixed", p=2, q=2),
    }
    if expression == "4#3":
        operators["#"] = new_operator.Operator(form="sum", p=1, q=3)
    assert new_operator.evaluate(expression, operators) == Fraction(value)


@pytest.mark.parametrize("expression", ["", "3 #", "(3 # 4", "3)", "3 4", "3 $ 4", "3 x 4", "-3"])
def test_what_is_no_expression(expression: str) -> None:
    with pytest.raises(ValueError):
        new_operator.evaluate(expression, {"#": new_operator.Operator(form="product")})
    with pytest.raises(ValueError, match="too long"):
        new_operator.evaluate("(" * 10_000, {})


ITEM = "Let a and b be numbers. Define a#b to be (a + b)/b.\nCalculate {}.\nReturn it"


@pytest.mark.parametrize(
    ("expression", "text", "right"),
    [
        ("8#4", "3", True),
        ("8#4", " +3.0\n", True),
        ("8#4", "3/1", True),
        ("8#4", "9/3", True),
        ("8#4", "3.0001", False),
        ("8#4", "3.1", False),
        ("8#4", "-3", False),
        ("8#4", "3 or 4", False),
        ("8#4", "3\n3", False),
        ("8#4", "[3]", False),
        ("8#4", "= 3", False),
        ("8#4", "3.", True),
        ("8#4", "3/0", False),
        ("8#4", "2+1", False),
        ("5#6", "11/6", True),
        ("5#6", "22/12", True),
        ("5#6", "1.833", True),
        ("5#6", "1.8333333333333333", True),
        ("5#6", "1.83", False),
        ("5#6", "1.834", False),
        ("5#6", "1.832", False),
        ("5#6", "1 5/6", False),
        ("5#6", "11 / 6", False),
        ("5#6", "-11/-6", False),
        ("5#6", "1.833e0", False),
        ("5#6", "1.833/1", False),
        ("1#8", "1.125", True),
        ("1#2", "1.5", True),
        ("3#4", "1.75", True),
        ("3#4", "1.8", False),
    ],
)
def test_the_scorer_by_hand(expression: str, text: str, right: bool) -> None:
    item = TASK.parse_released(0, ITEM.format(expression), {"solution": 0})
    assert correct(item.example, text) is right


@pytest.mark.parametrize("level", LEVELS)
def test_expressions_grow_with_the_level(level: int, drawn: Drawn) -> None:
    operators, operations = {1: (1, 2), 2: (2, 3), 3: (3, 4), 4: (3, 6), 5: (4, 8)}[level]
    for example in drawn(TASK, level, 450):
        assert len(re.findall(r"^a \S b = ", example.question, re.MULTILINE)) == operators
        asked = re.findall(r"^Calculate (.+)$", example.question, re.MULTILINE)[0]
        assert len(re.findall(r"[#@$&%~]", asked)) == operations


def test_released_items(shared_data: pathlib.Path) -> None:
    """A gold that is wrong is one of two: the last operation alone, or all but the last."""
    lines = (shared_data / "symbench" / "new_operator.jsonl").read_text().splitlines()
    scored = defects = 0
    for number, line in enumerate(lines):
        row = json.loads(line)
        item = TASK.parse_released(number, row["question"], row["solution"])
        assert item.gold is not None
        if correct(item.example, item.gold):
            scored += 1
            continue
        asked = re.findall(r"Calculate (\(3.4\).5)(.6)\.", row["question"])[0]
        partial = [
            TASK.parse_released(
                number,
                re.sub("Calculate .*", f"Calculate {text}.", row["question"]),
                row["solution"],
            )
            for text in (asked[0], f"5{asked[1]}")
        ]
        defects += any(correct(other.example, item.gold) for other in partial)
    assert (len(lines), scored, defects) == (100, 1, 99)
    assert sum(new_operator.RELEASED_DEFECTS.values()) == defects


def test_the_other_half_of_the_release_is_read() -> None:
    """The sample holds none of its items with one operator."""
    item = TASK.parse_released(1, ITEM.format("(9#3)#8"), {"solution": 1.5})
    assert item.gold == "1.5" and correct(item.example, item.gold)


@pytest.mark.parametrize(
    ("question", "solution"),
    [
        ("Calculate 3#4.\n", {"solution": 1}),
        (ITEM.format("3#4"), {"solution": "1"}),
        (ITEM.format("3#4"), None),
        (ITEM.format("3@4"), {"solution": 1}),
        (ITEM.format("3#0"), {"solution": 1}),
        ("Define a#b to be a**b.\nCalculate 3#4.\n", {"solution": 1}),
    ],
)
def test_a_malformed_item_says_so(question: str, solution: object) -> None:
    with pytest.raises(UserError, match="released item 3 of new_operator"):
        TASK.parse_released(3, question, solution)
