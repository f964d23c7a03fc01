"""Teacher of boxlift (distribute lifters over boxes)."""

import itertools
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import join_words, pick, script

Lift = tuple[int, list[int]]

_BOXES: Final = re.compile(
    r"in at most ([0-9]+) steps\.\n\nWeights of the boxes: ([0-9, ]+)\n"
    r"Capacities of the lifters: ([0-9, ]+)\n"
)

_FORMS: Final = {
    "two_rules": """
        from itertools import combinations

        $boxes = $weights
        $lifters = $capacities

        def in_order($weight, free):
            return next((free[:k] for k in range(1, len(free) + 1)
                         if sum($lifters[i] for i in free[:k]) >= $weight), None)

        def least_waste($weight, free):
            teams = [list(t) for k in range(1, len(free) + 1) for t in combinations(free, k)]
            strong = [t for t in teams if sum($lifters[i] for i in t) >= $weight]
            return min(strong, key=lambda t: sum($lifters[i] for i in t), default=None)

        def $plan(choose):
            left, $steps = sorted($boxes, reverse=True), []
            while left:
                free, step = list(range(len($lifters))), []
                for $weight in list(left):
                    team = choose($weight, free)
                    if team:
                        step.append(($weight, team))
                        left.remove($weight)
                        free = [i for i in free if i not in team]
                $steps.append(step)
            return $steps

        $steps = min($plan(in_order), $plan(least_waste), key=len)
        for number, step in enumerate($steps, 1):
            print(f"Step {number}: {step}")
    """,
    "backtracking": """
        from itertools import combinations

        $boxes = sorted($weights, reverse=True)
        $lifters = $capacities
        count = len($lifters)
        teams = [list(t) for k in range(1, count + 1) for t in combinations(range(count), k)]
        teams.sort(key=lambda t: sum($lifters[i] for i in t))
        $steps = [[] for _ in range($limit)]
        free = [set(range(count)) for _ in $steps]

        def $plan(k):
            \"\"\"Give box k and all lighter ones a step and the weakest team that suffices.\"\"\"
            if k == len($boxes):
                return True
            for team in teams:
                if sum($lifters[i] for i in team) < $boxes[k]:
                    continue
                tried = set()
                for step, idle in zip($steps, free):
                    if frozenset(idle) in tried or not idle >= set(team):
                        continue
                    tried.add(frozenset(idle))  # steps with the same idle lifters are alike
                    idle -= set(team)
                    step.append(($boxes[k], team))
                    if $plan(k + 1):
                        return True
                    step.pop()
                    idle |= set(team)
            return False

        $plan(0)
        for number, step in enumerate(filter(None, $steps), 1):
            print(f"Step {number}: {step}")
    """,
    "random_restarts": """
        import random

        $boxes = $weights
        $lifters = $capacities
        rng = random.Random($seed)

        def $plan():
            left, $steps = sorted($boxes, reverse=True), []
            while left:
                free, step = rng.sample(range(len($lifters)), len($lifters)), []
                for $weight in list(left):
                    team = []
                    while sum($lifters[i] for i in team) < $weight and len(team) < len(free):
                        team.append(free[len(team)])
                    # Whoever is not needed stays free.
                    for i in list(team):
                        if sum($lifters[j] for j in team) - $lifters[i] >= $weight:
                            team.remove(i)
                    if sum($lifters[i] for i in team) >= $weight:
                        step.append(($weight, sorted(team)))
                        left.remove($weight)
                        free = [i for i in free if i not in team]
                $steps.append(step)
            return $steps

        $steps = $plan()
        while len($steps) > $limit:
            $steps = $plan()
        for number, step in enumerate($steps, 1):
            print(f"Step {number}: {step}")
    """,
}
_WORDS: Final = {
    "two_rules": "I lift the heaviest boxes first, once with lifters in their order and once with "
    "the team that wastes least, and keep the shorter plan.",
    "backtracking": "From the heaviest box on, each gets a step and the weakest sufficient team "
    "that is idle in it; a dead end is taken back.",
    "random_restarts": "Heaviest first with lifters in random order gives a plan quickly; I repeat "
    "it until the plan is short enough.",
}


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
        found = _BOXES.search(question)
        if found is None:
            raise UnreadableQuestionError("no weights and capacities")
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
            $steps = [
            $claim
            ]
            lifted = sorted(weight for step in $steps for weight, _ in step)
            strong = all(sum($lifters[i] for i in team) >= weight
                         for step in $steps for weight, team in step)
            busy = [[i for _, team in step for i in team] for step in $steps]
            once = all(len(set(step)) == len(step) for step in busy)
            print(lifted == sorted($weights) and strong and once and len($steps) <= $limit)
        """
        claim = "\n".join(f"    {line.partition(': ')[2]}," for line in answer.splitlines())
        filled = script(code, **self._fields(data, rng) | {"claim": "CLAIM"})
        return Step(
            words=rng.choice(
                [
                    "Each box must be lifted once, each team be strong enough and no lifter "
                    "work twice "
                    "in a step.",
                    f"I check the {len(data.boxes)} boxes, the strength of each team and that no "
                    "lifter is named twice in a step.",
                ]
            ),
            code=filled.replace("CLAIM", claim),
        )

    @override
    def small_case(self, data: Load, rng: random.Random) -> Step:
        code = """
            from itertools import combinations

            $lifters = $capacities
            for size in range(1, len($lifters) + 1):
                for team in combinations(range(len($lifters)), size):
                    print(team, sum($lifters[i] for i in team))
        """
        if len(data.lifters) > 4:
            code = """
                $lifters = $capacities
                order = sorted(range(len($lifters)), key=lambda i: -$lifters[i])
                for $weight in sorted($weights, reverse=True)[:5]:
                    need = next(k for k in range(1, len(order) + 1)
                                if sum($lifters[i] for i in order[:k]) >= $weight)
                    print($weight, "needs at least", need, "lifters")
            """
        return Step(
            words=rng.choice(
                [
                    f"First I see what teams of the {len(data.lifters)} lifters can carry.",
                    f"What can be carried together? The heaviest box weighs {max(data.boxes)}.",
                ]
            ),
            code=script(code, **self._fields(data, rng)),
        )

    @override
    def first_attempt(self, data: Load, rng: random.Random) -> Step | None:
        if len(data.boxes) <= data.limit:
            return None
        code = """
            $lifters = $capacities
            for number, $weight in enumerate($weights, 1):
                team = []
                for i in range(len($lifters)):
                    if sum($lifters[j] for j in team) < $weight:
                        team.append(i)
                print(f"Step {number}: {[($weight, team)]}")
        """
        return Step(
            words="One box after the other gets lifters in their order until they are strong "
            "enough.",
            code=script(code, **self._fields(data, rng)),
        )

    @override
    def in_words(self, data: Load, rng: random.Random) -> tuple[str, str] | None:
        if len(data.boxes) > 5:
            return None
        steps = _greedy(data)
        if len(steps) > data.limit:
            return None
        lines: list[str] = []
        for number, step in enumerate(steps, 1):
            parts = [
                f"{weight} by lifter{'s' if len(team) > 1 else ''} {join_words(team)} "
                f"({' + '.join(str(data.lifters[i]) for i in team)})"
                for weight, team in step
            ]
            lines.append(f"step {number}: {join_words(parts)}")
        opening = rng.choice(
            [
                "Heaviest box first, with the team that wastes least:",
                "I begin each step with the heaviest box that is left:",
            ]
        )
        answer = "\n".join(f"Step {number}: {step}" for number, step in enumerate(steps, 1))
        return f"{opening} {'; '.join(lines)}. That keeps to {data.limit} steps.", answer

    @override
    def wrong_answer(self, data: Load, answer: str, rng: random.Random) -> str | None:
        lines = answer.splitlines()
        return "\n".join(lines[:-1]) if len(lines) > 1 else None


def _greedy(data: Load) -> list[list[Lift]]:
    """Lift the heaviest boxes first, each by the team that wastes least."""
    left, steps = sorted(data.boxes, reverse=True), list[list[Lift]]()
    while left:
        free, step = list(range(len(data.lifters))), list[Lift]()
        for weight in list(left):
            teams = [
                (sum(data.lifters[i] for i in team), list(team))
                for size in range(1, len(free) + 1)
                for team in itertools.combinations(free, size)
            ]
            strong = [team for team in teams if team[0] >= weight]
            if strong:
                _, chosen = min(strong)
                step.append((weight, chosen))
                left.remove(weight)
                free = [i for i in free if i not in chosen]
        steps.append(step)
    return steps


TEACHERS: tuple[Teacher[Any], ...] = (BoxLift(),)
