"""The teacher of Rubik's cube, scrambled by few moves."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, quote, read, require

Faces = tuple[str, ...]
"""The nine stickers of each face, in the order U, L, F, R, B, D."""

_TURNS = """
        def $cw(face):
            return "".join(face[k] for k in (6, 3, 0, 7, 4, 1, 8, 5, 2))

        def $act(steps, state):
            for step in steps:
                U, L, F, R, B, D = state
                if step == "x":  # the whole cube: front to top
                    state = F, $cw(L)[::-1], D, $cw(R), U[::-1], B[::-1]
                elif step == "y":  # the whole cube: right to front
                    state = $cw(U), F, R, B, L, $cw(D)[::-1]
                else:  # u, the top layer
                    state = $cw(U), F[:3] + L[3:], R[:3] + F[3:], B[:3] + R[3:], L[:3] + B[3:], D
            return state

        $moves = dict(U="u", F="xuxxx", D="xxuxx", B="xxxux", R="yxuxxxyyy", L="yyyxuxxxy")
        $moves |= {name + "'": steps.replace("u", "uuu") for name, steps in $moves.items()}
        $start = $faces
"""
"""Every move as a turn of the top layer: its face comes to the top, turns, and goes back."""

_GOAL = """        $goal = tuple(face[4] * 9 for face in $start)
"""


class RubiksCube(TemplateTeacher[Faces]):
    """Finds moves that solve a cube of size 3, where a few suffice."""

    task = "rg_rubiks_cube"
    forms = ("both_ends", "deepening", "arrays")
    names: ClassVar = {
        "cw": ("cw", "clockwise", "turned"),
        "act": ("act", "apply", "carry_out"),
        "moves": ("moves", "turns", "sequences"),
        "start": ("start", "cube", "scrambled"),
        "goal": ("goal", "solved", "target"),
    }
    scripts: ClassVar = {
        "both_ends": _TURNS
        + _GOAL
        + """
        paths, layers = [{$start: []}, {$goal: []}], [[$start], [$goal]]
        while not paths[0].keys() & paths[1].keys():
            side = len(paths[0]) > len(paths[1])
            layer, layers[side] = layers[side], []
            for state in layer:
                for name, steps in $moves.items():
                    after = $act(steps, state)
                    if after not in paths[side]:
                        paths[side][after] = paths[side][state] + [name]
                        layers[side].append(after)
        middle = (paths[0].keys() & paths[1].keys()).pop()
        back = [m[0] if "'" in m else m + "'" for m in reversed(paths[1][middle])]
        print(*paths[0][middle], *back)
        """,
        "deepening": """
        from itertools import count
        """
        + _TURNS
        + _GOAL
        + """
        table, layer = {$goal: []}, [$goal]

        def search(state, depth):
            if state in table:
                return table[state]
            for name in $moves if depth else ():
                rest = search($act($moves[name], state), depth - 1)
                if rest is not None:
                    return [name, *rest]

        for depth in count():
            if path := search($start, depth):
                break
            near = {$act($moves[m], s): (m, s) for s in layer for m in $moves}
            layer = [state for state in near if state not in table]
            for state in layer:
                m, after = near[state]
                table[state] = [m[0] if "'" in m else m + "'", *table[after]]
        print(*path)
        """,
        "arrays": """
        import numpy as np
        """
        + _TURNS
        + _GOAL
        + """
        letters = "".join(map(chr, range(48, 102)))
        parts = [letters[k : k + 9] for k in range(0, 54, 9)]
        orders = [list(map(letters.find, "".join($act(s, parts)))) for s in $moves.values()]
        rows = [np.array([list("".join(side).encode())]) for side in ($start, $goal)]
        depths = [0, 0]
        while True:
            ends = [{row.tobytes(): k for k, row in enumerate(each)} for each in rows]
            if both := ends[0].keys() & ends[1].keys():
                break
            side = depths[0] > depths[1]
            rows[side] = np.concatenate([rows[side][:, order] for order in orders])
            depths[side] += 1
        place = [end[min(both)] for end in ends]
        path, back = ([[*$moves][k // 12**i % 12] for i in range(d)] for k, d in zip(place, depths))
        print(*path, *(m[0] if "'" in m else m + "'" for m in reversed(back)))
        """,
    }
    methods: ClassVar = {
        "both_ends": "A search from both ends meets in the middle, which is fast after few turns.",
        "deepening": "A search that goes deeper and deeper stops at states known to be near to "
        "the solved one.",
        "arrays": "All states after 1, 2, ... moves from either end are rows of an array; I look "
        "for a common one.",
    }
    checking = (
        (
            "I carry out the moves and see whether every face has one color.",
            "After these moves each face must show its center's color alone.",
            "The moves are replayed on the stickers of the question.",
        ),
        _TURNS
        + """
        state = $start
        for name in $answer.split():
            state = $act($moves[name], state)
        print(all(len(set(face)) == 1 for face in state))
        """,
    )
    exploring = (
        (
            "First I count the stickers of each face that have its center's color.",
            "How far is the cube from solved? I count the right stickers of each face.",
            "Before the search I look at how many stickers are in place.",
        ),
        """
        $start = dict(zip("ULFRBD", $faces))
        for name, face in $start.items():
            print(name, face[4], face.count(face[4]), "of 9")
        """,
    )

    @override
    def parse(self, question: str) -> Faces:
        net = read(r"\n\n((?: *(?:[A-Z]  ?){3,12} *\n){9})", question)[1]
        rows = ["".join(line.split()) for line in net.splitlines()]
        require([len(row) for row in rows] == [3] * 3 + [12] * 3 + [3] * 3, question)
        sides = ["".join(row[k : k + 3] for row in rows[3:6]) for k in (0, 3, 6, 9)]
        return "".join(rows[:3]), *sides, "".join(rows[6:])

    @override
    def values(self, data: Faces, rng: random.Random) -> Mapping[str, object]:
        return {"faces": f"({', '.join(map(quote, data))})"}

    @override
    def openings(self, data: Faces) -> Sequence[str]:
        right = sum(face.count(face[4]) for face in data)
        return (
            f"{right} of 54 stickers show the color of their center.",
            f"The centers {', '.join(face[4] for face in data)} of U, L, F, R, B and D stay.",
            f"The top face reads {data[0]}; I write the faces in the order U, L, F, R, B, D.",
        )

    @override
    def wrong_answer(self, data: Faces, answer: str, rng: random.Random) -> str:
        """Turn one face the other way."""
        names = answer.split()
        place = rng.randrange(len(names))
        names[place] = names[place][0] + "'" * ("'" not in names[place])
        return " ".join(names)


TEACHERS: tuple[Teacher[Any], ...] = (RubiksCube(),)
