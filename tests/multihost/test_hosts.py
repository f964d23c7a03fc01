"""Collectives between hosts, and the end of all hosts when one ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

import pytest

from r1ci_jax.errors import RESUME_EXIT_STATUS, USER_ERROR_EXIT_STATUS, UserError
from r1ci_jax.runtime import hosts
from tests.load import PATIENCE
from tests.multihost.conftest import SILENCE, Host, Start


def ended(start_hosts: Start, how: str) -> list[Host]:
    """Three hosts that have ended."""
    found = start_hosts("tests.multihost.endings", how, hosts=3, devices=1)
    for host in found:
        host.wait()
    return found


def test_hosts_agree(start_hosts: Start) -> None:
    for number, host in enumerate(ended(start_hosts, "agree")):
        assert host.process.returncode == 0, host.said
        assert host.last_line == f"host {number} of 3 is done"


@pytest.mark.parametrize(
    ("how", "status", "line"),
    [
        ("differ", USER_ERROR_EXIT_STATUS, "the data of host 2 differs from that of host 0"),
        ("mistake", USER_ERROR_EXIT_STATUS, "the disk is full; make room"),
        ("defect", 1, "ZeroDivisionError: by zero"),
        ("late", RESUME_EXIT_STATUS, "host 2 is alive but did not reach 'somewhere' in 5 s"),
        (
            "sigterm",
            RESUME_EXIT_STATUS,
            "stopped by SIGTERM after step 3; the same command resumes",
        ),
    ],
)
def test_all_end_for_the_same_reason(start_hosts: Start, how: str, status: int, line: str) -> None:
    for host in ended(start_hosts, how):
        assert host.process.returncode == status, host.said
        assert line in host.last_line, host.said


@pytest.mark.parametrize("index", [0, 1])
def test_a_host_that_is_alone_gives_up_with_one_line(index: int) -> None:
    """JAX would abort it from C++; a port that nobody listens on, and no second host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = (
        "from r1ci_jax.runtime import hosts\n"
        "with hosts.distributed(start_timeout=2.0):\n"
        "    print('found')\n"
    )
    of_host = {"R1CI_COORDINATOR": address, "R1CI_PROCESSES": "2", "R1CI_PROCESS_ID": str(index)}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **of_host},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == USER_ERROR_EXIT_STATUS
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1] == (
        "r1ci: the hosts did not find each other (not all were there after 2 s); start the same "
        "command on each of them, with the R1CI_COORDINATOR of host 0"
    )


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("lost_first", "host 0, the coordinator, is lost"),
        ("lost_second", f"host 1 is lost: no heartbeat for {SILENCE:g} s"),
    ],
)
def test_a_lost_host_ends_the_others(start_hosts: Start, how: str, line: str) -> None:
    victim, *others = sorted(ended(start_hosts, how), key=lambda host: host.process.returncode)
    assert victim.process.returncode == -signal.SIGKILL
    for host in others:
        assert host.process.returncode == RESUME_EXIT_STATUS, host.said
        assert line in host.last_line  # from itself, or told by another
        assert host.last_line.endswith("; the same command on all hosts resumes")


@pytest.mark.parametrize(
    ("environment", "coordinator"),
    [
        ({}, None),
        ({"R1CI_MULTIHOST": "0"}, None),
        ({"R1CI_MULTIHOST": "1"}, hosts.Coordinator()),
        (
            {"R1CI_COORDINATOR": "h:1", "R1CI_PROCESSES": "2", "R1CI_PROCESS_ID": "1"},
            hosts.Coordinator("h:1", 2, 1),
        ),
        ({"R1CI_COORDINATOR": "h:1", "R1CI_PROCESSES": "1", "R1CI_PROCESS_ID": "0"}, None),
    ],
)
def test_the_environment_names_the_coordinator(
    environment: Mapping[str, str], coordinator: hosts.Coordinator | None
) -> None:
    assert hosts.read_coordinator(environment) == coordinator


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"R1CI_PROCESSES": "2"}, "R1CI_COORDINATOR is not set"),
        ({"R1CI_COORDINATOR": "h:1", "R1CI_PROCESSES": "2"}, "R1CI_PROCESS_ID is not set"),
        (
            {"R1CI_COORDINATOR": "h:1", "R1CI_PROCESSES": "2", "R1CI_PROCESS_ID": "2"},
            "number the hosts from 0",
        ),
        (
            {"R1CI_COORDINATOR": "h", "R1CI_PROCESSES": "2", "R1CI_PROCESS_ID": "1"},
            "must be HOST:PORT",
        ),
    ],
)
def test_a_wrong_environment_is_refused(environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        hosts.read_coordinator(environment)


def test_one_host_is_alone() -> None:
    with hosts.distributed({}):
        assert (hosts.index(), hosts.count(), hosts.is_first()) == (0, 1, True)
        assert hosts.gather("x", [1]) == [[1]] and hosts.any_flag("x", True)
        hosts.require_same("x", 1)
