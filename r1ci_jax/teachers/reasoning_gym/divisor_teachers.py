"""Teachers of divisors: fractions in lowest terms, greatest common divisors, prime factors."""

import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, join_words, read

Numbers = tuple[int, ...]


class FractionSimplification(TemplateTeacher[tuple[str, int, int]]):
    """Reduces a fraction and writes it as the question does."""

    task = "rg_fraction_simplification"
    forms = ("gcd", "fractions", "primes", "euclid")
    names: ClassVar = {
        "a b": ("num den", "top bottom", "numerator denominator", "p q"),
    }
    scripts: ClassVar = {
        "gcd": """
        from math import gcd

        $a, $b = $top, $low
        common = gcd($a, $b)
        print($a // common, $b // common)
        """,
        "fractions": """
        from fractions import Fraction

        reduced = Fraction($top, $low)
        print(reduced.numerator, reduced.denominator)
        """,
        "primes": """
        $a, $b = $top, $low
        factor = 2
        while factor <= min($a, $b):
            if $a % factor == 0 and $b % factor == 0:
                $a //= factor
                $b //= factor
            else:
                factor += 1
        print($a, $b)
        """,
        "euclid": """
        $a, $b = $top, $low
        x, y = $a, $b
        while y:
            x, y = y, x % y
        print($a // x, $b // x)
        """,
    }
    methods: ClassVar = {
        "gcd": "Dividing both by their greatest common divisor gives the lowest terms.",
        "fractions": "Python's Fraction reduces on construction.",
        "primes": "I cancel common factors from 2 upward, each as often as it divides both.",
        "euclid": "Euclid's remainders end at the greatest common divisor, which I divide out.",
    }
    checking = (
        (
            "The value must be the same by cross multiplication, and no common factor may be left.",
            "I test that $x/$y has the value of $top/$low and that the parts are coprime.",
        ),
        """
        from math import gcd

        $a, $b = $x, $y
        print($top * $b == $low * $a and gcd($a, $b) == 1)
        """,
    )
    slip = (
        (
            "I divide $top and $low by every small prime that divides both.",
            "Small primes are the likely common factors of $top and $low.",
            "Trying 2, 3, 5 and 7 should reduce $top/$low.",
        ),
        """
        $a, $b = $top, $low
        for prime in (2, 3, 5, 7):
            if $a % prime == 0 and $b % prime == 0:
                $a, $b = $a // prime, $b // prime
        print($a, $b)
        """,
    )

    @override
    def parse(self, question: str) -> tuple[str, int, int]:
        found = read(r"Simplify the fraction (\S+) to its lowest", question)[1]
        top, low = map(int, re.findall(r"\d+", found))
        return found, top, low

    @override
    def values(self, data: tuple[str, int, int], rng: random.Random) -> Mapping[str, object]:
        return {"top": data[1], "low": data[2]}

    @override
    def answer_values(self, data: tuple[str, int, int], answer: str) -> Mapping[str, object]:
        x, y = re.findall(r"\d+", answer)
        return {"x": x, "y": y}

    @override
    def openings(self, data: tuple[str, int, int]) -> Sequence[str]:
        _, top, low = data
        return (
            f"{top}/{low} is to be reduced.",
            f"The numerator is {top} and the denominator {low}.",
            f"I need the lowest terms of {top} over {low}, in the notation of the question.",
        )

    @override
    def answer(self, data: tuple[str, int, int], printed: str) -> str:
        parts = iter(printed.split()[-2:])
        return re.sub(r"\d+", lambda _: next(parts), data[0])

    @override
    def first_attempt(self, data: tuple[str, int, int], rng: random.Random) -> Step | None:
        common = math.gcd(data[1], data[2])
        return None if 210 % common == 0 else super().first_attempt(data, rng)

    @override
    def in_words(self, data: tuple[str, int, int], rng: random.Random) -> tuple[str, str]:
        _, top, low = data
        lines, common = _euclid(low, top)
        words = f"Euclid's algorithm finds the common divisor: {lines}. It is {common}"
        if common == 1:
            return f"{words}, so nothing can be canceled.", data[0]
        words += f", and {top} / {common} = {top // common}, {low} / {common} = {low // common}."
        return words, self.answer(data, f"{top // common} {low // common}")

    @override
    def wrong_answer(
        self, data: tuple[str, int, int], answer: str, rng: random.Random
    ) -> str | None:
        _, top, low = data
        divisor = next((p for p in (2, 3, 5, 7) if top % p == low % p == 0), None)
        if divisor is None or divisor == math.gcd(top, low):
            return None
        return self.answer(data, f"{top // divisor} {low // divisor}")


def _euclid(a: int, b: int) -> tuple[str, int]:
    """Return the lines of Euclid's algorithm and the greatest common divisor."""
    lines: list[str] = []
    while b:
        lines.append(f"{a} = {a // b} * {b} + {a % b}")
        a, b = b, a % b
    return ", ".join(lines), a


class GreatestCommonDivisor(TemplateTeacher[Numbers]):
    """Finds the greatest common divisor of some numbers."""

    task = "rg_gcd"
    forms = ("math", "euclid", "divisors", "prime_powers")
    names: ClassVar = {"numbers": ("numbers", "values", "nums"), "n": ("n", "value", "x")}
    scripts: ClassVar = {
        "math": """
        from math import gcd

        $numbers = $given
        print(gcd(*$numbers))
        """,
        "euclid": """
        def common_divisor(a, b):
            while b:
                a, b = b, a % b
            return a

        result = 0
        for $n in $given:
            result = common_divisor(result, $n)
        print(result)
        """,
        "divisors": """
        $numbers = $given
        least = min($numbers)
        small = [d for d in range(1, int(least**0.5) + 1) if least % d == 0]
        divisors = small + [least // d for d in small]
        print(max(d for d in divisors if all($n % d == 0 for $n in $numbers)))
        """,
        "prime_powers": """
        from collections import Counter
        from math import prod

        def factors(m):
            found, p = Counter(), 2
            while m > 1:
                while m % p == 0:
                    found[p] += 1
                    m //= p
                p += 1
            return found

        $numbers = $given
        shared = factors($numbers[0])
        for $n in $numbers[1:]:
            shared &= factors($n)
        print(prod(shared.elements()))
        """,
    }
    methods: ClassVar = {
        "math": "math.gcd takes them all at once.",
        "euclid": "Euclid's algorithm takes one number after the other; gcd(0, a) is a.",
        "divisors": "It divides $smallest; of the divisors I take the largest that divides all.",
        "prime_powers": "It is the product of the prime powers that all factorizations share.",
    }
    checking = (
        (
            "The divisor must divide each number, and the quotients may share nothing but 1.",
            "I test divisibility, and that nothing is left to divide out afterwards.",
        ),
        """
        from math import gcd

        $numbers, g = $given, $answer
        divides = all($n % g == 0 for $n in $numbers)
        print(divides and gcd(*($n // g for $n in $numbers)) == 1)
        """,
    )

    @override
    def parse(self, question: str) -> Numbers:
        found = read(r"\(GCD\) of these numbers: ([\d, ]+)\.", question)[1]
        return tuple(map(int, found.split(",")))

    @override
    def values(self, data: Numbers, rng: random.Random) -> Mapping[str, object]:
        return {"given": list(data), "smallest": min(data)}

    @override
    def answer_values(self, data: Numbers, answer: str) -> Mapping[str, object]:
        return {"answer": answer}

    @override
    def openings(self, data: Numbers) -> Sequence[str]:
        listed = join_words(data)
        return (
            f"I need the largest number that divides {listed}.",
            f"The greatest common divisor of {listed} is wanted.",
            f"The numbers are {listed}, and their largest common divisor is wanted.",
        )

    @override
    def in_words(self, data: Numbers, rng: random.Random) -> tuple[str, str]:
        first, *others = data
        pieces = []
        for other in others:
            lines, common = _euclid(max(first, other), min(first, other))
            pieces.append(
                f"Euclid's algorithm on {first} and {other}: {lines}; it ends at {common}."
            )
            first = common
        return " ".join(pieces), str(first)

    @override
    def wrong_answer(self, data: Numbers, answer: str, rng: random.Random) -> str:
        return "1" if int(answer) > 1 else str(rng.choice((2, 3)))


class PrimeFactorization(TemplateTeacher[int]):
    """Writes a number as a product of primes."""

    task = "rg_prime_factorization"
    forms = ("trial_division", "recursion", "sympy", "sieve")
    names: ClassVar = {
        "n": ("n", "number", "rest", "m"),
        "p": ("p", "d", "divisor"),
        "f": ("factors", "found"),
    }
    scripts: ClassVar = {
        "trial_division": """
        $n = $given
        $f, $p = [], 2
        while $p * $p <= $n:
            while $n % $p == 0:
                $f.append($p)
                $n //= $p
            $p += 1
        if $n > 1:
            $f.append($n)
        print(" \u00d7 ".join(map(str, $f)))
        """,
        "recursion": """
        def factorize($n):
            for $p in range(2, int($n**0.5) + 1):
                if $n % $p == 0:
                    return [$p, *factorize($n // $p)]
            return [$n]

        print(*factorize($given), sep=" \u00d7 ")
        """,
        "sympy": """
        from sympy import factorint

        $f = factorint($given)
        print(" \u00d7 ".join(str($p) for $p in sorted($f) for _ in range($f[$p])))
        """,
        "sieve": """
        $n = $given
        is_prime = [True] * ($n + 1)
        $f = []
        for $p in range(2, $n + 1):
            if is_prime[$p]:
                is_prime[$p * $p :: $p] = [False] * len(is_prime[$p * $p :: $p])
                power = $p
                while $n % power == 0:
                    $f.append($p)
                    power *= $p
        print(*$f, sep=" \u00d7 ")
        """,
    }
    methods: ClassVar = {
        "trial_division": "I divide out 2, 3, 4, ... while the square stays below what is left.",
        "recursion": "The smallest divisor above 1 is prime, and the quotient is treated alike.",
        "sympy": "sympy's factorint gives each prime with its exponent.",
        "sieve": "A sieve lists the primes, and each is counted as often as its powers divide.",
    }
    checking = (
        (
            "The product must be $given again and every factor prime.",
            "I multiply the factors and test each of them for divisors.",
        ),
        """
        from math import prod

        def is_prime(p):
            return p > 1 and all(p % k for k in range(2, int(p**0.5) + 1))

        $f = $answer
        print(prod($f) == $given and all(map(is_prime, $f)) and $f == sorted($f))
        """,
    )
    slip = (
        (
            "I collect the primes that divide $given.",
            "The primes up to $given that divide it are its factors.",
            "Every prime is tested whether it divides $given.",
        ),
        """
        $n = $given
        primes = [$p for $p in range(2, $n + 1) if all($p % k for k in range(2, int($p**0.5) + 1))]
        print(*[$p for $p in primes if $n % $p == 0], sep=" \u00d7 ")
        """,
    )

    @override
    def parse(self, question: str) -> int:
        return int(read(r"prime factorization of (\d+)\.", question)[1])

    @override
    def values(self, data: int, rng: random.Random) -> Mapping[str, object]:
        return {"given": data}

    @override
    def answer_values(self, data: int, answer: str) -> Mapping[str, object]:
        return {"answer": [int(p) for p in answer.split("\u00d7")]}

    @override
    def openings(self, data: int) -> Sequence[str]:
        parity = "even, so 2 is among its primes" if data % 2 == 0 else "odd"
        return (
            f"{data} is {parity}.",
            f"No prime factor but one can exceed the root of {data}, about {math.isqrt(data)}.",
            f"I split {data} into primes, with repetitions and in increasing order.",
        )

    @override
    def first_attempt(self, data: int, rng: random.Random) -> Step | None:
        factors = _prime_factors(data)
        return None if len(set(factors)) == len(factors) else super().first_attempt(data, rng)

    @override
    def in_words(self, data: int, rng: random.Random) -> tuple[str, str]:
        factors, rest, lines = _prime_factors(data), data, []
        for factor in factors[:-1]:
            lines.append(f"{rest} / {factor} = {rest // factor}")
            rest //= factor
        root = math.isqrt(rest)
        end = f"{rest} has no divisor from 2 to {root}, so it is prime."
        return "; ".join(lines) + ("; " if lines else "") + end, " \u00d7 ".join(map(str, factors))

    @override
    def wrong_answer(self, data: int, answer: str, rng: random.Random) -> str | None:
        factors = _prime_factors(data)
        if len(factors) < 2:
            return None
        return " \u00d7 ".join(map(str, sorted([factors[0] * factors[1], *factors[2:]])))


def _prime_factors(number: int) -> list[int]:
    for divisor in range(2, math.isqrt(number) + 1):
        if number % divisor == 0:
            return [divisor, *_prime_factors(number // divisor)]
    return [number]


TEACHERS: tuple[Teacher[Any], ...] = (
    FractionSimplification(),
    GreatestCommonDivisor(),
    PrimeFactorization(),
)
