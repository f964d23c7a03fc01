"""Teachers of counting and of rules: dice, legs, angles, sequences of numbers."""

import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read

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
        "ways": ("ways", "counts", "total"),
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
        "polynomial": "The product of x + ... + x^s over the dice has the count of each sum.",
        "table": "A table of the number of ways per sum, renewed for each die, gives the fraction.",
    }
    slip = (
        ("I count the rolls whose sum exceeds $bound and divide by all of them.",),
        """
        from collections import Counter
        from fractions import Fraction

        counts = Counter({0: 1})
        for s in $given:
            after = Counter()
            for value, count in counts.items():
                for face in range(1, s + 1):
                    after[value + face] += count
            counts = after
        good = sum(count for value, count in counts.items() if value > $bound)
        print(Fraction(good, sum(counts.values())))
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
            f"I want P(sum >= {goal}) for dice with {', '.join(map(str, dice))} sides.",
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
        print(sum(n * $legs[name] for name, n in $herd.items()))
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
        ("I take four legs for each animal at first.",),
        """
        $herd = $given
        print(4 * sum($herd.values()))
        """,
    )

    @override
    def parse(self, question: str) -> tuple[tuple[int, str], ...]:
        found = read(r"in total if you have ([^?]+)\?", question)[1]
        herd = []
        for part in found.split(", "):
            many, _, name = part.partition(" ")
            if name.removesuffix("s") not in _LEGS or not many.isdigit():
                raise UnreadableQuestionError(part)
            herd.append((int(many), name.removesuffix("s")))
        return tuple(herd)

    @override
    def values(self, data: tuple[tuple[int, str], ...], rng: random.Random) -> Mapping[str, object]:
        groups: dict[int, list[int]] = {}
        for many, name in data:
            groups.setdefault(_LEGS[name], []).append(many)
        return {
            "table": {name: _LEGS[name] for _, name in data},
            "given": {name: many for many, name in data},
            "triples": [(name, many, _LEGS[name]) for many, name in data],
            "groups": groups,
        }

    @override
    def openings(self, data: tuple[tuple[int, str], ...]) -> Sequence[str]:
        return (
            f"There are {len(data)} kinds of animals, the first of them {data[0][1]}.",
            f"{sum(many for many, _ in data)} animals of {len(data)} kinds are given.",
            f"Each {data[-1][1]} has {_LEGS[data[-1][1]]} legs; there are {len(data)} kinds.",
        )

    @override
    def answer(self, data: tuple[tuple[int, str], ...], printed: str) -> str:
        return printed.split()[-1] if printed.split() else ""

    @override
    def first_attempt(self, data: tuple[tuple[int, str], ...], rng: random.Random) -> Step | None:
        wrong = 4 * sum(many for many, _ in data)
        return super().first_attempt(data, rng) if wrong != _legs(data) else None

    @override
    def in_words(self, data: tuple[tuple[int, str], ...], rng: random.Random) -> tuple[str, str]:
        lines = [f"{many} {name} x {_LEGS[name]} = {many * _LEGS[name]}" for many, name in data]
        sums = " + ".join(str(many * _LEGS[name]) for many, name in data)
        start = rng.choice(("Legs of each kind", "Kind by kind", "Count times legs"))
        return f"{start}: {', '.join(lines)}. Together {sums} = {_legs(data)}.", str(_legs(data))

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
        $total = 180 * (len($known) + 1 - 2)
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
        "difference": "The interior angles of an n-gon add up to 180(n - 2) degrees.",
        "exterior": "Each exterior angle is 180 minus the interior one, and they make one turn.",
        "loop": "It splits into n - 2 triangles of 180 degrees; I subtract what is known.",
    }
    checking = (
        ("All angles together must be 180(n - 2), each between 0 and 180.",),
        """
        angles = $given_angles + [$answer]
        convex = all(0 < a < 180 for a in angles)
        print(len(angles) == $n and convex and abs(sum(angles) - 180 * ($n - 2)) < 1e-9)
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
        return {"given_angles": [_plain(a) for a in data], "n": len(data) + 1}

    @override
    def answer_values(self, data: tuple[float, ...], answer: str) -> Mapping[str, object]:
        return {"answer": answer}

    @override
    def openings(self, data: tuple[float, ...]) -> Sequence[str]:
        n = len(data) + 1
        return (
            f"A polygon with {n} sides has {n} angles, of which {n - 1} are known.",
            f"One of the {n} angles is missing; the first is {_plain(data[0])} degrees.",
            f"The angles {', '.join(str(_plain(a)) for a in data)} leave one of {n} open.",
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


Numbers = tuple[int, ...]


class NumberSequence(TemplateTeacher[Numbers]):
    """Continues a sequence by the rule of at most three steps that explains all its terms."""

    task = "rg_number_sequence"
    forms = ("shortest_rule", "counter", "iterated")
    names: ClassVar = {
        "terms": ("terms", "seq", "numbers", "a"),
        "steps": ("steps", "moves", "options"),
        "rule": ("rule", "chain", "recipe"),
    }
    scripts: ClassVar = {
        "shortest_rule": """
        from itertools import product

        $terms = $given
        pairs = list(zip([0, *$terms], $terms))
        $steps = [("add", k) for k in range(-10, 11) if k]
        $steps += [("times", k) for k in range(-10, 11) if k]
        $steps += [("square", 0), ("halve", 0), ("previous", 0)]

        def follow($rule, before, x):
            for name, k in $rule:
                x = {"add": x + k, "times": x * k, "square": x * x, "halve": x // 2}.get(
                    name, x + before
                )
            return x

        def fits($rule):
            return all(follow($rule, *p) == n for p, n in zip(pairs, $terms[1:]))

        every = (r for size in range(1, 4) for r in product($steps, repeat=size))
        $rule = next(filter(fits, every))
        print(follow($rule, *pairs[-1]))
        """,
        "counter": """
        from itertools import product

        $terms = $given
        $steps = {"x * x": lambda b, x: x * x, "x // 2": lambda b, x: x // 2}
        $steps["x + previous"] = lambda b, x: x + b
        for k in range(-10, 11):
            $steps[f"x + {k}"] = lambda b, x, k=k: x + k
            $steps[f"x * {k}"] = lambda b, x, k=k: x * k
        history = list(zip([0, *$terms], $terms))

        def run($rule, before, x):
            for name in $rule:
                x = $steps[name](before, x)
            return x

        for size in (1, 2, 3):
            found = [
                $rule
                for $rule in product($steps, repeat=size)
                if all(run($rule, *h) == n for h, n in zip(history, $terms[1:]))
            ]
            if found:
                print(run(found[0], *history[-1]))
                break
        """,
        "iterated": """
        from itertools import count

        $terms = $given
        $steps = [lambda b, x: x * x, lambda b, x: x // 2, lambda b, x: x + b]
        $steps += [lambda b, x, k=k: x + k for k in range(-10, 11) if k]
        $steps += [lambda b, x, k=k: x * k for k in range(-10, 11) if k]
        before = [0, *$terms[:-1]]
        # All partial results from the terms so far; a rule fits when they are the next terms.
        layer = [tuple($terms)]
        for depth in count():
            done = [values for values in layer if values[:-1] == tuple($terms[1:])]
            if done or depth == 3:
                break
            layer = [tuple(map(step, before, values)) for values in layer for step in $steps]
        print(done[0][-1])
        """,
    }
    methods: ClassVar = {
        "shortest_rule": "I look for the shortest chain of additions, products, squares, halvings "
        "and sums with the previous term that explains every step.",
        "counter": "Each term follows from the last by few simple operations; I try them all.",
        "iterated": "I apply operations to all terms at once until they become the next terms.",
    }
    exploring = (
        ("First the differences and the quotients.",),
        """
        $terms = $given
        print([b - a for a, b in zip($terms, $terms[1:])])
        print([round(b / a, 3) if a else None for a, b in zip($terms, $terms[1:])])
        """,
    )

    @override
    def parse(self, question: str) -> Numbers:
        found = read(r"^(-?\d+(?:, -?\d+)+), \?", question)[1]
        return tuple(map(int, found.split(", ")))

    @override
    def values(self, data: Numbers, rng: random.Random) -> Mapping[str, object]:
        return {"given": list(data)}

    @override
    def openings(self, data: Numbers) -> Sequence[str]:
        return (
            f"{len(data)} terms are given, from {data[0]} to {data[-1]}.",
            f"The step from {data[0]} to {data[1]} must obey the same rule as {data[-2]} to "
            f"{data[-1]}.",
            f"Something turns {data[0]} into {data[1]} and {data[1]} into {data[2]}.",
        )

    @override
    def wrong_answer(self, data: Numbers, answer: str, rng: random.Random) -> str | None:
        guess = str(2 * data[-1] - data[-2])
        return None if guess == answer else guess


TEACHERS: tuple[Teacher[Any], ...] = (
    Dice(),
    LegCounting(),
    SimpleGeometry(),
    NumberSequence(),
)
