"""Toy tasks: golds against independent computation, scorers against near misses."""

import ast
import itertools
import json
import operator
import random

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base, registry
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.toy.toy_task import ToyTask

TOYS = registry.names(suite="toy")


def examples(name: str, count: int = 20, seed: int = 5) -> list[Example]:
    task = registry.get(name)
    return [task.generate(i, seed, level) for level in task.difficulties for i in range(count)]


def toy(name: str) -> ToyTask:
    task = registry.get(name)
    assert isinstance(task, ToyTask)
    return task


_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def _walk(node: ast.expr) -> int:
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_walk(node.left), _walk(node.right))
    assert isinstance(node, ast.Constant)
    return int(str(node.value))


def solve(example: Example) -> str:
    """The answer from the question's text alone, by other means than the generator's."""
    words = example.question.rstrip(".?").split()
    match example.task:
        case "toy_arithmetic":
            return str(_walk(ast.parse(words[1], mode="eval").body))
        case "toy_letters":
            letter, word = words[2].strip("'"), words[4].strip("'")
            return str(len(word) - len(word.replace(letter, "")))
        case "toy_sorting":
            numbers = [int(n) for n in words[1].strip("[]").split(",")]
            ordered: list[int] = []
            while numbers:
                ordered.append(min(numbers))
                numbers.remove(ordered[-1])
            return " ".join(map(str, ordered))
        case "toy_gcd_lcm":
            a, b = int(words[2]), int(words[4])
            x, y = a, b
            while y:
                x, y = y, x % y
            return str(x if words[0] == "gcd" else a * b // x)
        case "toy_base_conversion":
            number, target = int(words[1]), int(words[4])
            places = next(n for n in itertools.count() if target**n > number)
            return "".join(str(number // target**p % target) for p in reversed(range(places)))
        case "toy_search":
            left, rest = words[3].split("==")
            factor, modulus = left.removeprefix("x*").split("%")
            fits = [x for x in range(int(modulus)) if x * int(factor) % int(modulus) == int(rest)]
            assert len(fits) == 1
            return str(fits[0])
    raise AssertionError(example.task)


@pytest.mark.parametrize("name", TOYS)
def test_golds_agree_with_an_independent_solver(name: str) -> None:
    task = registry.get(name)
    for example in examples(name):
        assert task.gold(example) == solve(example), example
        assert task.score(example, solve(example)).correct


@pytest.mark.parametrize("name", TOYS)
def test_wrong_and_hostile_answers_score_wrong(name: str) -> None:
    task = toy(name)
    hostile = (
        "",
        " ",
        "0",
        "None",
        "nan",
        "__import__('os')",
        "9**9**9",
        "[" * 10_000,
        "1" * 10**6,
    )
    for example in examples(name):
        gold = task.gold(example)
        worked = task.reference_solution(example, random.Random(1))
        near = (f"{gold}?", f"{gold} {gold}", f"{gold}\n7", f"about {gold}", f"{gold};", f"{gold}²")
        for text in (*hostile, *near, worked.wrong_answer, example.question, worked.code):
            verdict = task.score(example, text)
            assert not verdict.correct, (example, text)
            assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("toy_arithmetic", [" {}\n", "{}.0", "+{}"], ["{}.5", "{},", "={}"]),
        ("toy_letters", ["\t{} ", "'{}'", "**{}**."], ["'{}", "{}' or '", "{}!"]),
        ("toy_base_conversion", ["00{}", " {}\n"], ["{}.0", "-{}", "0b{}"]),
    ],
)
def test_accepted_forms(name: str, right: list[str], wrong: list[str]) -> None:
    task = registry.get(name)
    for example in examples(name, 10):
        gold = task.gold(example)
        if gold is not None and not gold.startswith("-"):
            assert all(task.score(example, form.format(gold)).correct for form in right)
            assert not any(task.score(example, form.format(gold)).correct for form in wrong)


def test_sorting_accepts_every_way_to_write_a_list() -> None:
    task = registry.get("toy_sorting")
    for example in examples("toy_sorting", 10):
        numbers = sorted(json.loads(example.metadata)["numbers"])
        for text in (
            str(numbers),
            ",".join(map(str, numbers)),
            f"( {' '.join(map(str, numbers))} )",
        ):
            assert task.score(example, text).correct
        for rows in (numbers[::-1], numbers[:-1], [*numbers, numbers[-1]]):
            assert not task.score(example, str(rows)).correct
        assert not task.score(example, str(numbers).replace("]", ")")).correct


def test_search_accepts_every_solution() -> None:
    task = registry.get("toy_search")
    for example in examples("toy_search", 10):
        modulus = json.loads(example.metadata)["modulus"]
        x = json.loads(example.answer)
        assert task.score(example, str(x + 3 * modulus)).correct
        assert task.score(example, str(x - modulus)).correct
        others = [y for y in range(modulus) if y != x]
        assert not any(task.score(example, str(y)).correct for y in others)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("difficulty", [1, 2, 3, 4, 5])
def test_every_level_has_enough_short_questions(name: str, difficulty: int) -> None:
    task = registry.get(name)
    drawn = {task.generate(i, 0, difficulty).question for i in range(8_000)}
    assert len(drawn) >= 2_000
    assert max(map(len, drawn)) <= 48


def test_seeds_share_no_run_of_questions() -> None:
    task: Task = registry.get("toy_search")
    first = {task.generate(i, 0, 3).question for i in range(200)}
    second = {task.generate(i, 1, 3).question for i in range(200)}
    assert len(first & second) < 10


def test_registry_reports_unknown_names() -> None:
    with pytest.raises(UserError, match="did you mean toy_sorting"):
        registry.get("toy_sort")
    with pytest.raises(UserError, match="unknown suite 'toys'; there are: toy"):
        registry.names(suite="toys")
    assert len(TOYS) == 6 == len(set(TOYS))
    assert set(TOYS) <= set(registry.names())


def test_normalised_ignores_case_and_space() -> None:
    assert base.normalize_question("  How\nMANY  x? ") == base.normalize_question("how many x?")
    assert base.normalize_question("a b") != base.normalize_question("ab")
