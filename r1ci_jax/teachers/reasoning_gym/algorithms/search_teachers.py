"""Teachers of searches: measuring water with jugs, and cryptarithms."""

import dataclasses
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, join_words, read


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fountain:
    """The capacities of the jugs A, B, ... and the amount asked."""

    capacities: tuple[int, ...]
    target: int


_MOVES = """def moves($state):
                for i, name in enumerate(names):
                    yield f"fill {name}", (*$state[:i], sizes[i], *$state[i + 1:])
                    yield f"empty {name}", (*$state[:i], 0, *$state[i + 1:])
                    for j, other in enumerate(names):
                        if i != j:
                            poured = min($state[i], sizes[j] - $state[j])
                            after = list($state)
                            after[i] -= poured
                            after[j] += poured
                            yield f"pour {name}->{other}", tuple(after)
"""


class Jugs(TemplateTeacher[Fountain]):
    """Measures an amount of water."""

    task = "rg_jugs"
    forms = ("breadth_first", "levels", "parents")
    names: ClassVar = {
        "state": ("state", "levels", "water"),
        "target": ("target", "goal", "wanted"),
    }
    scripts: ClassVar = {
        "breadth_first": f"""
            import json
            from collections import deque

            names, sizes, $target = "$letters", $sizes, $amount


            {_MOVES}

            start = (0,) * len(sizes)
            paths = {{start: []}}
            queue = deque([start])
            while queue:
                $state = queue.popleft()
                if $target in $state:
                    print(json.dumps(paths[$state]))
                    break
                for move, after in moves($state):
                    if after not in paths:
                        paths[after] = [*paths[$state], move]
                        queue.append(after)
            """,
        "levels": f"""
            import json

            names, sizes, $target = "$letters", $sizes, $amount


            {_MOVES}

            front = {{(0,) * len(sizes): ()}}
            seen = set(front)
            while not any($target in $state for $state in front):
                new = {{}}
                for $state, path in front.items():
                    for move, after in moves($state):
                        if after not in seen:
                            seen.add(after)
                            new[after] = (*path, move)
                front = new
            print(json.dumps(next(path for $state, path in front.items() if $target in $state)))
            """,
        "parents": f"""
            import json

            names, sizes, $target = "$letters", $sizes, $amount


            {_MOVES}

            start = (0,) * len(sizes)
            came_from = {{start: None}}
            waiting = [start]
            for $state in waiting:
                if $target in $state:
                    break
                for move, after in moves($state):
                    if after not in came_from:
                        came_from[after] = ($state, move)
                        waiting.append(after)
            plan = []
            while came_from[$state]:
                $state, move = came_from[$state]
                plan.insert(0, move)
            print(json.dumps(plan))
            """,
    }
    methods: ClassVar = {
        "breadth_first": "A breadth-first search over the water levels finds a shortest plan.",
        "levels": "I expand all reachable levels move by move until the amount turns up.",
        "parents": "I store for each state how it was reached and walk back from the goal.",
    }
    exploring = (
        (
            "Only multiples of the gcd of the sizes can be measured, so I look at that first.",
            "First a test whether $amount litres are possible at all: the gcd must divide it.",
        ),
        """
        from math import gcd

        sizes, $target = $sizes, $amount
        unit = gcd(*sizes)
        print("unit", unit, "rest", $target % unit, "largest jug", max(sizes))
        """,
    )
    checking = (
        (
            "I play the moves and look if a jug ends with $amount litres.",
            "The moves, played from empty jugs, must leave $amount litres in one of them.",
        ),
        """
        size = dict(zip("$letters", $sizes))
        $state = dict.fromkeys(size, 0)
        for move in $literal:
            verb, jug = move.split()
            if verb == "pour":
                a, b = jug.split("->")
                poured = min($state[a], size[b] - $state[b])
                $state[a] -= poured
                $state[b] += poured
            else:
                $state[jug] = size[jug] if verb == "fill" else 0
        print($amount in $state.values())
        """,
    )

    @override
    def parse(self, question: str) -> Fountain:
        found = read(r"litres of water: ([A-Z:\d, ]+)\nAnd your target is: (\d+) litres", question)
        sizes = tuple(map(int, re.findall(r":(\d+)", found[1])))
        return Fountain(capacities=sizes, target=int(found[2]))

    @override
    def values(self, data: Fountain, rng: random.Random) -> Mapping[str, object]:
        letters = "ABCDEFGHIJ"[: len(data.capacities)]
        return {"letters": letters, "sizes": list(data.capacities), "amount": data.target}

    @override
    def openings(self, data: Fountain) -> Sequence[str]:
        listed = join_words(data.capacities)
        return (
            f"Jugs of {listed} litres have to give {data.target} litres.",
            f"From empty jugs of {listed} litres I have to reach {data.target} in one of them.",
            f"A state is the water in the {len(data.capacities)} jugs; {data.target} is the goal.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum:
    """The summands of a cryptarithm and its total."""

    words: tuple[str, ...]
    total: str


class Cryptarithm(TemplateTeacher[Sum]):
    """Finds digits for letters."""

    task = "rg_cryptarithm"
    forms = ("columns", "weights", "column_stack")
    names: ClassVar = {
        "digits": ("digits", "value", "assigned"),
        "total": ("total", "result", "target"),
    }
    scripts: ClassVar = {
        "columns": """
            words, $total = $words, "$sum"
            leading = {w[0] for w in [*words, $total]}
            columns = [
                ([w[-i] for w in words if i <= len(w)], $total[-i])
                for i in range(1, len($total) + 1)
            ]


            def solve(i, carry, $digits):
                if i == len(columns):
                    return $digits if carry == 0 else None
                letters, below = columns[i]
                for letter in letters:
                    if letter not in $digits:
                        for d in range(letter in leading, 10):
                            if d not in $digits.values():
                                found = solve(i, carry, {**$digits, letter: d})
                                if found:
                                    return found
                        return None
                carry, d = divmod(carry + sum($digits[c] for c in letters), 10)
                if below in $digits:
                    return solve(i + 1, carry, $digits) if $digits[below] == d else None
                if d in $digits.values() or (d == 0 and below in leading):
                    return None
                return solve(i + 1, carry, {**$digits, below: d})


            print(",".join(f"{c}={d}" for c, d in sorted(solve(0, 0, {}).items())))
            """,
        "weights": """
            words, $total = $words, "$sum"
            leading = {w[0] for w in [*words, $total]}
            weight = {}
            for word in words:
                for place, c in enumerate(reversed(word)):
                    weight[c] = weight.get(c, 0) + 10**place
            for place, c in enumerate(reversed($total)):
                weight[c] = weight.get(c, 0) - 10**place
            order = sorted(weight, key=lambda c: -abs(weight[c]))
            reach = [9 * sum(abs(weight[c]) for c in order[i:]) for i in range(len(order) + 1)]


            def solve(i, rest, $digits):
                if abs(rest) > reach[i]:
                    return None
                if i == len(order):
                    return $digits
                c = order[i]
                for d in range(c in leading, 10):
                    if d not in $digits.values():
                        found = solve(i + 1, rest + d * weight[c], {**$digits, c: d})
                        if found:
                            return found
                return None


            print(",".join(f"{c}={d}" for c, d in sorted(solve(0, 0, {}).items())))
            """,
        "column_stack": """
            words, $total = $words, "$sum"
            leading = {w[0] for w in [*words, $total]}
            order = []
            for i in range(1, len($total) + 1):
                for w in [*words, $total]:
                    if i <= len(w) and w[-i] not in order:
                        order.append(w[-i])


            def fits($digits):
                carry = 0
                for i in range(1, len($total) + 1):
                    letters = [w[-i] for w in words if i <= len(w)]
                    if any(c not in $digits for c in [*letters, $total[-i]]):
                        return True
                    carry, digit = divmod(carry + sum($digits[c] for c in letters), 10)
                    if digit != $digits[$total[-i]]:
                        return False
                return carry == 0


            stack = [{}]
            while stack:
                $digits = stack.pop()
                if len($digits) == len(order):
                    break
                c = order[len($digits)]
                unused = set(range(c in leading, 10)) - set($digits.values())
                stack += [n for d in unused if fits(n := {**$digits, c: d})]
            print(",".join(f"{c}={d}" for c, d in sorted($digits.items())))
            """,
    }
    methods: ClassVar = {
        "columns": "I go column by column from the right, with carries, and backtrack.",
        "weights": "Letters have weights in the equation; a bounded search takes large ones first.",
        "column_stack": "A depth-first search assigns letters and tests each complete column.",
    }
    exploring = (
        (
            "First the weight of each letter: what its digit adds to the words minus the total.",
            "I write the sum as one equation; these are the factors of the $count letters.",
        ),
        """
        words, $total = $words, "$sum"
        weight = dict.fromkeys("".join(words) + $total, 0)
        for word, sign in [*((w, 1) for w in words), ($total, -1)]:
            for place, c in enumerate(reversed(word)):
                weight[c] += sign * 10**place
        print(*(f"{c}:{n}" for c, n in sorted(weight.items())))
        """,
    )
    checking = (
        (
            "I put the digits in and test the sum, the digits and the leading letters.",
            "With the digits put in, the words must add up, and no two letters may share a digit.",
        ),
        """
        $digits = dict(pair.split("=") for pair in "$literal".split(","))
        numbers = ["".join($digits[c] for c in w) for w in $all_words]
        different = len(set($digits.values())) == len($digits)
        no_zero_first = all(n[0] != "0" for n in numbers)
        adds_up = sum(map(int, numbers[:-1])) == int(numbers[-1])
        print(different and no_zero_first and adds_up)
        """,
    )

    @override
    def parse(self, question: str) -> Sum:
        found = read(r"cryptarithm:\n\n([A-Z+ \n]+?)\n-+\n\s*([A-Z]+)\n", question)
        return Sum(words=tuple(re.findall(r"[A-Z]+", found[1])), total=found[2])

    @override
    def values(self, data: Sum, rng: random.Random) -> Mapping[str, object]:
        letters = sorted(set("".join(data.words) + data.total))
        return {
            "words": json.dumps(data.words),
            "sum": data.total,
            "all_words": json.dumps([*data.words, data.total]),
            "count": len(letters),
        }

    @override
    def openings(self, data: Sum) -> Sequence[str]:
        letters = len(set("".join(data.words) + data.total))
        return (
            f"{' + '.join(data.words)} = {data.total} has {letters} letters with different digits.",
            f"I need {letters} digits so that the {len(data.words)} words sum to {data.total}.",
            f"The {letters} letters of the sum to {data.total} stand for different digits.",
        )


TEACHERS: tuple[Teacher[Any], ...] = (Jugs(), Cryptarithm())
