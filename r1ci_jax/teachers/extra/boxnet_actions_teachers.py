"""Teacher of boxnet_actions (agents that push colored boxes to targets).

The scripts print a plan in short: a line is the way of a box, or it lists the actions of a step.
The answer writes it out in the form of the question.
"""

import ast
import itertools
import json
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import count_noun, list_rows, literal, pick, script, step

Cell = tuple[int, int]
Places = dict[str, list[Cell]]

_FIELD: Final = re.compile(r"A field of ([0-9]+) x ([0-9]+) squares")
_LIMIT: Final = re.compile(r"at most ([0-9]+) steps after which")
_SQUARE: Final = re.compile(r"^square\[([0-9]+)\.5, ([0-9]+)\.5\]: (.+)$", re.MULTILINE)
_ACTION: Final = re.compile(
    r"move\(box_([a-z]+), (?:square\[([0-9]+)\.5, ([0-9]+)\.5\]|target_[a-z]+)\)"
)

_ROUTE: Final = re.compile(r"([a-z]+)((?: (?:to )?\([0-9]+, [0-9]+\))+)")
_SMALL: Final = 6
"""The most steps of a field whose plan is checked."""
_MIDDLE: Final = 8
"""The most steps of a field that the longer scripts are written for."""
_SHORTER: Final = {"recursion": "permutations", "rounds": "nearest"}

_DATA: Final = """
        $boxes = $box_places
        $targets = $target_places
"""
_FORMS: Final = {
    "permutations": "        from itertools import permutations\n"
    + _DATA
    + """
        def $gap(a, b):
            return abs(a[0] - b[0]) + abs(a[1] - b[1])

        for $color, places in $boxes.items():
            best = min(permutations($targets[$color]), key=lambda p: sum(map($gap, places, p)))
            for box, target in zip(places, best):
                print($color, box, "to", target)
    """,
    "nearest": _DATA
    + """
        def $gap(a, b):
            return abs(a[0] - b[0]) + abs(a[1] - b[1])

        for $color, places in $boxes.items():
            while places:
                box, target = min(((a, b) for a in places for b in $targets[$color]),
                                  key=lambda p: $gap(*p))
                print($color, box, "to", target)
                places.remove(box)
                $targets[$color].remove(target)
    """,
    "recursion": _DATA
    + """
        def $pair(starts, ends):
            \"\"\"Return the least total distance, and the pairs that have it.\"\"\"
            if not starts:
                return 0, []
            (r, c), *others = starts
            options = []
            for k, (x, y) in enumerate(ends):
                total, pairs = $pair(others, ends[:k] + ends[k + 1 :])
                options.append((total + abs(r - x) + abs(c - y), [(r, c, x, y), *pairs]))
            return min(options)

        for $color in $boxes:
            for r, c, x, y in $pair($boxes[$color], $targets[$color])[1]:
                $route = [(r, c)]
                while (r, c) != (x, y):
                    if c != y:
                        c += 1 if y > c else -1
                    else:
                        r += 1 if x > r else -1
                    $route.append((r, c))
                print($color, *$route)
    """,
    "rounds": _DATA
    + """
        $pairs = []
        for $color, places in $boxes.items():
            while places:
                _, (r, c), (x, y) = min((abs(a - i) + abs(b - j), (a, b), (i, j))
                                        for a, b in places for i, j in $targets[$color])
                places.remove((r, c))
                $targets[$color].remove((x, y))
                down, right = 1 if x > r else -1, 1 if y > c else -1
                $route = [(i, c) for i in range(r, x, down)] + [(x, j) for j in range(c, y, right)]
                $pairs.append(($color, [*$route, (x, y)]))

        while $pairs:
            acting = {}
            for $color, $route in $pairs:
                acting.setdefault($route[0], ($color, $route))  # an agent handles one box
            print([($color, *$route[:2]) for $color, $route in acting.values()])
            for _, $route in acting.values():
                $route.pop(0)
            $pairs = [each for each in $pairs if each[1]]
    """,
}
_WORDS: Final = {
    "permutations": (
        "For each color I try every pairing of boxes and targets and keep the one with the least "
        "total distance. The boxes go one after the other, each to the right row first.",
        "All pairings of a color are compared by total distance. Then the boxes take turns: up or "
        "down first, then sideways.",
    ),
    "nearest": (
        "The closest box and target of a color are paired, again and again; then one box after "
        "the other goes to its target, first up or down, then sideways.",
        "I pair box and target greedily by distance. The boxes take turns, and each goes to the "
        "right row, then to the right column.",
    ),
    "recursion": (
        "A recursion finds the cheapest pairing of each color; each line is the route of a box, "
        "and the boxes go one after the other.",
        "Boxes and targets are paired by a recursion over the boxes of a color. One box is brought "
        "home after the other, along the printed routes.",
    ),
    "rounds": (
        "Each box takes the nearest free target of its color, and in every step all agents that "
        "have a box act. A line lists their actions.",
        "Nearest pairs first, then all boxes move at once; one line for each step.",
    ),
}


class Field(NamedTuple):
    """Rows, columns and the places (counted from 0) of boxes and targets by color."""

    rows: int
    columns: int
    boxes: Places
    targets: Places
    limit: int


class BoxNetActions(Teacher[Field]):
    """Directs agents on a grid to move colored boxes to their targets."""

    task = "boxnet_actions"
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
            pairs="routes jobs tours",
            pair="pair match assign",
            gap="gap distance length",
            color="color name hue",
            route="route path track",
        )
        return names | {
            "box_places": literal(data.boxes),
            "target_places": literal(data.targets),
            "limit": data.limit,
        }

    @override
    def step(self, data: Field, form: str, rng: random.Random) -> Step:
        if data.limit > _MIDDLE:
            form = _SHORTER.get(form, form)
        count = sum(map(len, data.boxes.values()))
        opening = rng.choice(
            [
                f"{count} boxes, at most {data.limit} steps.",
                f"{count} boxes on {data.rows} by {data.columns} squares.",
                f"{data.limit} steps have to suffice for {count} boxes.",
            ]
        )
        return Step(
            words=f"{opening} {rng.choice(_WORDS[form])}",
            code=script(_FORMS[form], **self._fields(data, rng)),
        )

    @override
    def answer(self, data: Field, printed: str) -> str:
        lines = printed.strip().splitlines()
        routes = [_ROUTE.fullmatch(line) for line in lines]
        steps = [step for found in routes if found for step in _one_by_one(found[1], found[2])]
        return json.dumps(steps or [dict(map(_act, ast.literal_eval(line))) for line in lines])

    @override
    def check(self, data: Field, answer: str, rng: random.Random) -> Step | None:
        if data.limit > _SMALL:
            return None
        code = """
            $boxes = $box_places
            $targets = $target_places
            $plan
            legal = len(plan) <= $limit
            for step in plan:
                arrived = []
                for r, c, $color, *end in step:
                    legal = legal and (r, c) in $boxes[$color]
                    legal = legal and (bool(end) or (r, c) in $targets[$color])
                    if not legal:
                        break
                    $boxes[$color].remove((r, c))
                    if end:
                        legal = abs(end[0] - r) + abs(end[1] - c) == 1
                        arrived.append(($color, tuple(end)))
                    else:
                        $targets[$color].remove((r, c))
                for $color, place in arrived:
                    $boxes[$color].append(place)
            print(legal and not any($boxes.values()))
        """
        steps = json.loads(answer)
        plan = list_rows("plan", [f"[{', '.join(map(_shorten, step.items()))}]" for step in steps])
        words = (
            "I carry out the plan: each agent must hold its box when the step begins, and no box "
            "may be left.",
            f"A simulation of the {count_noun(len(steps), 'step')} shows whether each action is "
            "possible.",
        )
        return step(rng, words, script(code, **self._fields(data, rng), plan=plan))

    @override
    def wrong_answer(self, data: Field, answer: str, rng: random.Random) -> str | None:
        # The last step is forgotten.
        steps = json.loads(answer)
        return json.dumps(steps[:-1]) if 1 < len(steps) <= _SMALL else None


def _one_by_one(color: str, cells: str) -> list[dict[str, str]]:
    """Return the steps that take a box along its route, one action each.

    Where the route names two squares that are no neighbors, the box goes to the right row first.
    """
    route = [(int(r), int(c)) for r, c in re.findall(r"([0-9]+), ([0-9]+)", cells)]
    (r, c), way = route[0], [route[0]]
    for x, y in route[1:]:
        while (r, c) != (x, y):
            r, c = (r + (1 if x > r else -1), c) if r != x else (r, c + (1 if y > c else -1))
            way.append((r, c))
    acts = [*((color, *pair) for pair in itertools.pairwise(way)), (color, way[-1])]
    return [dict([_act(act)]) for act in acts]


def _act(act: tuple[Any, ...]) -> tuple[str, str]:
    """Return agent and action in the form of the answer."""
    color, (row, column), *place = act
    end = f"square[{place[0][0]}.5, {place[0][1]}.5]" if place else f"target_{color}"
    return f"Agent[{row}.5, {column}.5]", f"move(box_{color}, {end})"


def _shorten(entry: tuple[str, str]) -> str:
    """Return an action of the answer as a tuple: square, color, and where it pushes the box to."""
    agent, action = entry
    found = _ACTION.fullmatch(action)
    assert found is not None, "an action is written by this module"
    row, column = re.findall(r"([0-9]+)\.5", agent)
    end = "" if found[2] is None else f", {found[2]}, {found[3]}"
    return f'({row}, {column}, "{found[1]}"{end})'


TEACHERS: tuple[Teacher[Any], ...] = (BoxNetActions(),)
