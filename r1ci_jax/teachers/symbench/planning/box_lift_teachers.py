"""Teacher of boxlift (distribute lifters over boxes)."""

import itertools
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import join_words, pick, read, rows_literal, script, step

Lift = tuple[int, list[int]]

_BOXES: Final = re.compile(
    r"in at most ([0-9]+) steps\.\n\nWeights of the boxes: ([0-9, ]+)\n"
    r"Capacities of the lifters: ([0-9, ]+)\n"
)

_FORMS: Final = {
    "least_waste": """
        from itertools import combinations

        $boxes = $weights
        $lifters = $capacities
        left, number = sorted($boxes, reverse=True), 0
        while left:
            free, step = list(range(len($lifters))), []
            for $weight in list(left):
                teams = [t for k in range(1, len(free) + 1) for t in combinations(free, k)
                         if sum($lifters[i] for i in t) >= $weight]
                if teams:
                    team = list(min(teams, key=lambda t: sum($lifters[i] for i in t)))
                    step.append(($weight, team))
                    left.remove($weight)
                    free = [i for i in free if i not in team]
            number += 1
            print(f"Step {number}: {step}")
    """,
    "in_order": """
        $boxes = $weights
        $lifters = $capacities
        left, $steps = sorted($boxes, reverse=True), []
        while left:
            free = list(range(len($lifters)))
            $steps.append([])
            for $weight in list(left):
                for k in range(1, len(free) + 1):
                    if sum($lifters[i] for i in free[:k]) >= $weight:
                        $steps[-1].append(($weight, free[:k]))
                        left.remove($weight)
                        free = free[k:]
                        break
        for number, step in enumerate($steps, 1):
            print(f"Step {number}: {step}")
    """,
    "random_restarts": """
        import random

        $boxes = sorted($weights, reverse=True)
        $lifters = $capacities
        rng = random.Random($seed)

        def $plan():
            left, $steps = list($boxes), []
            while left:
                free, step = rng.sample(range(len($lifters)), len($lifters)), []
                for $weight in list(left):
                    sizes = range(1, len(free) + 1)
                    k = next((k for k in sizes if sum($lifters[i] for i in free[:k]) >= $weight), 0)
                    if k:
                        step.append(($weight, sorted(free[:k])))
                        left.remove($weight)
                        free = free[k:]
                $steps.append(step)
            return $steps

        $steps = $plan()
        while len($steps) > $limit:
            $steps = $plan()
        for number, step in enumerate($steps, 1):
            print(f"Step {number}: {step}")
    """,
    "backtracking": """
        from itertools import combinations

        $boxes = sorted($weights, reverse=True)
        $lifters = $capacities
        everyone = set(range(len($lifters)))
        teams = [set(t) for k in range(1, len(everyone) + 1) for t in combinations(everyone, k)]
        teams.sort(key=lambda t: sum($lifters[i] for i in t))
        $steps, free = [[] for _ in range($limit)], [set(everyone) for _ in range($limit)]

        def $plan(k):
            if k == len($boxes):
                return True
            for team in teams:
                if sum($lifters[i] for i in team) >= $boxes[k]:
                    for step, idle in zip($steps, free):
                        if team <= idle:
                            idle -= team
                            step.append(($boxes[k], sorted(team)))
                            if $plan(k + 1):
                                return True
                            step.pop()
                            idle |= team
            return False

        $plan(0)
        for number, step in enumerate(filter(None, $steps), 1):
            print(f"Step {number}: {step}")
    """,
}
_WORDS: Final = {
    "least_waste": "In each step I go from the heaviest box to the lightest and give each the team "
    "of free lifters that wastes least.",
    "in_order": "Each step takes the boxes from the heaviest on, and the free lifters in their "
    "order until they are strong enough.",
    "random_restarts": "Heaviest first with lifters in random order gives a plan quickly; I repeat "
    "it until the plan is short enough.",
    "backtracking": "From the heaviest box on, each gets a step and the weakest sufficient team "
    "that is idle in it; a dead end is taken back.",
}
_RULES: Final = {
    "least_waste": (
        "Heaviest box first, with the team that wastes least:",
        "From the heaviest box to the lightest, each gets the weakest team that suffices:",
    ),
    "in_order": (
        "Heaviest box first, with the lifters in their order:",
        "I begin each step with the heaviest box that is left and take the lifters in order:",
    ),
}
"""Rules that are simple enough for words, with openings. One of them keeps to the limit."""
_FEW: Final = 8
"""The most boxes for which all distributions are searched, or that are explored first."""
_MANY: Final = 12
"""The most boxes for which random orders meet the limit soon."""


class Load(NamedTuple):
    """Weights, capacities and the largest number of steps."""

    boxes: tuple[int, ...]
    lifters: tuple[int, ...]
    limit: int


class BoxLift(Teacher[Load]):
    """Distributes lifters so that all boxes are lifted in time."""

    task = "boxlift"
    forms = tuple(_FORMS)

    @override
    def parse(self, question: str) -> Load:
        found = read(_BOXES, question)
        boxes, lifters = (tuple(map(int, text.split(","))) for text in (found[2], found[3]))
        return Load(boxes, lifters, int(found[1]))

    def _fields(self, data: Load, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            boxes="boxes loads items",
            lifters="lifters capacity strength",
            weight="weight box load",
            steps="steps schedule rounds",
            plan="plan solve assign arrange",
        )
        return names | {
            "weights": list(data.boxes),
            "capacities": list(data.lifters),
            "limit": data.limit,
            "seed": rng.randrange(100),
        }

    @override
    def step(self, data: Load, form: str, rng: random.Random) -> Step:
        if len(data.boxes) > (_MANY if form == "random_restarts" else _FEW):
            form = form if form in _RULES else "least_waste"
        if form in _RULES and len(_follow(data, form)) > data.limit:
            form = next(rule for rule in _RULES if rule != form)
        opening = rng.choice(
            [
                f"{len(data.boxes)} boxes and {len(data.lifters)} lifters, at most {data.limit} "
                "steps.",
                f"The heaviest box weighs {max(data.boxes)}, the strongest lifter carries "
                f"{max(data.lifters)}, so lifters have to work together.",
                f"Within {data.limit} steps the {len(data.lifters)} lifters can carry "
                f"{data.limit * sum(data.lifters)} in all; the boxes weigh {sum(data.boxes)}.",
            ]
        )
        if max(data.boxes) <= max(data.lifters):
            opening = f"{len(data.boxes)} boxes have to be lifted in at most {data.limit} steps."
        return Step(
            words=f"{opening} {_WORDS[form]}",
            code=script(_FORMS[form], **self._fields(data, rng)),
        )

    @override
    def check(self, data: Load, answer: str, rng: random.Random) -> Step:
        code = """
            $lifters = $capacities
            $steps = $claim
            lifted = sorted(weight for step in $steps for weight, _ in step)
            strong = all(sum($lifters[i] for i in team) >= weight
                         for step in $steps for weight, team in step)
            busy = [[i for _, team in step for i in team] for step in $steps]
            once = all(len(set(step)) == len(step) for step in busy)
            print(lifted == sorted($weights) and strong and once and len($steps) <= $limit)
        """
        claim = [line.partition(": ")[2] for line in answer.splitlines()]
        words = (
            "Each box must be lifted once, each team be strong enough and no lifter work twice in "
            "a step.",
            f"I check the {len(data.boxes)} boxes, the strength of each team and that no lifter is "
            "named twice in a step.",
        )
        parts = {**self._fields(data, rng), "claim": rows_literal(claim)}
        return step(rng, words, script(code, **parts))

    @override
    def small_case(self, data: Load, rng: random.Random) -> Step | None:
        if len(data.boxes) > _FEW:
            return None
        code = """
            from itertools import combinations

            $lifters = $capacities
            for size in range(1, len($lifters) + 1):
                for team in combinations(range(len($lifters)), size):
                    print(team, sum($lifters[i] for i in team))
        """
        if len(data.lifters) > 3:
            code = """
                $lifters = $capacities
                order = sorted($lifters, reverse=True)
                for $weight in sorted($weights, reverse=True)[:5]:
                    need = next(k for k in range(1, len(order) + 1) if sum(order[:k]) >= $weight)
                    print($weight, "needs at least", need, "lifters")
            """
        words = (
            f"First I see what teams of the {len(data.lifters)} lifters can carry.",
            f"What can be carried together? The heaviest box weighs {max(data.boxes)}.",
        )
        return step(rng, words, script(code, **self._fields(data, rng)))

    @override
    def first_attempt(self, data: Load, rng: random.Random) -> Step | None:
        # One of the two rules needs too many steps.
        failing = [rule for rule in _RULES if len(_follow(data, rule)) > data.limit]
        if not failing or len(data.boxes) > _FEW:
            return None
        code = script(_FORMS[failing[0]], **self._fields(data, rng))
        return Step(words=_WORDS[failing[0]], code=code)

    @override
    def in_words(self, data: Load, rng: random.Random) -> tuple[str, str] | None:
        if len(data.boxes) > 5:
            return None
        rule = rng.choice([each for each in _RULES if len(_follow(data, each)) <= data.limit])
        steps = _follow(data, rule)
        lines: list[str] = []
        for number, lifts in enumerate(steps, 1):
            parts = [
                f"{weight} by lifter{'s' if len(team) > 1 else ''} {join_words(team)} "
                f"({' + '.join(str(data.lifters[i]) for i in team)})"
                for weight, team in lifts
            ]
            lines.append(f"step {number}: {join_words(parts)}")
        opening = rng.choice(_RULES[rule])
        answer = "\n".join(f"Step {number}: {step}" for number, step in enumerate(steps, 1))
        return f"{opening} {'; '.join(lines)}. That keeps to {data.limit} steps.", answer

    @override
    def wrong_answer(self, data: Load, answer: str, rng: random.Random) -> str | None:
        lines = answer.splitlines()
        return "\n".join(lines[:-1]) if len(lines) > 1 else None


def _follow(data: Load, rule: str) -> list[list[Lift]]:
    """Lift the heaviest boxes first, each by the team that the rule chooses."""
    left, steps = sorted(data.boxes, reverse=True), list[list[Lift]]()
    while left:
        free, step = list(range(len(data.lifters))), list[Lift]()
        for weight in list(left):
            sizes = range(1, len(free) + 1)
            if rule == "in_order":
                teams = [free[:size] for size in sizes]
            else:
                teams = [list(t) for size in sizes for t in itertools.combinations(free, size)]
                teams.sort(key=lambda team: sum(data.lifters[i] for i in team))
            for team in teams:
                if sum(data.lifters[i] for i in team) >= weight:
                    step.append((weight, team))
                    left.remove(weight)
                    free = [i for i in free if i not in team]
                    break
        steps.append(step)
    return steps


TEACHERS: tuple[Teacher[Any], ...] = (BoxLift(),)
