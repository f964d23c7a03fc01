"""Teacher of measuring water with jugs."""

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read


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
    forms = ("breadth_first", "levels", "deepening")
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
        "deepening": f"""
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
        "deepening": "I store for each state how it was reached and walk back from the goal.",
    }
    checking = (
        ("I play the moves and look if a jug ends with $amount litres.",),
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
        listed = ", ".join(map(str, data.capacities))
        return (
            f"Jugs of {listed} litres have to give {data.target} litres.",
            f"From empty jugs of {listed} litres I have to reach {data.target} in one of them.",
            f"A state is the water in the {len(data.capacities)} jugs; {data.target} is the goal.",
        )


TEACHERS: tuple[Teacher[Any], ...] = (Jugs(),)
