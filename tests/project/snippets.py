"""The snippets of the documentation: fenced blocks, and the commands in them."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"(`{3,})([\w-]*)")
_LOOP = re.compile(r"for (\w+) in ([^;]+); do (.*?); done")
_BORDERS = frozenset("&|;<>")
_COMMAND = re.compile(r"^(\$ )?(r1ci|make|git|pip|for|echo|\.venv/bin/\w+) ", re.MULTILINE)
_SHELL = frozenset(("", "bash", "sh", "console"))


class Snippet(NamedTuple):
    """One fenced block."""

    language: str
    line: int
    """Number of its first line in the file, from 1."""
    text: str


def read(path: Path) -> list[Snippet]:
    """Return the fenced blocks of a file. A shorter fence within one is its text."""
    found: list[Snippet] = []
    opened: tuple[str, str, int] | None = None
    body: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        fence = _FENCE.fullmatch(line.rstrip())
        if opened is None:
            if fence:
                opened, body = (fence[1], fence[2], number + 1), []
        elif fence and not fence[2] and len(fence[1]) >= len(opened[0]):
            found.append(Snippet(opened[1], opened[2], "\n".join(body) + "\n"))
            opened = None
        else:
            body.append(line)
    assert opened is None, f"{path}: the block of line {opened and opened[2]} is not closed"
    return found


def commands(snippet: Snippet) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block; a loop stands for each of its values."""
    if snippet.language not in _SHELL or not _COMMAND.search(snippet.text):
        return  # a tree, a picture, what a model wrote
    for line in snippet.text.replace("\\\n", " ").splitlines():
        for text in _unroll(line.removeprefix("$ ")):
            lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(_BORDERS))
            lexer.whitespace_split = True
            for is_border, words in itertools.groupby(lexer, _is_border):
                if not is_border:
                    yield list(words)


def _is_border(word: str) -> bool:
    return word != "" and set(word) <= _BORDERS


def _unroll(line: str) -> list[str]:
    loop = _LOOP.search(line)
    if loop is None:
        return [line]
    return [loop[3].replace(f"${loop[1]}", value) for value in loop[2].split()]
