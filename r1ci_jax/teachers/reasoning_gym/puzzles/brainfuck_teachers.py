"""The teacher of the language with eight signs."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, count_noun, read, sentence


class Brainfuck(TemplateTeacher[str]):
    """Runs a program of the language with eight signs."""

    task = "rg_bf"
    forms = ("interpreter", "compiled", "recursion")
    names: ClassVar = {
        "tape": ("tape", "cells", "memory"),
        "p": ("p", "head", "pointer"),
    }
    scripts: ClassVar = {
        "interpreter": """
        $load
        match, stack = {}, []
        for i, ch in enumerate($code):
            if ch == "[":
                stack.append(i)
            elif ch == "]":
                match[i] = stack.pop()
                match[match[i]] = i
        $tape, $p, i, out = [0] * 1000, 0, 0, ""
        while i < len($code):
            ch = $code[i]
            if ch in "<>":
                $p += 1 if ch == ">" else -1
            elif ch in "+-":
                $tape[$p] = ($tape[$p] + (1 if ch == "+" else -1)) % 256
            elif ch == ".":
                out += chr($tape[$p])
            elif (ch == "[") == ($tape[$p] == 0):
                i = match[i]
            i += 1
        print(out)
        """,
        "compiled": """
        $load
        python = {
            ">": "$p += 1",
            "<": "$p -= 1",
            "+": "$tape[$p] = ($tape[$p] + 1) % 256",
            "-": "$tape[$p] = ($tape[$p] - 1) % 256",
            ".": "print(chr($tape[$p]), end='')",
        }
        lines, depth = ["$tape, $p = [0] * 1000, 0"], 0
        for ch in $code:
            if ch == "]":
                depth -= 1
            elif ch == "[":
                lines.append(" " * depth + "while $tape[$p]:")
                depth += 1
            else:
                lines.append(" " * depth + python[ch])
        exec("\\n".join(lines))
        """,
        "recursion": """
        $load
        $tape, $p = [0] * 1000, 0

        def parse(signs):
            block = []
            # A block goes on up to its "]", the whole program up to its end.
            for ch in iter(lambda: next(signs, "]"), "]"):
                block.append(parse(signs) if ch == "[" else ch)
            return block

        def run(block):
            global $p
            for item in block:
                if isinstance(item, list):
                    while $tape[$p]:
                        run(item)
                elif item == ".":
                    print(chr($tape[$p]), end="")
                else:
                    $p += {"<": -1, ">": 1}.get(item, 0)
                    $tape[$p] = ($tape[$p] + {"+": 1, "-": -1}.get(item, 0)) % 256

        run(parse(iter($code)))
        """,
    }
    methods: ClassVar = {
        "interpreter": "An interpreter with a table of matching brackets runs it sign by sign.",
        "compiled": "I translate each sign into a line of Python and run the result.",
        "recursion": "The brackets become nested lists, and a recursion runs those.",
    }
    slip = (
        (
            "I follow the signs + - . and the moves from left to right.",
            "Each of the $points points prints a cell, so I only keep track of the cells.",
            "One pass over the signs, counting up and down, shows what the points print.",
        ),
        """
        $load
        $tape, $p = [0] * 1000, 0
        for ch in $code:
            $p += {">": 1, "<": -1}.get(ch, 0)
            $tape[$p] += {"+": 1, "-": -1}.get(ch, 0)
            if ch == ".":
                print(chr($tape[$p] % 256), end="")
        """,
    )

    @override
    def parse(self, question: str) -> str:
        return read(r"\n\n([-+<>\[\].,]+)\n\n", question)[1]

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        name = rng.choice(("code", "program", "source"))
        return {"code": name, "load": _program(data, name), "points": data.count(".")}

    @override
    def openings(self, data: str) -> Sequence[str]:
        loops, outputs = count_noun(data.count("["), "loop"), count_noun(data.count("."), "output")
        blocks = "Blocks that repeat get a letter." if len(data) > _LONG else ""
        return (
            sentence(f"The program has {len(data)} signs with {loops} and {outputs}.", blocks),
            sentence(f"{loops} and {outputs} are to be followed exactly.", blocks),
            sentence(f"Cells hold bytes and start at 0; {len(data)} signs run.", blocks),
        )

    @override
    def answer(self, data: str, printed: str) -> str:
        return printed.rstrip("\n")


_LONG = 300
"""Signs of a program in which repeated blocks get letters."""


def _program(signs: str, name: str) -> str:
    """Return statements that bind `name` to the program; they never hold three `<` in a row.

    Three of them would open an answer.
    """
    blocks: dict[str, str] = {}
    while len(signs) > _LONG and len(blocks) < 3 and (block := _repeated(signs)):
        letter = "ABC"[len(blocks)]
        blocks[letter] = block
        signs = signs.replace(block, letter)
    lines = [""]
    for run in re.findall(r"<{1,2}|[^<]{1,12}", signs):
        if len(lines[-1]) > 90:
            lines.append("")
        lines[-1] += (" " if run[0] == "<" == lines[-1][-1:] else "") + run
    if not blocks and lines == [signs]:
        return f'{name} = "{signs}"'
    text = "\n".join(lines)
    if not blocks:
        return f'{name} = "".join("""\n{text}\n""".split())'
    # A block may hold the letters of those before it.
    table = [f'    "{a}": "{_spaced(blocks[a])}",\n' for a in reversed(blocks)]
    return (
        f'{name} = """\n{text}\n"""\n# Each letter stands for a block that occurs several times.\n'
        f"blocks = {{\n{''.join(table)}}}\nfor letter, block in blocks.items():\n"
        f'    {name} = {name}.replace(letter, block)\n{name} = "".join({name}.split())'
    )


def _spaced(signs: str) -> str:
    return re.sub("<<(?=<)", "<< ", signs)


def _repeated(signs: str) -> str | None:
    """Return the repeated text between a loop's start and a loop's end that saves the most."""
    stack: list[int] = []
    ends: dict[int, int] = {}
    for place, sign in enumerate(signs):
        if sign == "[":
            stack.append(place)
        elif sign == "]":
            ends[stack.pop()] = place + 1
    found: set[str] = set()
    for start in ends:
        end = start
        while end < min(len(signs), start + 150) and signs[end] != "]":
            end = ends.get(end, end + 1)
            if signs[end - 1] == "]" and end - start >= 20 and signs.count(signs[start:end]) > 1:
                found.add(signs[start:end])
    return max(sorted(found), key=lambda text: len(text) * (signs.count(text) - 1), default=None)


TEACHERS: tuple[Teacher[Any], ...] = (Brainfuck(),)
