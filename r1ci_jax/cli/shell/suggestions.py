"""The word that a user may have meant."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final

from r1ci_jax.errors import find_close

OTHER_WORDS: Final[Mapping[str, str]] = {
    "train": "run (every stage), sft or grpo",
    "rl": "grpo",
    "ppo": "grpo",
    "finetune": "sft",
    "test": "eval",
    "evaluate": "eval",
    "talk": "chat",
    "generate": "synth (demonstrations) or data build (questions)",
    "build": "data build",
    "fetch": "data fetch",
    "stats": "data stats",
    "exec": "sandbox exec",
    "doctor": "sandbox doctor",
    "setup": "sandbox setup",
    "import": "weights import",
    "export": "weights export",
    "convert": "weights import or weights export",
    "list": "tasks list",
    "plot": "figure",
    "estimate": "plan",
    "version": "--version",
}
"""What others call it, and the name of the command here."""


def find_command(word: str, commands: Iterable[str]) -> str | None:
    """Return the command that a word stands for, by another name or by spelling."""
    return OTHER_WORDS.get(word) or find_close(word, commands)


def find_file(name: str, known: Iterable[str]) -> str | None:
    """Return the file that a name without folder or ending stands for, or one spelled like it."""
    by_stem = {PurePosixPath(each).stem: each for each in reversed(list(known))}
    stem = PurePosixPath(name).stem
    close = stem if stem in by_stem else find_close(stem, by_stem)
    return by_stem[close] if close else None
