"""Teacher of game24 (make 24 from numbers)."""

import itertools
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import pick, read, script, step

_NUMBERS: Final = re.compile(r"Make ([0-9]+) out of these [0-9]+ numbers: ([0-9, ]+)\n")

_FORMULA_FORMS: Final = {
    "pairs": """
        from fractions import Fraction

        def $solve(items):
            if len(items) == 1:
                return items[0][1] if items[0][0] == $target else None
            for i in range(len(items)):
                for j in range(len(items)):
                    if i == j:
                        continue
                    (a, x), (b, y) = items[i], items[j]
                    rest = [items[k] for k in range(len(items)) if k not in (i, j)]
                    results = [(a + b, f"({x} + {y})"), (a - b, f"({x} - {y})"),
                               (a * b, f"({x} * {y})")]
                    if b:
                        results.append((a / b, f"({x} / {y})"))
                    for result in results:
                        found = $solve(rest + [result])
                        if found:
                            return found
            return None

        $numbers = $listed
        print($solve([(Fraction(n), str(n)) for n in $numbers]))
    """,
    "subsets": """
        from fractions import Fraction
        from itertools import combinations

        $numbers = $listed
        spots = range(len($numbers))
        values = {(i,): {Fraction($numbers[i]): str($numbers[i])} for i in spots}
        for size in range(2, len($numbers) + 1):
            for group in combinations(spots, size):
                found = values[group] = {}
                for k in range(1, size):
                    for left in combinations(group, k):
                        right = tuple(i for i in group if i not in left)
                        for a, x in values[left].items():
                            for b, y in values[right].items():
                                found.setdefault(a + b, f"({x} + {y})")
                                found.setdefault(a - b, f"({x} - {y})")
                                found.setdefault(a * b, f"({x} * {y})")
                                if b:
                                    found.setdefault(a / b, f"({x} / {y})")
        print(values[tuple(spots)][$target])
    """,
    "stack": """
        from fractions import Fraction

        def $solve(stack, left):
            \"\"\"Push a number or join the two formulas on top of the stack.\"\"\"
            if len(stack) == 1 and not left:
                return stack[0][1] if stack[0][0] == $target else None
            if len(stack) > 1:
                *below, (a, x), (b, y) = stack
                results = [(a + b, f"({x} + {y})"), (a - b, f"({x} - {y})"),
                           (a * b, f"({x} * {y})")]
                if b != 0:
                    results.append((a / b, f"({x} / {y})"))
                for result in results:
                    found = $solve(below + [result], left)
                    if found:
                        return found
            for i, n in enumerate(left):
                found = $solve(stack + [(Fraction(n), str(n))], left[:i] + left[i + 1:])
                if found:
                    return found
            return None

        print($solve([], $listed))
    """,
    "shapes": """
        from fractions import Fraction
        from itertools import permutations, product

        def $solve($numbers):
            shapes = ["(({} {} {}) {} {}) {} {}", "({} {} ({} {} {})) {} {}",
                      "({} {} {}) {} ({} {} {})", "{} {} (({} {} {}) {} {})",
                      "{} {} ({} {} ({} {} {}))"]
            for a, b, c, d in permutations($numbers):
                for p, q, r in product("+-*/", repeat=3):
                    for shape in shapes:
                        formula = shape.format(a, p, b, q, c, r, d)
                        exact = shape.format(*[f"Fraction({n})" if n not in "+-*/" else n
                                               for n in map(str, (a, p, b, q, c, r, d))])
                        try:
                            if eval(exact) == $target:
                                return formula
                        except ZeroDivisionError:
                            pass

        print($solve($listed))
    """,
}
_FORMULA_WORDS: Final = {
    "pairs": "I replace two numbers by their sum, difference, product or quotient until one is "
    "left, with exact fractions, and keep the formula beside each value.",
    "subsets": "For every subset of the numbers I collect the values it can make from two smaller "
    "parts, with exact fractions.",
    "stack": "Formulas in postfix form need no parentheses: a search pushes numbers or joins the "
    "two on top of a stack, with exact fractions.",
    "shapes": "Four numbers can be joined in five shapes of parentheses; I try all orders and "
    "operators in each, with exact fractions.",
}


class Numbers(NamedTuple):
    """The numbers and the target."""

    numbers: tuple[int, ...]
    target: int


class Game24(Teacher[Numbers]):
    """Makes 24 from numbers in any order."""

    task = "game24"
    forms = tuple(_FORMULA_FORMS)

    @override
    def parse(self, question: str) -> Numbers:
        found = read(_NUMBERS, question)
        return Numbers(tuple(map(int, found[2].split(","))), int(found[1]))

    def _fields(self, data: Numbers, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng, solve="solve search combine find_formula", numbers="numbers values given cards"
        )
        return names | {"listed": list(data.numbers), "target": data.target}

    @override
    def step(self, data: Numbers, form: str, rng: random.Random) -> Step:
        count = len(data.numbers)
        if (form == "shapes" and count != 4) or (form == "subsets" and count > 5):
            form = "pairs"
        listed = ", ".join(map(str, data.numbers))
        opening = rng.choice(
            [
                f"{listed} have to give {data.target}, each used once, in any order.",
                f"Which formula of {listed} has the value {data.target}? A search finds one.",
                f"With {count} numbers ({listed}) all formulas can be searched for {data.target}.",
            ]
        )
        return Step(
            words=f"{opening} {_FORMULA_WORDS[form]}",
            code=script(_FORMULA_FORMS[form], **self._fields(data, rng)),
        )

    @override
    def answer(self, data: Numbers, printed: str) -> str:
        text = printed.strip()
        # A pair of parentheses around the whole formula says nothing.
        depth = list(itertools.accumulate((sign == "(") - (sign == ")") for sign in text))
        return text[1:-1] if text[:1] == "(" and 0 not in depth[:-1] else text

    @override
    def check(self, data: Numbers, answer: str, rng: random.Random) -> Step:
        code = """
            import re
            from fractions import Fraction

            formula = "$claim"
            used = sorted(int(n) for n in re.findall(r"[0-9]+", formula))
            value = eval(re.sub(r"([0-9]+)", r"Fraction(\\1)", formula))
            print(value)
            print(used == sorted($listed) and value == $target)
        """
        return step(
            rng,
            [
                "I evaluate the formula exactly and compare the numbers in it with the given ones.",
                f"The formula must use {', '.join(map(str, data.numbers))} once each and give "
                f"{data.target}.",
            ],
            script(code, **self._fields(data, rng) | {"claim": answer}),
        )

    @override
    def small_case(self, data: Numbers, rng: random.Random) -> Step:
        code = """
            from itertools import combinations

            for a, b in combinations($listed, 2):
                print(a, b, "->", a + b, abs(a - b), a * b, f"{max(a, b)}/{min(a, b)}")
        """
        return step(
            rng,
            [
                f"First a look at what pairs of the {len(data.numbers)} numbers give.",
                f"Which pairs come near {data.target} or one of its divisors?",
            ],
            script(code, **self._fields(data, rng)),
        )

    @override
    def first_attempt(self, data: Numbers, rng: random.Random) -> Step | None:
        if len(data.numbers) != 4 or _flat_formula(data):
            return None
        code = """
            from itertools import permutations, product

            for a, b, c, d in permutations($listed):
                for p, q, r in product("+-*/", repeat=3):
                    formula = f"{a} {p} {b} {q} {c} {r} {d}"
                    if eval(formula) == $target:
                        print(formula)
        """
        return Step(
            words=f"I try all orders of the numbers and all operators for {data.target}.",
            code=script(code, **self._fields(data, rng)),
        )

    @override
    def in_words(self, data: Numbers, rng: random.Random) -> tuple[str, str] | None:
        if len(data.numbers) != 4:
            return None
        found = _reduce([(Fraction(number), str(number)) for number in data.numbers], data.target)
        if found is None:
            return None
        steps, formula = found
        opening = rng.choice(
            [
                "I join two numbers at a time:",
                f"Working towards {data.target}:",
                f"From {', '.join(map(str, data.numbers))}:",
            ]
        )
        return f"{opening} {'; '.join(steps)}. Each number is used once.", formula[1:-1]

    @override
    def wrong_answer(self, data: Numbers, answer: str, rng: random.Random) -> str:
        numbers = list(data.numbers)
        rng.shuffle(numbers)
        joined = " + ".join(map(str, numbers))
        return joined if sum(numbers) != data.target else " * ".join(map(str, numbers))


def _flat_formula(data: Numbers) -> bool:
    """Return True if a formula without parentheses gives the target."""
    return any(
        _flat_value(order, signs) == data.target
        for order in itertools.permutations(data.numbers)
        for signs in itertools.product("+-*/", repeat=len(data.numbers) - 1)
    )


def _flat_value(numbers: tuple[int, ...], signs: tuple[str, ...]) -> float:
    """Calculate without parentheses; products and quotients bind more strongly."""
    total, term = 0.0, float(numbers[0])
    for sign, number in zip(signs, numbers[1:], strict=True):
        match sign:
            case "*":
                term *= number
            case "/":
                term /= number
            case _:
                total, term = total + term, float(number if sign == "+" else -number)
    return total + term


Term = tuple[Fraction, str]


def _join(one: Term, other: Term) -> Iterator[tuple[str, Term]]:
    """Yield the results of two terms, each with its calculation in words."""
    (a, x), (b, y) = one, other
    results = [("+", a + b), ("-", a - b), ("*", a * b)]
    if b:
        results.append(("/", a / b))
    for sign, value in results:
        second = f"({b})" if b < 0 or b.denominator > 1 else f"{b}"
        yield f"{a} {sign} {second} = {value}", (value, f"({x} {sign} {y})")


def _reduce(terms: list[Term], target: int) -> tuple[list[str], str] | None:
    """Return the calculations that lead to the target, and the formula."""
    if len(terms) == 1:
        return ([], terms[0][1]) if terms[0][0] == target else None
    for one, other in itertools.permutations(range(len(terms)), 2):
        rest = [term for spot, term in enumerate(terms) if spot not in (one, other)]
        for line, term in _join(terms[one], terms[other]):
            found = _reduce([term, *rest], target)
            if found is not None:
                return [line, *found[0]], found[1]
    return None


TEACHERS: tuple[Teacher[Any], ...] = (Game24(),)
