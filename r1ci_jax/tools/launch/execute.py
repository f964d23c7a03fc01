"""Carrying a recipe out: the commands of a step side by side, and an end at the first failure."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TextIO

from r1ci_jax.errors import UserError
from r1ci_jax.tools.launch.job import Command, LaunchPlan

POLL_SECONDS = 0.1
SIGTERM_SECONDS = 10.0
READ_SECONDS = 2.0
WIDTH = 160
"""Characters of a command that an error shows."""


def check_programs(recipe: LaunchPlan) -> None:
    """Refuse to start what could not be ended."""
    needed = {command[0] for step in recipe.steps for command in step.commands}
    missing = sorted(program for program in needed if shutil.which(program) is None)
    if missing:
        raise UserError(
            f"{', '.join(missing)} is not on PATH; docs/tpu.md says how to install it, and "
            "--dry-run shows the commands without it"
        )


def execute(recipe: LaunchPlan, *, root: Path, stream: TextIO) -> None:
    """Run every step in the checkout; output goes to `stream`.

    Raises:
        UserError: a command failed; what is left running is said before.
    """
    for number, step in enumerate(recipe.steps, start=1):
        print(f"[{number}/{len(recipe.steps)}] {step.description}", file=stream, flush=True)
        try:
            failed = _run(step.commands, root, stream)
        except KeyboardInterrupt:
            _show_later(recipe, stream)
            raise
        if failed is None:
            continue
        command, status = failed
        if step.on_failure:
            print("stopping the others", file=stream, flush=True)
            _run_all(step.on_failure, root, stream)
        _show_later(recipe, stream)
        line = shlex.join(command)
        shown = line if len(line) <= WIDTH else f"{line[:WIDTH]}..."
        raise UserError(
            f"step {number} of {len(recipe.steps)} failed with exit status {status}: {shown}"
        )


def _run(commands: Sequence[Command], root: Path, stream: TextIO) -> tuple[Command, int] | None:
    """All at once; the first that fails ends the others and is returned."""
    with _started(commands, root, stream) as processes:
        waiting = dict(zip(commands, processes, strict=True))
        while waiting:
            for command, process in list(waiting.items()):
                status = process.poll()
                if status is None:
                    continue
                if status != 0:
                    return command, status
                del waiting[command]
            time.sleep(POLL_SECONDS)
    return None


def _run_all(commands: Sequence[Command], root: Path, stream: TextIO) -> None:
    """All at once, whatever becomes of each: the failure that led here is what is reported."""
    with _started(commands, root, stream) as processes:
        for process in processes:
            process.wait()


@contextlib.contextmanager
def _started(
    commands: Sequence[Command], root: Path, stream: TextIO
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes whose output is shown, with a number before each line if there are several."""
    processes: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    try:
        for number, command in enumerate(commands):
            process = subprocess.Popen(
                command,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,  # gcloud starts an ssh of its own, which must end with it
                text=True,
                errors="replace",
            )
            processes.append(process)
            assert process.stdout is not None
            label = f"[{number}] " if len(commands) > 1 else ""
            arguments = (process.stdout, label, stream)
            reader = threading.Thread(target=_show, args=arguments, daemon=True)
            reader.start()
            readers.append(reader)
        yield processes
    finally:
        _end(processes)
        for reader in readers:
            reader.join(READ_SECONDS)  # a connection that ssh keeps for later holds the pipe open


def _show(output: IO[str], label: str, stream: TextIO) -> None:
    for line in output:
        print(f"{label}{line}", end="", file=stream, flush=True)


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """What still runs here is ended, with what it has started; workers go on."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        _signal(process, signal.SIGTERM)
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SIGTERM_SECONDS)
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """To the process and its children: the group is there while any of them is."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _show_later(recipe: LaunchPlan, stream: TextIO) -> None:
    for step in recipe.follow_up:
        print(f"{step.description}", file=stream)
        for command in step.commands:
            print(f"    {shlex.join(command)}", file=stream)
    stream.flush()
