"""Fill the templates of scripts and choose among phrases."""

import random
import string
import textwrap
from collections.abc import Sequence


def fill(template: str, **values: object) -> str:
    """Return the script with `$name` replaced by its value, without common indentation."""
    return string.Template(textwrap.dedent(template).strip("\n")).substitute(
        {name: str(value) for name, value in values.items()}
    )


def choose_names(rng: random.Random, **options: str) -> dict[str, str]:
    """Choose one of the names, separated by blanks, for every placeholder; all are different."""
    chosen: dict[str, str] = {}
    for name, choices in options.items():
        chosen[name] = rng.choice([c for c in choices.split() if c not in chosen.values()])
    return chosen


def phrase(rng: random.Random, *options: str) -> str:
    """Choose one of the phrases."""
    return rng.choice(options)


def join_words(parts: Sequence[object]) -> str:
    """Join parts as in `1, 2 and 3`."""
    texts = [str(part) for part in parts]
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def format_board(rows: Sequence[str]) -> str:
    """Write rows of text as the lines of a Python list."""
    return "[\n" + "".join(f'    "{row}",\n' for row in rows) + "]"
