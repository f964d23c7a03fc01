"""Reading of puzzle questions and wording of scripts: literals, names that vary, phrases."""

import json
import random
import re
import string
import textwrap
from collections.abc import Iterable, Sequence

from r1ci_jax.teachers.teacher import Step, UnreadableQuestionError


def read(pattern: str, question: str) -> re.Match[str]:
    """Search the question for the pattern, in which a point also stands for a line feed.

    Raises:
        UnreadableQuestionError: It is not there.
    """
    found = re.search(pattern, question, re.DOTALL)
    if found is None:
        raise UnreadableQuestionError(question[:200])
    return found


def require(condition: bool, question: str) -> None:
    """Check that what was read fits together.

    Raises:
        UnreadableQuestionError: It does not.
    """
    if not condition:
        raise UnreadableQuestionError(question[:200])


def script(template: str, /, **parts: object) -> str:
    """Fill `$name` in the template and remove its indentation and the blank lines around it."""
    text = textwrap.dedent(template).strip("\n").rstrip()
    return string.Template(text).substitute({name: str(part) for name, part in parts.items()})


def pick(rng: random.Random, /, **choices: Sequence[str]) -> dict[str, str]:
    """Choose one of the spellings of each name, never the same for two of them."""
    chosen: dict[str, str] = {}
    for name, options in choices.items():
        chosen[name] = rng.choice([each for each in options if each not in chosen.values()])
    return chosen


def make_step(rng: random.Random, words: Sequence[str], code: str) -> Step:
    """Return the step with one of the phrasings."""
    return Step(words=rng.choice(words), code=code)


def quote(text: str) -> str:
    """Return a string literal in double quotes."""
    return json.dumps(text)


def quote_list(texts: Iterable[str]) -> str:
    """Return the literal of a list of strings, in double quotes."""
    return f"[{', '.join(map(quote, texts))}]"


def list_rows(name: str, rows: Iterable[object]) -> str:
    """Return a statement that binds `name` to a list, one item (as code) a line."""
    body = "".join(f"    {row},\n" for row in rows)
    return f"{name} = [\n{body}]"


def text_block(name: str, lines: Iterable[str]) -> str:
    """Return a statement that binds `name` to a text of several lines."""
    body = "\n".join(lines)
    return f'{name} = """\n{body}\n""".strip()'


def join_words(parts: Sequence[str], word: str = "and") -> str:
    """Join phrases by commas and, before the last one, a word."""
    return f" {word} ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
