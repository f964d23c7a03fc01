"""Execute a launch plan: the commands of a step in parallel, until the first failure."""

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
from r1ci_jax.runtime import terminal
from r1ci_jax.tools.launch.job import Command, LaunchPlan, Step

POLL_SECONDS = 0.1
SIGTERM_SECONDS = 10.0
READ_SECONDS = 2.0
WIDTH = 160
"""Characters of a command that an error message shows."""


def check_programs(plan: LaunchPlan) -> None:
    """Refuse to start a launch that a missing program would break in the middle."""
    needed = {command[0] for step in plan.steps for command in step.commands}
    missing = sorted(program for program in needed if shutil.which(program) is None)
    if missing:
        raise UserError(
            f"{', '.join(missing)} is not on PATH; docs/tpu.md says how to install it, and "
            "--dry-run shows the commands without it"
        )


def execute(plan: LaunchPlan, *, root: Path, stream: TextIO) -> None:
    """Run every step in the checkout; output goes to `stream`.

    Raises:
        UserError: a command failed; the follow-up commands are printed before.
    """
    for number, step in enumerate(plan.steps, start=1):
        print(f"[{number}/{len(plan.steps)}] {step.description}", file=stream, flush=True)
        try:
            failed = _run(step.commands, root, stream)
        except KeyboardInterrupt:
            _show(plan.after(plan.steps[:number]), stream)
            raise
        if failed is None:
            continue
        command, status = failed
        if step.on_failure:
            print("stopping the other workers", file=stream, flush=True)
            _run_all(step.on_failure, root, stream)
        _show(plan.after(plan.steps[:number]), stream)
        line = shlex.join(command)
        shown = line if len(line) <= WIDTH else f"{line[:WIDTH]}..."
        raise UserError(
            f"step {number} of {len(plan.steps)} failed with exit status {status}: {shown}"
        )


def _run(commands: Sequence[Command], root: Path, stream: TextIO) -> tuple[Command, int] | None:
    """Run all commands in parallel; the first that fails ends the others and is returned."""
    with _running(commands, root, stream) as processes:
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
    """Run all commands in parallel and ignore their failures: an earlier one is reported."""
    with _running(commands, root, stream) as processes:
        for process in processes:
            process.wait()


@contextlib.contextmanager
def _running(
    commands: Sequence[Command], root: Path, stream: TextIO
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start processes and show their output, each line with a number if there are several."""
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
                encoding="utf-8",
                errors="replace",
            )
            processes.append(process)
            assert process.stdout is not None
            label = f"[{number}] " if len(commands) > 1 else ""
            arguments = (process.stdout, label, stream)
            reader = threading.Thread(target=_show_output, args=arguments, daemon=True)
            reader.start()
            readers.append(reader)
        yield processes
    finally:
        _end(processes)
        for reader in readers:
            reader.join(READ_SECONDS)  # a connection that ssh keeps for later holds the pipe open


def _show_output(output: IO[str], label: str, stream: TextIO) -> None:
    for line in output:
        print(f"{label}{terminal.shown(line, stream)}", end="", file=stream, flush=True)


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """End the processes that still run here, and their children; remote workers continue."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        _signal(process, signal.SIGTERM)
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SIGTERM_SECONDS)
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal the process and its children: the group exists while any of them does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _show(steps: Sequence[Step], stream: TextIO) -> None:
    for step in steps:
        print(f"{step.description}", file=stream)
        for command in step.commands:
            print(f"    {shlex.join(command)}", file=stream)
    stream.flush()
