"""`r1ci completion SHELL` prints a script that completes commands, options and settings."""

import argparse
import typing
from typing import Any, Final, Literal

import shtab

from r1ci_jax.cli import main
from r1ci_jax.cli.experiment_file import PREFIX, leaf_fields
from r1ci_jax.config import Experiment
from r1ci_jax.ranges import bare_type

SHELLS: Final = ("bash", "zsh", "fish")
FILES: Final = frozenset(("EXP", "FILE", "MODEL", "MODEL_OR_EXP", "SOURCE"))
FOLDERS: Final = frozenset(("RUN", "DIR", "D"))
"""Placeholders of help texts that stand for files, and for directories."""
_INSTALL: Final = """\
bash  r1ci completion bash > ~/.local/share/bash-completion/completions/r1ci
zsh   r1ci completion zsh > DIR/_r1ci, where DIR is in $fpath
fish  r1ci completion fish > ~/.config/fish/completions/r1ci.fish"""


def add_commands(subparsers: Any) -> None:
    """Register `r1ci completion`."""
    parser = subparsers.add_parser(
        "completion",
        help="a script with which a shell completes the words of r1ci",
        description="Print a script with which a shell completes commands, options and settings.",
        epilog=_INSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    print(make_script(args.shell))
    return 0


def make_script(shell: str) -> str:
    """Make the completion script of the whole command line."""
    parser = main.make_parser(main.COMMANDS)
    for command in _all_parsers(parser):
        if command.get_default("takes_overrides"):
            _add_settings(command)
        for action in command._actions:
            _complete_paths(action)
    return shtab.complete(parser, shell)


def _all_parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    nested = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return [
        parser,
        *(
            below
            for each in nested
            for child in each.choices.values()
            for below in _all_parsers(child)
        ),
    ]


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the settings of an experiment, which the real parser leaves to tyro."""
    for name, hint in leaf_fields(Experiment).items():
        kind = bare_type(hint)
        is_choice = typing.get_origin(kind) is Literal
        choices = typing.get_args(kind) if is_choice else ("True", "False") * (kind is bool)
        parser.add_argument(PREFIX + name, choices=choices or None)


def _complete_paths(action: argparse.Action) -> None:
    if action.metavar in FILES or action.metavar in FOLDERS:
        kind = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY
        action.complete = kind  # type: ignore[attr-defined]  # shtab reads it there
