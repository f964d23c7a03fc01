"""Teacher of boxnet (agents that push colored boxes to targets).

The scripts print a plan in short: one line for a step, with square, color and destination of every
action. The answer writes it out in the form that the question asks for.
"""

import json
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import pick, script

Cell = tuple[int, int]
Places = dict[str, list[Cell]]

_FIELD: Final = re.compile(r"A field of ([0-9]+) x ([0-9]+) squares")
_LIMIT: Final = re.compile(r"at most ([0-9]+) steps after which")
_SQUARE: Final = re.compile(r"^square\[([0-9]+)\.5, ([0-9]+)\.5\]: (.+)$", re.MULTILINE)
_SHORT: Final = re.compile(r"([0-9]+),([0-9]+) ([a-z]+) (?:([0-9]+),([0-9]+)|target)")
_ACTION: Final = re.compile(
    r"move\(box_([a-z]+), (?:square\[([0-9]+)\.5, ([0-9]+)\.5\]|target_[a-z]+)\)"
)

_DATA: Final = """
        $boxes = $box_places
        $targets = $target_places

        def $gap(a, b):
            return abs(a[0] - b[0]) + abs(a[1] - b[1])
"""
_FORMS: Final = {
    "one_after_another": """
        from itertools import permutations

        $boxes = $box_places
        $targets = $target_places
        for $color, places in $boxes.items():
            best = min(permutations($targets[$color]), key=lambda order: sum(
                abs(r - x) + abs(c - y) for (r, c), (x, y) in zip(places, order)))
            for (r, c), (x, y) in zip(places, best):
                while (r, c) != (x, y):
                    start = f"{r},{c} {$color}"
                    if r != x:
                        r += 1 if x > r else -1
                    else:
                        c += 1 if y > c else -1
                    print(f"{start} {r},{c}")
                print(f"{r},{c} {$color} target")
    """,
    "rounds": """
        $boxes = $box_places
        $targets = $target_places
        $pairs = []
        for $color, places in $boxes.items():
            while places:
                box, target = min(((b, t) for b in places for t in $targets[$color]),
                                  key=lambda p: abs(p[0][0] - p[1][0]) + abs(p[0][1] - p[1][1]))
                places.remove(box)
                $targets[$color].remove(target)
                $pairs.append(($color, box, target))

        while $pairs:
            actions, later = {}, []
            for $color, (r, c), (x, y) in $pairs:
                if (r, c) in actions:  # the agent of this square is busy
                    later.append(($color, (r, c), (x, y)))
                    continue
                end = (r + (x > r) - (x < r), c) if r != x else (r, c + (y > c) - (y < c))
                goes_on = end != (r, c)
                shown = f"{end[0]},{end[1]}" if goes_on else "target"
                actions[r, c] = f"{r},{c} {$color} {shown}"
                if goes_on:
                    later.append(($color, end, (x, y)))
            print("; ".join(actions.values()))
            $pairs = later
    """,
    "assignment": "        from itertools import permutations\n"
    + _DATA
    + """
        $pairs = []
        for $color, places in $boxes.items():
            best = min(permutations($targets[$color], len(places)),
                       key=lambda order: sum(map($gap, places, order)))
            $pairs += [($color, b, t) for b, t in zip(places, best)]

        steps = {}
        for $color, (r, c), target in $pairs:
            time = 0
            while True:
                nr, nc = r, c
                if c != target[1]:
                    nc += 1 if target[1] > c else -1
                elif r != target[0]:
                    nr += 1 if target[0] > r else -1
                while (r, c) in steps.setdefault(time, {}):
                    time += 1  # the agent is busy, the box waits
                done = (r, c) == target
                steps[time][r, c] = f"{r},{c} {$color} " + ("target" if done else f"{nr},{nc}")
                if done:
                    break
                r, c, time = nr, nc, time + 1
        for time in sorted(steps):
            if steps[time]:
                print("; ".join(steps[time].values()))
    """,
}
_WORDS: Final = {
    "one_after_another": "Each color gets the pairing with the least way in all, and the boxes go "
    "one after the other.",
    "rounds": "Each box gets the nearest target of its color; then in every step each agent that "
    "has a box acts.",
    "assignment": "For every color I choose the pairing with the least way in all and let a box "
    "wait where its agent is busy.",
}


class Field(NamedTuple):
    """Rows, columns and the places (counted from 0) of boxes and targets by color."""

    rows: int
    columns: int
    boxes: Places
    targets: Places
    limit: int


class BoxNet(Teacher[Field]):
    """Directs agents on a grid to move colored boxes to their targets."""

    task = "boxnet"
    forms = tuple(_FORMS)

    @override
    def parse(self, question: str) -> Field:
        size, limit = _FIELD.search(question), _LIMIT.search(question)
        held = _SQUARE.findall(question)
        if size is None or limit is None or not held:
            raise UnreadableQuestionError("no field with boxes")
        places: dict[str, Places] = {"box": {}, "target": {}}
        for row, column, things in held:
            for thing in things.split(", "):
                kind, _, color = thing.partition("_")
                places[kind].setdefault(color, []).append((int(row), int(column)))
        return Field(int(size[1]), int(size[2]), places["box"], places["target"], int(limit[1]))

    def _fields(self, data: Field, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            boxes="boxes starts box_places",
            targets="targets goals target_places",
            pairs="pairs jobs errands",
            gap="gap distance length",
            color="color name hue",
        )
        return names | {
            "box_places": str(data.boxes).replace("'", '"'),
            "target_places": str(data.targets).replace("'", '"'),
            "rows": data.rows,
            "columns": data.columns,
            "limit": data.limit,
        }

    @override
    def step(self, data: Field, form: str, rng: random.Random) -> Step:
        count = sum(map(len, data.boxes.values()))
        opening = rng.choice(
            [
                f"{count} boxes on a {data.rows} by {data.columns} field have at most "
                f"{data.limit} steps.",
                f"{count} boxes in {len(data.boxes)} colors, at most {data.limit} steps.",
            ]
        )
        short = rng.choice(
            [
                "The script prints square, color and destination of each action.",
                "Actions are printed in short, as square, color and destination.",
            ]
        )
        return Step(
            words=f"{opening} {_WORDS[form]} {short}",
            code=script(_FORMS[form].rstrip(" "), **self._fields(data, rng)),
        )

    @override
    def answer(self, data: Field, printed: str) -> str:
        return json.dumps([_write_out(line) for line in printed.strip().splitlines()])

    @override
    def check(self, data: Field, answer: str, rng: random.Random) -> Step:
        code = """
            $boxes = $box_places
            $targets = $target_places
            plan = [
            CLAIM
            ]
            legal = len(plan) <= $limit
            for step in plan:
                arrived = []
                for action in step.split("; "):
                    here, $color, end = action.split()
                    here = tuple(map(int, here.split(",")))
                    legal = legal and here in $boxes[$color]
                    if not legal:
                        break
                    $boxes[$color].remove(here)
                    if end == "target":
                        legal = here in $targets[$color]
                        if legal:
                            $targets[$color].remove(here)
                    else:
                        r, c = map(int, end.split(","))
                        legal = abs(r - here[0]) + abs(c - here[1]) == 1
                        arrived.append(($color, (r, c)))
                for $color, place in arrived:
                    $boxes[$color].append(place)
            print(legal and not any($boxes.values()))
        """
        claim = "\n".join(f'    "{_shorten(step)}",' for step in json.loads(answer))
        return Step(
            words=rng.choice(
                [
                    "I carry out the plan step by step: each agent needs its box at the "
                    "beginning of "
                    "the step, and no box may be left.",
                    f"The plan is simulated once more, with its {len(json.loads(answer))} steps.",
                ]
            ),
            code=script(code, **self._fields(data, rng)).replace("CLAIM", claim),
        )

    @override
    def small_case(self, data: Field, rng: random.Random) -> Step:
        code = """
            $boxes = $box_places
            $targets = $target_places
            for $color in $boxes:
                for a, b in $boxes[$color]:
                    print($color, [abs(a - c) + abs(b - d) for c, d in $targets[$color]])
        """
        return Step(
            words=rng.choice(
                [
                    "First I see how far the boxes are from the targets of their color.",
                    f"How long are the ways on the {data.rows} by {data.columns} field?",
                ]
            ),
            code=script(code, **self._fields(data, rng)),
        )

    @override
    def wrong_answer(self, data: Field, answer: str, rng: random.Random) -> str | None:
        steps = json.loads(answer)
        return json.dumps(steps[:-1]) if len(steps) > 1 else None


def _write_out(line: str) -> dict[str, str]:
    """Return the actions of a step in the form of the answer."""
    actions: dict[str, str] = {}
    for row, column, color, to_row, to_column in _SHORT.findall(line):
        end = f"square[{to_row}.5, {to_column}.5]" if to_row else f"target_{color}"
        actions[f"Agent[{row}.5, {column}.5]"] = f"move(box_{color}, {end})"
    return actions


def _shorten(step: dict[str, str]) -> str:
    """Return a step of an answer in short."""
    parts: list[str] = []
    for agent, action in step.items():
        row, column = re.findall(r"([0-9]+)\.5", agent)
        found = _ACTION.fullmatch(action)
        assert found is not None, "an action is written by this module"
        end = "target" if found[2] is None else f"{found[2]},{found[3]}"
        parts.append(f"{row},{column} {found[1]} {end}")
    return "; ".join(parts)


TEACHERS: tuple[Teacher[Any], ...] = (BoxNet(),)
