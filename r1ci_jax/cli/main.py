"""The r1ci command.

Only the module of the named command is imported, so `r1ci --help` and the commands that need no
model start at once.
"""

import argparse
import errno
import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn, override

import r1ci_jax
from r1ci_jax.cli.shell import suggestions
from r1ci_jax.errors import (
    INTERRUPTED_EXIT_STATUS,
    RESUME_EXIT_STATUS,
    USER_ERROR_EXIT_STATUS,
    Resume,
    UserError,
    did_you_mean,
)
from r1ci_jax.runtime import hosts, terminal

COMMANDS = {
    "run": ("r1ci_jax.cli.run", "every stage of an experiment; the same command resumes it"),
    "sft": ("r1ci_jax.cli.run", "supervised fine-tuning only"),
    "potential": ("r1ci_jax.cli.run", "improvement potential of the questions only"),
    "grpo": ("r1ci_jax.cli.run", "reinforcement learning only"),
    "eval": ("r1ci_jax.cli.eval", "accuracy of any model, or the stage of an experiment"),
    "chat": ("r1ci_jax.cli.talk.chat", "talk to a model, with the interpreter live"),
    "serve": ("r1ci_jax.cli.talk.serve", "an OpenAI-compatible endpoint, interpreter live"),
    "tasks": ("r1ci_jax.cli.tasks", "the task registry: list, show, sample, check"),
    "data": ("r1ci_jax.cli.data", "datasets: build, fetch, import, stats"),
    "synth": ("r1ci_jax.cli.synth", "demonstrations by a teacher: scripts per task, a model, ..."),
    "sandbox": ("r1ci_jax.cli.sandbox", "the interpreter jail: doctor, setup, exec, bench, soak"),
    "weights": ("r1ci_jax.cli.convert", "import safetensors or GGUF, export safetensors"),
    "report": ("r1ci_jax.cli.table", "one static HTML file about a run"),
    "plan": ("r1ci_jax.cli.plan", "estimate memory and step time for a TPU topology; needs no TPU"),
    "launch": ("r1ci_jax.cli.launch", "start a run on TPU pods: XPK, queued resources, or ssh"),
    "table": ("r1ci_jax.cli.table", "a paper table: ours, paper, difference"),
    "figure": ("r1ci_jax.cli.table", "a figure of runs as SVG and PNG"),
    "completion": ("r1ci_jax.cli.shell.completion", "complete the words of r1ci in your shell"),
}
"""Map a command to its module with `add_commands(subparsers)` and its `r1ci --help` line."""


_UNWRITABLE = "cannot write standard output ({}); redirect it to another place"


class _Parser(argparse.ArgumentParser):
    """Parser that reports errors in one line, like all other wrong input."""

    @override
    def error(self, message: str) -> NoReturn:
        message = message.rstrip("; ")
        mark = "" if message.endswith("?") else ";"
        raise UserError(f"{message}{mark} see {self.prog} --help")

    @override
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(each) for each in action.choices]
        hint = did_you_mean(str(value), known)
        name = "/".join(action.option_strings) or action.metavar or action.dest
        self.error(f"{name} {value!r} is none of: {', '.join(known)}; {hint}")

    def find_subparser(self, words: Sequence[str]) -> argparse.ArgumentParser:
        """Return the parser of the sub-command that the words name."""
        parser: argparse.ArgumentParser = self
        for word in words:
            for action in parser._actions:
                if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                    parser = action.choices[word]
                    break
        return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    A command is a function `args -> int | None` set with `parser.set_defaults(run=function)`. A
    command that takes `--config.a.b=value` sets `takes_overrides=True` and reads `args.overrides`.
    """
    status = _status(list(sys.argv[1:] if argv is None else argv))
    failure = terminal.finish_streams()
    if isinstance(failure, BrokenPipeError):
        status = status or 1  # the reader has exited (r1ci tasks list | head)
    elif failure is not None:
        terminal.say(f"r1ci: {_UNWRITABLE.format(failure.strerror)}")
        status = USER_ERROR_EXIT_STATUS
    hosts.hard_exit(status)
    return status


def _status(words: list[str]) -> int:
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        terminal.prepare_streams()
        return _dispatch(words)
    except SystemExit as stop:
        return int(stop.code or 0)  # argparse has printed a help text
    except BrokenPipeError:
        return 1  # the reader has exited (r1ci tasks list | head): no further output is possible
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        again = shlex.join(["r1ci", *words])
        terminal.say(f"\nr1ci: interrupted; to continue where it stopped: {again}")
        return INTERRUPTED_EXIT_STATUS
    except Resume as stop:
        terminal.say(f"r1ci: {stop}")
        return RESUME_EXIT_STATUS
    except Exception as error:
        message = _user_message(error)
        if isinstance(error, OSError) and (failure := terminal.finish_streams()) is not None:
            message = _UNWRITABLE.format(failure.strerror)
        if message is None:
            if hosts.count() == 1:
                raise
            traceback.print_exc()
            return 1
        if debug:
            traceback.print_exc()
        terminal.say(f"r1ci: {message}")
        return USER_ERROR_EXIT_STATUS


def _dispatch(words: Sequence[str]) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    parser = make_parser(_named(words))
    args, rest = parser.parse_known_args(words)
    if rest and not getattr(args, "takes_overrides", False):
        _refuse(parser.find_subparser(words), rest)
    args.overrides = rest
    if args.version:
        from r1ci_jax.cli.shell import version

        print(version.describe())
        return 0
    run = getattr(args, "run", None)
    if run is None:
        if args.command is None:
            parser.print_help()
            return USER_ERROR_EXIT_STATUS
        raise UserError(f"r1ci {args.command} needs a sub-command; see r1ci {args.command} --help")
    return run(args) or 0


def _refuse(parser: argparse.ArgumentParser, rest: Sequence[str]) -> NoReturn:
    """Refuse arguments that a command does not take; of an option, name the one like it."""
    known = [name for action in parser._actions for name in action.option_strings]
    hint = did_you_mean(rest[0].partition("=")[0], known)
    parser.error(f"unrecognized arguments: {' '.join(rest)}; {hint}")


def _named(words: Sequence[str]) -> list[str]:
    """Return the command that the words name; none if they name none."""
    named = [word for word in words if not word.startswith("-")][:1]
    if named and named[0] not in COMMANDS:
        close = suggestions.find_command(named[0], COMMANDS)
        hint = f"did you mean {close}? " if close else ""
        raise UserError(f"there is no command {named[0]!r}; {hint}r1ci --help lists all")
    return named


def make_parser(named: Iterable[str]) -> _Parser:
    """Make the parser of the named commands; without one, of the names of all."""
    parser = _Parser(
        prog="r1ci",
        description=r1ci_jax.__doc__,
        epilog="EXP is experiments/file.py[:variant]; r1ci COMMAND --help shows more.",
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--version", action="store_true", help="versions, devices and isolation of scripts"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    modules = dict.fromkeys(COMMANDS[name][0] for name in named)
    for module in modules:
        importlib.import_module(module).add_commands(commands)
    if not modules:
        for name, (_module, summary) in COMMANDS.items():
            commands.add_parser(name, help=summary)
    return parser


def _user_message(error: BaseException) -> str | None:
    """Return the one line for a user error; None for a defect of the program."""
    for cause in _causes(error):
        if isinstance(cause, UserError) and cause in (error, error.__cause__):
            return " ".join(str(cause).split())
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        # Libraries that write checkpoints wrap the error and keep only its text.
        if full or "No space left on device" in str(cause):
            name = getattr(cause, "filename", None)
            where = f" at {name}" if name else ""
            return f"disk full{where}; free space and run the same command again; a run resumes"
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        name = os.fsdecode(error.filename)
        return f"cannot use {name}: {error.strerror}; name another path or correct this one"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


if __name__ == "__main__":
    sys.exit(main())
