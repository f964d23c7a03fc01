"""The teacher of sequences of numbers."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read

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
                if name == "add":
                    x += k
                elif name == "times":
                    x *= k
                elif name == "halve":
                    x //= 2
                elif name == "square":
                    x *= x
                else:
                    x += before
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
        "counter": "A few simple operations turn each term into the next; I try them all.",
        "iterated": "I apply operations to all terms at once until they become the next terms.",
    }
    exploring = (
        (
            "First the differences and the quotients.",
            "Differences or quotients of neighbors may show the rule at once.",
            "I look at how $first grows to $last before I search for a rule.",
        ),
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
        return {"given": list(data), "first": data[0], "last": data[-1]}

    @override
    def openings(self, data: Numbers) -> Sequence[str]:
        return (
            f"{len(data)} terms are given, from {data[0]} to {data[-1]}.",
            f"The step from {data[0]} to {data[1]} must obey the same rule as the step from "
            f"{data[-2]} to {data[-1]}.",
            f"Something turns {data[0]} into {data[1]} and {data[1]} into {data[2]}.",
        )

    @override
    def wrong_answer(self, data: Numbers, answer: str, rng: random.Random) -> str | None:
        guess = str(2 * data[-1] - data[-2])
        return None if guess == answer else guess


TEACHERS: tuple[Teacher[Any], ...] = (NumberSequence(),)
