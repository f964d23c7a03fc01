"""Teachers of counting: dice, legs, angles."""

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    TemplateTeacher,
    count_noun,
    join_words,
    list_literal,
    read,
    rows_literal,
    sentence,
)

_LEGS = {
    **dict.fromkeys(("snake", "sea slug", "jellyfish", "flatworm", "leech"), 0),
    **dict.fromkeys(("chicken", "bird", "human", "duck"), 2),
    **dict.fromkeys(("dog", "cat", "cow", "horse", "lion", "elephant", "giraffe", "tiger"), 4),
    **dict.fromkeys(("deer", "sheep"), 4),
    "starfish": 5,
    **dict.fromkeys(("insect", "ant", "butterfly", "beetle", "bee", "wasp", "grasshopper"), 6),
    **dict.fromkeys(("cricket", "cockroach", "praying mantis", "firefly"), 6),
    **dict.fromkeys(("spider", "scorpion"), 8),
    **dict.fromkeys(("crab", "lobster", "shrimp"), 10),
    "woodlouse": 14,
}
"""Legs of each animal, as zoology counts them; arms of a starfish count."""


class Dice(TemplateTeacher[tuple[tuple[int, ...], int]]):
    """Computes the probability that dice add up to some number or more."""

    task = "rg_dice"
    forms = ("convolution", "recursion", "polynomial", "table")
    names: ClassVar = {
        "sides": ("sides", "dice", "sizes"),
        "goal": ("goal", "target", "least"),
        "ways": ("ways", "counts", "rolls"),
        "s": ("s", "n", "die"),
    }
    scripts: ClassVar = {
        "convolution": """
        from collections import Counter
        from fractions import Fraction

        $sides, $goal = $given, $bound
        $ways = Counter({0: 1})
        for $s in $sides:
            after = Counter()
            for value, count in $ways.items():
                for face in range(1, $s + 1):
                    after[value + face] += count
            $ways = after
        good = sum(count for value, count in $ways.items() if value >= $goal)
        print(Fraction(good, sum($ways.values())))
        """,
        "recursion": """
        from fractions import Fraction
        from functools import cache

        $sides = $given

        @cache
        def chance(i, missing):
            if i == len($sides):
                return Fraction(int(missing <= 0))
            faces = range(1, $sides[i] + 1)
            return sum(chance(i + 1, missing - face) for face in faces) / $sides[i]

        print(chance(0, $bound))
        """,
        "polynomial": """
        from fractions import Fraction
        import numpy as np

        $sides, $goal = $given, $bound
        poly = np.array([1], dtype=object)
        for $s in $sides:
            poly = np.convolve(poly, np.array([0] + [1] * $s, dtype=object))
        # The coefficient of x^k counts the rolls with sum k.
        print(Fraction(sum(poly[$goal:]), sum(poly)))
        """,
        "table": """
        from fractions import Fraction
        from math import prod

        $sides, $goal = $given, $bound
        top = sum($sides)
        $ways = [1] + [0] * top
        for $s in $sides:
            $ways = [sum($ways[max(0, k - $s) : k]) for k in range(top + 1)]
        print(Fraction(sum($ways[$goal:]), prod($sides)))
        """,
    }
    methods: ClassVar = {
        "convolution": "I build the distribution of the sum die by die.",
        "recursion": "A recursion over the dice tracks what is missing, with exact fractions.",
        "polynomial": "The coefficients of the product of x + ... + x^s count the sums.",
        "table": "A list of the ways to reach each sum is renewed for each die.",
    }
    slip = (
        (
            "I count the rolls whose sum exceeds $bound and divide by all of them.",
            "Die by die I build the counts of the sums and add those above $bound.",
            "The share of rolls over $bound follows from the counts of all sums.",
        ),
        """
        from collections import Counter
        from fractions import Fraction

        $ways = Counter({0: 1})
        for $s in $given:
            after = Counter()
            for value, count in $ways.items():
                for face in range(1, $s + 1):
                    after[value + face] += count
            $ways = after
        good = sum(count for value, count in $ways.items() if value > $bound)
        print(Fraction(good, sum($ways.values())))
        """,
    )

    @override
    def parse(self, question: str) -> tuple[tuple[int, ...], int]:
        found = read(r"these dice: ([\dd, ]+)\. .*?of rolling (\d+) or higher", question)
        dice = re.findall(r"(\d+)d(\d+)", found[1])
        return tuple(int(size) for many, size in dice for _ in range(int(many))), int(found[2])

    @override
    def values(self, data: tuple[tuple[int, ...], int], rng: random.Random) -> Mapping[str, object]:
        return {"given": list(data[0]), "bound": data[1]}

    @override
    def openings(self, data: tuple[tuple[int, ...], int]) -> Sequence[str]:
        dice, goal = data
        return (
            f"{len(dice)} dice can show {math.prod(dice)} equally likely rolls; I need the share "
            f"with a sum of at least {goal}.",
            f"The sum lies between {len(dice)} and {sum(dice)}, and {goal} or more is wanted.",
            f"I want P(sum >= {goal}) for dice with {join_words(dice)} sides.",
        )


class LegCounting(TemplateTeacher[tuple[tuple[int, str], ...]]):
    """Adds up the legs of animals."""

    task = "rg_leg_counting"
    forms = ("dictionary", "pairs", "products", "groups")
    names: ClassVar = {
        "legs": ("legs", "legs_of", "per_animal"),
        "herd": ("herd", "animals", "counts"),
        "total": ("total", "result", "legs_in_all"),
    }
    scripts: ClassVar = {
        "dictionary": """
        $legs = $table
        $herd = $given
        print(sum(many * $legs[name] for name, many in $herd.items()))
        """,
        "pairs": """
        # (animal, how many, legs of each)
        $herd = $triples
        $total = 0
        for _, many, each in $herd:
            $total += many * each
        print($total)
        """,
        "products": """
        $herd = $given
        $legs = $table
        $total = 0
        for name in $herd:
            part = $herd[name] * $legs[name]
            $total += part
            print(f"{name}: {$herd[name]} x {$legs[name]} = {part}")
        print($total)
        """,
        "groups": """
        # animals with the same number of legs together
        by_legs = $groups
        print(sum(each * sum(many) for each, many in by_legs.items()))
        """,
    }
    methods: ClassVar = {
        "dictionary": "I note the legs of each and add up count times legs.",
        "pairs": "Each line of a list has the count and the legs; the products are added.",
        "products": "I print each product on the way, so that the sum can be followed.",
        "groups": "Animals with equally many legs can be counted together.",
    }
    slip = (
        (
            "I add up the legs of the $kinds kinds of animals.",
            "Each animal is looked up in a table of legs, and the entries are added.",
            "The legs of all animals in the list are summed.",
        ),
        """
        $legs = $table
        print(sum($legs[name] for name in $animals))
        """,
    )

    @override
    def parse(self, question: str) -> tuple[tuple[int, str], ...]:
        found = read(r"in total if you have ([^?]+)\?", question)[1]
        herd = []
        for part in found.split(", "):
            many, _, name = part.partition(" ")
            single = name if name in _LEGS else name.removesuffix("s")
            if single not in _LEGS or not many.isdigit():
                raise UnreadableQuestionError(part)
            herd.append((int(many), single))
        return tuple(herd)

    @override
    def values(self, data: tuple[tuple[int, str], ...], rng: random.Random) -> Mapping[str, object]:
        groups: dict[int, list[int]] = {}
        for many, name in data:
            groups.setdefault(_LEGS[name], []).append(many)
        return {
            "table": json.dumps({name: _LEGS[name] for _, name in data}),
            "given": json.dumps({name: many for many, name in data}),
            "animals": list_literal(name for _, name in data),
            "triples": rows_literal(f'("{name}", {many}, {_LEGS[name]})' for many, name in data),
            "groups": groups,
            "kinds": len(data),
        }

    @override
    def openings(self, data: tuple[tuple[int, str], ...]) -> Sequence[str]:
        return (
            f"There are {len(data)} kinds of animals, from {data[0][1]} to {data[-1][1]}.",
            f"{sum(many for many, _ in data)} animals of {len(data)} kinds are given.",
            f"I need the legs of each kind; those of a single {data[-1][1]} are "
            f"{_LEGS[data[-1][1]]}.",
        )

    @override
    def answer(self, data: tuple[tuple[int, str], ...], printed: str) -> str:
        return printed.split()[-1] if printed.split() else ""

    @override
    def first_attempt(self, data: tuple[tuple[int, str], ...], rng: random.Random) -> Step | None:
        wrong = sum(_LEGS[name] for _, name in data)
        return super().first_attempt(data, rng) if wrong != _legs(data) else None

    @override
    def in_words(self, data: tuple[tuple[int, str], ...], rng: random.Random) -> tuple[str, str]:
        lines = [f"{name} {many} x {_LEGS[name]} = {many * _LEGS[name]}" for many, name in data]
        sums = " + ".join(str(many * _LEGS[name]) for many, name in data)
        start = rng.choice(("Legs of each kind", "Kind by kind", "Count times legs"))
        total = f"Together {sums} = {_legs(data)}." if len(data) > 1 else ""
        return sentence(f"{start}: {', '.join(lines)}.", total), str(_legs(data))

    @override
    def wrong_answer(
        self, data: tuple[tuple[int, str], ...], answer: str, rng: random.Random
    ) -> str:
        return str(int(answer) + rng.choice((-4, -2, 2, 4)))


def _legs(herd: tuple[tuple[int, str], ...]) -> int:
    return sum(many * _LEGS[name] for many, name in herd)


class SimpleGeometry(TemplateTeacher[tuple[float, ...]]):
    """Finds the last interior angle of a convex polygon."""

    task = "rg_simple_geometry"
    forms = ("difference", "exterior", "loop")
    names: ClassVar = {"known": ("known", "angles", "given"), "total": ("total", "all_angles")}
    scripts: ClassVar = {
        "difference": """
        $known = $given_angles
        $total = 180 * ($n - 2)
        print($total - sum($known))
        """,
        "exterior": """
        $known = $given_angles
        # Exterior angles of a convex polygon add up to a full turn.
        turn = 360 - sum(180 - a for a in $known)
        print(180 - turn)
        """,
        "loop": """
        $known = $given_angles
        sides = $n
        rest = (sides - 2) * 180
        for angle in $known:
            rest -= angle
        print(rest)
        """,
    }
    methods: ClassVar = {
        "difference": "The interior angles of an n-gon add up to 180(n - 2) degrees, here n = $n.",
        "exterior": "Exterior angles, 180 degrees minus the interior ones, add up to 360.",
        "loop": "Diagonals from one corner make $triangles of 180 degrees; I subtract the rest.",
    }
    checking = (
        (
            "All $n angles together must be 180(n - 2), each between 0 and 180.",
            "With $answer as the last angle the sum has to be that of a convex $n-gon.",
            "The $n angles have to add up, and none may reach 180 degrees.",
        ),
        """
        angles = $all_angles
        convex = all(0 < a < 180 for a in angles)
        print(convex and abs(sum(angles) - 180 * (len(angles) - 2)) < 1e-9)
        """,
    )

    @override
    def parse(self, question: str) -> tuple[float, ...]:
        found = re.findall(r"(\d+(?:\.\d+)?)°", question)
        sides = re.search(r"(\d+)-gon|(\d+) sides|(\d+)-sided", question)
        if not found or (sides and int(next(filter(None, sides.groups()))) != len(found) + 1):
            raise UnreadableQuestionError(question[:200])
        return tuple(map(float, found))

    @override
    def values(self, data: tuple[float, ...], rng: random.Random) -> Mapping[str, object]:
        return {
            "given_angles": [_plain(a) for a in data],
            "n": len(data) + 1,
            "triangles": count_noun(len(data) - 1, "triangle"),
        }

    @override
    def answer_values(self, data: tuple[float, ...], answer: str) -> Mapping[str, object]:
        angles = [_plain(a) for a in (*data, float(answer))]
        return {"answer": angles[-1], "all_angles": angles}

    @override
    def openings(self, data: tuple[float, ...]) -> Sequence[str]:
        n = len(data) + 1
        return (
            f"A polygon with {n} sides has {n} angles, of which {n - 1} are known.",
            f"One of the {n} angles is missing; the first is {_plain(data[0])} degrees.",
            f"The angles {join_words([_plain(a) for a in data])} leave one of {n} open.",
        )

    @override
    def in_words(self, data: tuple[float, ...], rng: random.Random) -> tuple[str, str]:
        n, known = len(data) + 1, sum(data)
        total = 180 * (n - 2)
        listed = " + ".join(str(_plain(a)) for a in data)
        words = (
            f"The {n} angles add up to 180 x {n - 2} = {total} degrees. The known ones make "
            f"{listed} = {_plain(known)}. So {total} - {_plain(known)} = {_plain(total - known)}."
        )
        return words, str(_plain(total - known))

    @override
    def wrong_answer(self, data: tuple[float, ...], answer: str, rng: random.Random) -> str:
        return str(_plain(float(answer) + rng.choice((-10, -5, 5, 10))))


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number


TEACHERS: tuple[Teacher[Any], ...] = (
    Dice(),
    LegCounting(),
    SimpleGeometry(),
)
