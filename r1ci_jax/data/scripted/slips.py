"""Slips that people make in a script: each raises when it runs, and its repair is the script."""

import ast
import builtins
import random
import re
from collections.abc import Iterator

Slip = tuple[str, str]
"""The broken script, and words that say what was wrong, for the next turn."""


def slips(code: str, rng: random.Random) -> list[Slip]:
    """Return broken copies of a script, the most instructive order shuffled; some may run."""
    found = [
        *_forgotten_imports(code),
        *_misspelled_names(code, rng),
        *_wrong_types(code),
        *_lost_colons(code),
    ]
    rng.shuffle(found)
    return [slip for slip in found if slip[0] != code]


def _forgotten_imports(code: str) -> Iterator[Slip]:
    lines = code.split("\n")
    for number, line in enumerate(lines):
        if match := re.match(r"(?:import|from) ([\w.]+)", line):
            kept = lines[:number] + lines[number + 1 :]
            words = f"The script uses {match[1]} without importing it. With the import:"
            yield "\n".join(kept).strip("\n"), words


def _misspelled_names(code: str, rng: random.Random) -> Iterator[Slip]:
    tree = ast.parse(code)
    assigned = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _is_stored(n)}
    assigned |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    uses = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Name) and not _is_stored(n) and n.id in assigned and len(n.id) >= 4
    ]
    for node in rng.sample(uses, min(3, len(uses))):
        wrong = _misspell(node.id, rng)
        lines = code.split("\n")
        # Columns of the tree count bytes.
        line = lines[node.lineno - 1].encode()
        begin, end = node.col_offset, node.end_col_offset
        if line[begin:end] != node.id.encode() or wrong in assigned or hasattr(builtins, wrong):
            continue  # inside an f-string the columns are not those of the line
        lines[node.lineno - 1] = (line[:begin] + wrong.encode() + line[end:]).decode()
        yield "\n".join(lines), f"I misspelled `{node.id}` as `{wrong}`. Corrected:"


def _wrong_types(code: str) -> Iterator[Slip]:
    for match in re.finditer(r"^(\w+) = (-?\d+)$", code, re.MULTILINE):
        broken = f'{code[: match.start(2)]}"{match[2]}"{code[match.end(2) :]}'
        yield broken, f"`{match[1]}` has to be a number, not a text. Corrected:"


def _lost_colons(code: str) -> Iterator[Slip]:
    for match in re.finditer(r"^ *(for|while|if|def)\b[^\n]*(:)$", code, re.MULTILINE):
        broken = code[: match.start(2)] + code[match.end(2) :]
        yield broken, f"The line with `{match[1]}` lacks its colon. Corrected:"
        return


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _misspell(name: str, rng: random.Random) -> str:
    place = rng.randrange(1, len(name) - 1)
    if rng.random() < 0.5:
        return name[:place] + name[place + 1 :]
    return name[:place] + name[place + 1] + name[place] + name[place + 2 :]
