"""Copies of a script in which one datum of the question is another one."""

import ast
import itertools
import re
from collections.abc import Iterator
from typing import Any, Final

MOST: Final = 40
"""Copies of one script at most."""
NUMBERS: Final = [
    *("one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
]
_PLACES: Final = 3
"""Places of one text that are changed, each in a copy of its own."""


def changed(code: str, question: str) -> Iterator[str]:
    """Yield copies of the script with one change each: of the longest data first, then once more.

    A datum is a number or a text of the script that stands in the question; what is printed as it
    is (the words of an answer) is none.
    """
    tree = ast.parse(code)
    printed = {id(node) for call in _prints(tree) for node in _shown(call)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    known = _words(question)
    found = [node for node in constants if id(node) not in printed and _is_datum(node, known)]
    found.sort(key=lambda node: -len(str(node.value)))
    # In turns, so that many long texts do not leave the short ones unchanged.
    turns = itertools.zip_longest(*([(n, v) for v in _others(n.value, known)] for n in found))
    changes = (change for turn in turns for change in turn if change is not None)
    for node, other in itertools.islice(changes, MOST):
        value, node.value = node.value, other
        yield ast.unparse(tree)
        node.value = value


def _words(question: str) -> set[str]:
    """Return the words, numbers and signs of a question; a number in words or hexadecimal too."""
    known = set(re.findall(r"\d+|[^\W\d]+|[^\w\s]", question))
    known |= {str(NUMBERS.index(word.lower()) + 1) for word in known if word.lower() in NUMBERS}
    known |= {"1"} & {"1" for word in known if word.lower() in ("a", "an")}
    return known | {str(int(number, 16)) for number in re.findall(r"0x[0-9a-f]+", question)}


def _prints(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            yield node


def _shown(call: ast.Call) -> Iterator[ast.AST]:
    """Yield the texts that a call prints as they are, or by a condition."""
    for part in call.args:
        parts = [part.body, part.orelse] if isinstance(part, ast.IfExp) else [part]
        yield from (each for each in parts if isinstance(each, ast.Constant))


def _is_datum(node: ast.Constant, known: set[str]) -> bool:
    if type(node.value) in (int, float):
        return set(re.findall(r"\d+", str(node.value))) <= known
    if type(node.value) is str:
        words = re.findall(r"\d+|[^\W\d]+|[^\w\s]", node.value)
        # Rows of digits or of cells may stand in a script without the blanks between them.
        return any(word in known or set(word) <= known for word in words)
    return False


def _others(value: Any, known: set[str]) -> Iterator[Any]:
    """Yield other values for a datum."""
    if isinstance(value, int | float):
        yield value + 1
        yield value - 1 if value > 1 else value + 2
        return
    assert isinstance(value, str)
    places = [
        match
        for match in re.finditer(r"\d|[^\W\d]+|[^\w\s]", value)
        if match[0] in known or set(match[0]) <= known
    ]
    signs = sorted({match[0] for match in places})
    step = max(1, len(places) // _PLACES)
    for match in places[step // 2 :: step][:_PLACES]:
        before, after = value[: match.start()], value[match.end() :]
        if match[0].isdigit():
            yield f"{before}{(int(match[0]) + 1) % 10}{after}"
            continue
        # Another word of the same text is as natural there; or else it is misspelled.
        other = next((s for s in signs if s != match[0] and not s.isdigit()), match[0] + "q")
        yield f"{before}{other}{after}"
        if len(match[0]) > 1:
            yield f"{before}{'q' * len(match[0])}{after}"
            yield f"{before}{match[0][0]}{after}"
