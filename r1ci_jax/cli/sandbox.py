"""`r1ci sandbox doctor` and `r1ci sandbox exec`."""

import argparse
import dataclasses
import json
import pathlib
import sys
from typing import TYPE_CHECKING

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import ExecResult, Limits, Sandbox, SandboxConfig, Status, doctor

if TYPE_CHECKING:  # the class is private to argparse
    from argparse import _SubParsersAction

    Subparsers = _SubParsersAction[argparse.ArgumentParser]


def add_commands(subparsers: "Subparsers") -> None:
    """Register `sandbox` and its commands; each sets `run`: arguments in, exit status out."""
    group = subparsers.add_parser("sandbox", help="the interpreter jail")
    commands = group.add_subparsers(dest="sandbox_command", required=True, metavar="COMMAND")

    doctor_parser = commands.add_parser("doctor", help="check that this machine can run jails")
    doctor_parser.add_argument("--json", action="store_true", help="print one JSON object")
    doctor_parser.set_defaults(run=run_doctor)

    execute = commands.add_parser("exec", help="run one script in a jail")
    execute.add_argument("file", metavar="FILE", help="the script; - reads it from stdin")
    execute.add_argument("--json", action="store_true", help="print one JSON object: the result")
    for field in dataclasses.fields(Limits):
        kind = float if isinstance(field.default, float) else int
        option = "--" + field.name.replace("_", "-")
        text = f"limit (default {field.default})"
        execute.add_argument(option, type=kind, default=field.default, help=text)
    execute.set_defaults(run=run_exec)


def run_doctor(arguments: argparse.Namespace) -> int:
    """Print every check; status 1 when one fails."""
    checks = doctor.examine()
    ok = all(check.ok for check in checks)
    if arguments.json:
        by_name = {check.name: {"ok": check.ok, "detail": check.detail} for check in checks}
        print(json.dumps({"ok": ok, "checks": by_name}))
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<11} {check.detail}")
    return 0 if ok else 1


def run_exec(arguments: argparse.Namespace) -> int:
    """Run the script; output on its own streams, verdict on stderr, status 0 only for ok."""
    code = read_code(arguments.file)
    limits = Limits(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(Limits)})
    with Sandbox(SandboxConfig(limits=limits, workers=1)) as box:
        result = box.run(code)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(result)))
    else:
        sys.stdout.write(result.stdout)
        sys.stdout.flush()
        print(result.stderr + summary(result), file=sys.stderr)
    return 0 if result.status is Status.OK else 1


def read_code(file: str) -> str:
    """The script's text.

    Raises:
        UserError: it cannot be read.
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else pathlib.Path(file).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read {file}: {error.strerror}; give a script or - for stdin"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error.reason}); convert it") from error


def summary(result: ExecResult) -> str:
    """The verdict in one line."""
    parts = [str(result.status)]
    if result.exit_code is not None:
        parts.append(f"exit {result.exit_code}")
    if result.signal is not None:
        parts.append(f"signal {result.signal}")
    parts.append(f"cpu {result.cpu_seconds:.3f} s, wall {result.wall_seconds:.3f} s")
    parts.append(f"{result.max_rss_bytes >> 20} MiB")
    if result.stdout_truncated or result.stderr_truncated:
        parts.append("output truncated")
    if result.detail:
        parts.append(result.detail)
    return f"[{'; '.join(parts)}]"
