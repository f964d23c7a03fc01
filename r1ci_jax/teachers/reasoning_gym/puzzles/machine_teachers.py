"""Teachers of machines: the buttons of a lock, pushed boxes."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.row_blocks import split_block
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, count_noun, read

Button = tuple[str, str, int, str]
Lock = tuple[int, str, int, tuple[Button, ...]]


class QuantumLock(TemplateTeacher[Lock]):
    """Finds the shortest sequence of buttons that reaches a number."""

    task = "rg_quantum_lock"
    forms = ("breadth_first", "layers", "parents")
    names: ClassVar = {
        "buttons": ("buttons", "rules", "keys"),
        "queue": ("queue", "todo", "frontier"),
        "value": ("value", "number", "x"),
        "light": ("light", "color", "lamp"),
    }
    scripts: ClassVar = {
        "breadth_first": """
        from collections import deque

        # name: (light that it needs, effect)
        $buttons = {
        $table
        }
        $queue = deque([($start, "$first", [])])
        seen = {($start, "$first")}
        while $queue:
            $value, $light, path = $queue.popleft()
            if $value == $goal:
                print(" → ".join(path))
                break
            after = "green" if $light == "red" else "red"
            for name, (needs, effect) in $buttons.items():
                if needs in ("any", $light):
                    state = (effect($value), after)
                    if state not in seen and abs(state[0]) < 10000:
                        seen.add(state)
                        $queue.append((*state, path + [name]))
        """,
        "layers": """
        $buttons = {
        $table
        }
        layer = {($start, "$first"): ""}
        seen = set(layer)
        while not any($value == $goal for $value, _ in layer):
            after = {}
            for ($value, $light), path in layer.items():
                turned = {"red": "green", "green": "red"}[$light]
                for name, (needs, effect) in $buttons.items():
                    state = (effect($value), turned)
                    if needs in ("any", $light) and state not in seen:
                        seen.add(state)
                        after[state] = path + name
            layer = after
        path = next(path for ($value, _), path in layer.items() if $value == $goal)
        print(" → ".join(path))
        """,
        "parents": """
        $buttons = {
        $table
        }
        parent = {($start, "$first"): None}
        $queue = list(parent)
        for state in $queue:
            $value, $light = state
            if $value == $goal:
                break
            for name, (needs, effect) in $buttons.items():
                if needs in ("any", $light):
                    new = (effect($value), "red" if $light == "green" else "green")
                    if new not in parent:
                        parent[new] = (state, name)
                        $queue.append(new)
        path = []
        while parent[state]:
            state, name = parent[state]
            path.append(name)
        print(" → ".join(reversed(path)))
        """,
    }
    methods: ClassVar = {
        "breadth_first": "Breadth-first search over (number, light) gives the shortest sequence.",
        "layers": "I expand all states (number, light) press by press until the target appears.",
        "parents": "Each new state (number, light) remembers its parent and its button.",
    }
    checking = (
        (
            "I press the buttons one by one and compare the number with $goal.",
            "Starting from $start, I follow the buttons and the light; the end must be $goal.",
            "The sequence must be allowed at every step and end at $goal.",
        ),
        """
        $buttons = {
        $table
        }
        $value, $light, allowed = $start, "$first", True
        for name in "$answer".split(" → "):
            needs, effect = $buttons[name]
            allowed = allowed and needs in ("any", $light)
            $value = effect($value)
            $light = "green" if $light == "red" else "red"
        print(allowed and $value == $goal)
        """,
    )
    slip = (
        (
            "I search for $goal with all buttons, whatever the light shows.",
            "The shortest way from $start to $goal over the numbers is a breadth-first search.",
            "I try the effects of the buttons on $start until the number is $goal.",
        ),
        """
        $buttons = {
        $table
        }
        $queue, seen = [($start, [])], {$start}
        for $value, path in $queue:
            if $value == $goal:
                print(" → ".join(path))
                break
            for name, (_, effect) in $buttons.items():
                new = effect($value)
                if new not in seen and abs(new) < 10000:
                    seen.add(new)
                    $queue.append((new, path + [name]))
        """,
    )

    @override
    def parse(self, question: str) -> Lock:
        start = read(r"Start: (-?\d+) \((red|green)\)\nTarget: (-?\d+)", question)
        pattern = r"(\w+): (Add|Subtract|Multiply) (-?\d+) \(when (any|red|green)\)"
        found = re.findall(pattern, question)
        shown = question.partition("Buttons:")[2].strip().partition("\n\n")[0]
        if not found or len(found) != shown.count("\n") + 1:
            raise UnreadableQuestionError(question[-200:])
        buttons = tuple((name, how, int(number), when) for name, how, number, when in found)
        return int(start[1]), start[2], int(start[3]), buttons

    @override
    def values(self, data: Lock, rng: random.Random) -> Mapping[str, object]:
        signs = {"Add": "+", "Subtract": "-", "Multiply": "*"}
        lines = [f'    "{a}": ("{w}", lambda n: n {signs[h]} {k}),' for a, h, k, w in data[3]]
        return {"start": data[0], "first": data[1], "goal": data[2], "table": "\n".join(lines)}

    @override
    def answer_values(self, data: Lock, answer: str) -> Mapping[str, object]:
        return {"answer": answer}

    @override
    def openings(self, data: Lock) -> Sequence[str]:
        return (
            f"From {data[0]} with a {data[1]} light the target is {data[2]}.",
            f"{len(data[3])} buttons change the number, and each press toggles the light.",
            f"The state is the number and the light, at first ({data[0]}, {data[1]}).",
        )

    @override
    def first_attempt(self, data: Lock, rng: random.Random) -> Step | None:
        wrong = _in_the_dark(data) and not _is_allowed(data, _in_the_dark(data))
        return super().first_attempt(data, rng) if wrong else None


def _press(button: Button, number: int) -> int:
    _, how, operand, _ = button
    return {"Add": number + operand, "Subtract": number - operand}.get(how, number * operand)


def _in_the_dark(lock: Lock) -> tuple[Button, ...]:
    """Return the shortest sequence that reaches the target if the light did not matter."""
    start, _, goal, buttons = lock
    queue: list[tuple[int, tuple[Button, ...]]] = [(start, ())]
    seen = {start}
    for number, path in queue:
        if number == goal:
            return path
        for button in buttons:
            after = _press(button, number)
            if after not in seen and abs(after) < 10000:
                seen.add(after)
                queue.append((after, (*path, button)))
    return ()


def _is_allowed(lock: Lock, path: Sequence[Button]) -> bool:
    lights = ("red", "green") if lock[1] == "red" else ("green", "red")
    return all(when in ("any", lights[i % 2]) for i, (*_, when) in enumerate(path))


_READ_LEVEL = """
        $rows = $given
        cells = {(r, c): ch for r, row in enumerate($rows) for c, ch in enumerate(row)}
        walls = {cell for cell, ch in cells.items() if ch == "+"}
        goals = {cell for cell, ch in cells.items() if ch in "X%$$"}
        $boxes = frozenset(cell for cell, ch in cells.items() if ch in "@$$")
        $man = next(cell for cell, ch in cells.items() if ch in "*%")
        steps = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
"""
"""The level as sets of cells, which every script begins with."""


class Sokoban(TemplateTeacher[tuple[str, ...]]):
    """Finds moves that push all boxes onto goals."""

    task = "rg_sokoban"
    forms = ("breadth_first", "best_first", "parents")
    names: ClassVar = {
        "rows": ("rows", "level", "board"),
        "boxes": ("boxes", "crates", "blocks"),
        "man": ("man", "player", "me"),
    }
    scripts: ClassVar = {
        "breadth_first": """
        from collections import deque
        """
        + _READ_LEVEL
        + """        seen, queue = {($man, $boxes)}, deque([($man, $boxes, "")])
        while queue:
            $man, $boxes, path = queue.popleft()
            if $boxes <= goals:
                print(path)
                break
            for name, (a, b) in steps.items():
                to, beyond = ($man[0] + a, $man[1] + b), ($man[0] + 2 * a, $man[1] + 2 * b)
                after = $boxes
                if to in $boxes:
                    if beyond in walls | $boxes:
                        continue
                    after = $boxes - {to} | {beyond}
                if to not in walls and (to, after) not in seen:
                    seen.add((to, after))
                    queue.append((to, after, path + name))
        """,
        "best_first": """
        import heapq
        from itertools import count
        """
        + _READ_LEVEL
        + """        tick = count()

        def missing(places):
            return sum(min(abs(r - x) + abs(c - y) for x, y in goals) for r, c in places)

        seen, heap = {($man, $boxes)}, [(missing($boxes), next(tick), $man, $boxes, "")]
        while heap:
            _, _, $man, $boxes, path = heapq.heappop(heap)
            if $boxes <= goals:
                print(path)
                break
            for name, (a, b) in steps.items():
                to, beyond = ($man[0] + a, $man[1] + b), ($man[0] + 2 * a, $man[1] + 2 * b)
                if to in walls or (to in $boxes and beyond in walls | $boxes):
                    continue
                after = $boxes - {to} | {beyond} if to in $boxes else $boxes
                if (to, after) not in seen:
                    seen.add((to, after))
                    cost = len(path) + 1 + 2 * missing(after)
                    heapq.heappush(heap, (cost, next(tick), to, after, path + name))
        """,
        "parents": _READ_LEVEL
        + """        start = ($man, $boxes)
        came, queue = {start: None}, [start]
        for state in queue:
            $man, $boxes = state
            if $boxes <= goals:
                break
            for name, (a, b) in steps.items():
                to, after = ($man[0] + a, $man[1] + b), $boxes
                if to in $boxes:
                    pushed = (to[0] + a, to[1] + b)
                    after = ($boxes - {to}) | {pushed}
                    if pushed in walls or pushed in $boxes:
                        continue
                if to not in walls and (to, after) not in came:
                    came[to, after] = (state, name)
                    queue.append((to, after))
        path = ""
        while came[state]:
            state, name = came[state]
            path = name + path
        print(path)
        """,
    }
    methods: ClassVar = {
        "breadth_first": "Breadth-first search over (player, boxes) finds the fewest moves.",
        "best_first": "A heap prefers states whose boxes are near to goals.",
        "parents": "I search level by level and read the moves back from each state's parent.",
    }
    checking = (
        (
            "I replay the moves and look whether each box ends on a goal.",
            "Every step must be legal, and at the end all boxes stand on goals.",
            "Walking the sequence from the start shows whether it solves the level.",
        ),
        _READ_LEVEL
        + """        legal = True
        for name in $answer:
            a, b = steps[name]
            $man = ($man[0] + a, $man[1] + b)
            if $man in $boxes:
                to = ($man[0] + a, $man[1] + b)
                legal = legal and to not in walls | $boxes
                $boxes = $boxes - {$man} | {to}
            legal = legal and $man not in walls
        print(legal and $boxes <= goals)
        """,
    )

    @override
    def parse(self, question: str) -> tuple[str, ...]:
        found = read(r"Here is your puzzle:\s+([-+*%@X$ \n]+)$", question)[1]
        rows = tuple(line.replace(" ", "") for line in found.strip().splitlines())
        if not any(sign in row for row in rows for sign in "*%"):
            raise UnreadableQuestionError(found)
        return rows

    @override
    def values(self, data: tuple[str, ...], rng: random.Random) -> Mapping[str, object]:
        return {"given": split_block(data)}

    @override
    def openings(self, data: tuple[str, ...]) -> Sequence[str]:
        text = "".join(data)
        boxes, goals = text.count("@") + text.count("$"), sum(map(text.count, "X%$"))
        return (
            f"There are {_boxes(boxes)} for {count_noun(goals, 'goal')} in "
            f"{len(data)} rows of {len(data[0])} cells.",
            f"Boxes without a goal: {text.count('@')} of {boxes}.",
            f"The {len(data)} x {len(data[0])} level has few states (player, set of boxes).",
        )


def _boxes(count: int) -> str:
    return f"{count} box" if count == 1 else f"{count} boxes"


TEACHERS: tuple[Teacher[Any], ...] = (QuantumLock(), Sokoban())
