"""`r1ci sandbox` has the commands doctor, setup, exec, bench and soak."""

import argparse
import dataclasses
import json
import pathlib
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from r1ci_jax.errors import UserError
from r1ci_jax.ranges import OutOfRange
from r1ci_jax.runtime import terminal
from r1ci_jax.runtime.atomic_files import write_atomic
from r1ci_jax.sandbox import ExecResult, Limits, Sandbox, SandboxConfig, Status
from r1ci_jax.sandbox.host.jail_python import MORE_PACKAGES, PACKAGES_TREE
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING
from r1ci_jax.sandbox.install import doctor, more_packages, prepare_jail
from r1ci_jax.sandbox.result import SANDBOX_FAULTS

if TYPE_CHECKING:  # the class is private to argparse
    from argparse import _SubParsersAction

    Subparsers = _SubParsersAction[argparse.ArgumentParser]

BACKENDS: Final = ("zygote", "cold", "ray")
RED: Final = "\x1b[31m{}\x1b[0m"
SANDBOX_FAULT_EXIT_STATUS: Final = 125
"""There is no verdict about the script; timeout(1) and docker say so by the same status."""
LIMIT_EXIT_STATUSES: Final = {
    Status.TIMEOUT_CPU: 124,
    Status.TIMEOUT_WALL: 124,
    Status.OOM: 128 + signal.SIGKILL,
    Status.OUTPUT_LIMIT: 128 + signal.SIGXFSZ,
    Status.SECCOMP: 128 + signal.SIGSYS,
}
"""Exit statuses of `exec` for a script that a limit ended, as timeout(1) and a shell have them."""


def add_commands(subparsers: "Subparsers") -> None:
    """Register `sandbox` and its commands; each sets `run`, which returns the exit status."""
    group = subparsers.add_parser("sandbox", help="the interpreter jail")
    commands = group.add_subparsers(dest="sandbox_command", required=True, metavar="COMMAND")

    doctor_parser = commands.add_parser("doctor", help="check that this machine can run jails")
    doctor_parser.add_argument("--json", action="store_true", help="print one JSON object")
    doctor_parser.set_defaults(run=run_doctor)
    setup_parser = commands.add_parser("setup", help="make the Python of the jails")
    setup_parser.add_argument(
        "--packages",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"also {', '.join(MORE_PACKAGES)}, for --policy {PACKAGES_TREE}",
    )
    setup_parser.set_defaults(run=run_setup)
    add_exec(commands)
    add_bench(commands)
    add_soak(commands)


def add_exec(commands: "Subparsers") -> None:
    """Register `exec`."""
    parser = commands.add_parser(
        "exec",
        help="run one script in a jail",
        description="Run one script in a jail and end with its exit status. 124: it reached a time "
        "limit; 128 + N: signal N ended it (137: memory, 153: output); 125: the jail failed.",
    )
    parser.add_argument("file", metavar="FILE", help="the script; - reads it from stdin")
    parser.add_argument("--json", action="store_true", help="print one JSON object: the result")
    add_policy(parser)
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="cold",
        help="cold (default) starts a jail for the one script; zygote a fork server, as runs have, "
        "which takes longer and limits the memory of all its processes together",
    )
    parser.add_argument(
        "--unsafe", action="store_true", help="run WITHOUT isolation, where jails cannot run"
    )
    parser.add_argument(
        "--collect",
        action="append",
        default=[],
        metavar="NAME",
        help="bring this file of /scratch back; may be repeated",
    )
    parser.add_argument(
        "--into", metavar="DIR", type=pathlib.Path, help="where collected files are written"
    )
    for field in dataclasses.fields(Limits):
        kind = float if isinstance(field.default, float) else int
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=kind, help="limit (default: the policy's)")
    parser.set_defaults(run=run_exec)


def add_bench(commands: "Subparsers") -> None:
    """Register `bench`."""
    parser = commands.add_parser("bench", help="measure both back ends on this machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object: the figures")
    add_policy(parser)
    parser.add_argument("--workers", type=int, default=2, help="scripts at a time (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="of both back ends (default 5)")
    parser.add_argument(
        "--tail", type=int, default=1000, help="runs among which slow ones are counted"
    )
    parser.add_argument(
        "--sessions", type=int, default=0, help="also measure so many open at once, e.g. 1000"
    )
    parser.set_defaults(run=run_bench)


def add_soak(commands: "Subparsers") -> None:
    """Register `soak`."""
    parser = commands.add_parser("soak", help="many mixed scripts: nothing is left, nothing grows")
    parser.add_argument("--json", action="store_true", help="print one JSON object: the report")
    add_policy(parser)
    parser.add_argument("--runs", type=int, default=10_000, help="scripts (default 10000)")
    parser.add_argument("--workers", type=int, default=2, help="scripts at a time (default 2)")
    parser.add_argument("--backend", choices=BACKENDS, default=SandboxConfig().backend)
    parser.add_argument("--seed", type=int, default=0, help="of the order of the scripts")
    parser.set_defaults(run=run_soak)


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Register `--policy`."""
    text = "a file of sandboxes/ without its ending (default: default)"
    parser.add_argument("--policy", metavar="NAME", default="default", help=text)


def run_doctor(arguments: argparse.Namespace) -> int:
    """Print every check; return 1 if one fails."""
    checks = doctor.examine()
    ok = all(check.ok for check in checks)
    if arguments.json:
        by_name = {check.name: {"ok": check.ok, "detail": check.detail} for check in checks}
        print(json.dumps({"ok": ok, "checks": by_name}))
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<11} {check.detail}")
    return 0 if ok else 1


def run_setup(arguments: argparse.Namespace) -> int:
    """Prepare the jail's Python, and add packages to it."""
    if arguments.packages:
        more_packages.add(arguments.packages)
    else:
        prepare_jail.prepare()
    return 0


def run_exec(arguments: argparse.Namespace) -> int:
    """Run the script, print its output and a verdict on stderr; return its exit status.

    A script that left a file out which was asked for does not return 0.
    """
    if bool(arguments.collect) != (arguments.into is not None):
        raise UserError("--collect NAME and --into DIR need each other; give both or none")
    code = read_code(arguments.file)
    config = exec_config(arguments)
    if config.unsafe:
        print(RED.format(UNSAFE_WARNING), file=sys.stderr, flush=True)
    if arguments.into is not None:
        make_directory(arguments.into)  # a mistake ends it before the script runs
    with Sandbox(config) as box:
        result = box.run(code, collect=arguments.collect)
    missing = [
        name for name in arguments.collect if str(pathlib.PurePath(name)) not in result.files
    ]
    if arguments.json:
        sizes = {name: len(data) for name, data in result.files.items()}
        facts = {**dataclasses.asdict(result), "files": sizes, "missing_files": missing}
        print(json.dumps(facts))
    else:
        sys.stdout.write(terminal.shown(result.stdout, sys.stdout))
        sys.stdout.flush()
        print(terminal.shown(result.stderr + summary(result), sys.stderr), file=sys.stderr)
    if arguments.into is not None:
        write_files(arguments.into, result.files)
    if missing:
        terminal.say(
            f"r1ci: not collected: {', '.join(missing)}; the script must leave a plain file of "
            f"that name in /scratch, of at most {config.limits.file_bytes} bytes (--file-bytes)"
        )
    return exit_status(result) or int(bool(missing))


def exit_status(result: ExecResult) -> int:
    """Return the exit status of a shell in which the script had run."""
    if result.status in SANDBOX_FAULTS:
        return SANDBOX_FAULT_EXIT_STATUS
    if result.status in LIMIT_EXIT_STATUSES:
        return LIMIT_EXIT_STATUSES[result.status]
    if result.signal is not None:
        return 128 + result.signal
    if result.status is Status.OK:
        return 0
    return result.exit_code or 1  # whatever status a script that failed gave itself, it is not 0


def exec_config(arguments: argparse.Namespace) -> SandboxConfig:
    """Return the policy's settings with the changes from the command line."""
    config = SandboxConfig.from_policy(
        arguments.policy, workers=1, backend=arguments.backend, unsafe=arguments.unsafe
    )
    given = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(Limits)}
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        limits = dataclasses.replace(config.limits, **changes)
    except OutOfRange as error:
        raise error.of_option() from None
    return dataclasses.replace(config, limits=limits)


def write_files(directory: pathlib.Path, files: Mapping[str, bytes]) -> None:
    """Write collected files under the requested names, never under the script's choice.

    Raises:
        UserError: A file cannot be written.
    """
    for name, data in files.items():
        path = directory / name
        make_directory(path.parent)
        try:
            write_atomic(path, data)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror}; give another directory with --into"
            ) from error


def make_directory(path: pathlib.Path) -> None:
    """Make a directory for collected files.

    Raises:
        UserError: It cannot be made, or is something else.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the directory {path}: {error.strerror}; give another one with --into"
        ) from error


def run_bench(arguments: argparse.Namespace) -> int:
    """Print the measurements; always return 0."""
    from r1ci_jax.sandbox.stress import bench

    names = ("rounds", "tail", "sessions", "workers", "policy")
    plan = bench.Plan(**{name: getattr(arguments, name) for name in names})
    figures = bench.measure(plan, bench.Progress())
    print(json.dumps(figures) if arguments.json else bench.table(figures))
    return 0


def run_soak(arguments: argparse.Namespace) -> int:
    """Print the report; return 0 only if every check passed."""
    from r1ci_jax.sandbox.stress import bench, soak

    names = ("runs", "workers", "policy", "backend", "seed")
    plan = soak.Plan(**{name: getattr(arguments, name) for name in names})
    report: dict[str, Any] = soak.soak(plan, bench.Progress())
    print(json.dumps(report) if arguments.json else soak.story(report))
    return 0 if report["ok"] else 1


def read_code(file: str) -> str:
    """Return the script's text.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        if file == "-":
            with terminal.reading_stdin() as stdin:
                data = stdin.buffer.read()
        else:
            data = pathlib.Path(file).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read {file}: {error.strerror}; give a script or - for stdin"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error.reason}); convert it") from error


def summary(result: ExecResult) -> str:
    """Return the verdict in one line."""
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
