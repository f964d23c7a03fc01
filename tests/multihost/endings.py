"""Hosts that end in different ways, as a command of `r1ci`; see test_hosts.py."""

import argparse
import os
import signal
import sys
import time

from r1ci_jax.cli import main
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import hosts, preemption


def agree() -> None:
    """All that travels between hosts."""
    me = hosts.index()
    for number in range(20):
        found = hosts.gather("numbers", {"host": me, "text": "ä" * number})
        assert found == [{"host": host, "text": "ä" * number} for host in range(3)]
    assert hosts.broadcast("first", me) == 0
    assert hosts.any_flag("second", me == 1) and not hosts.any_flag("none", False)
    hosts.require_same("the data", [1, 2])
    print(f"host {me} of {hosts.count()} is done")


def differ() -> None:
    """Different data."""
    hosts.require_same("the data", hosts.index() // 2)


def mistake() -> None:
    """One host has something for its user to mend; the others wait for it."""
    if hosts.index() == 1:
        raise UserError("the disk is full; make room")
    hosts.gather("never", None)


def defect() -> None:
    """One host fails as none should."""
    if hosts.index() == 0:
        raise ZeroDivisionError("by zero")
    hosts.gather("never", None)


def lost_first() -> None:
    """The host with the store is killed."""
    _lose(0)


def lost_second() -> None:
    """Another one is killed."""
    _lose(1)


def _lose(victim: int) -> None:
    hosts.gather("all are there", None)
    if hosts.index() == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    hosts.gather("never", None)


def late() -> None:
    """One host lives, and does not come."""
    hosts.gather("all are there", None)
    if hosts.index() == 2:
        time.sleep(600.0)
    hosts.gather("somewhere", None, seconds=5.0)


def sigterm() -> None:
    """One host is asked to stop; all do, at the same place."""
    with preemption.handle_sigterm():
        for step in range(1000):
            if step == 3 and hosts.index() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            if preemption.is_requested():
                raise preemption.preempted_error(after=f"step {step}")


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """As the modules of `cli.main.COMMANDS`."""
    parser = subparsers.add_parser("end")
    parser.add_argument("how")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    with hosts.distributed():
        globals()[args.how]()


if __name__ == "__main__":
    main.COMMANDS["end"] = ("tests.multihost.endings", "")
    sys.exit(main.main(["end", *sys.argv[1:]]))
