"""Runs of several real processes, each a host with CPU devices of its own."""

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.conftest import ROOT
from tests.load import PATIENCE

SILENCE = 8.0
"""Seconds after which a host counts as lost; the machine may be busy."""


class Host:
    """One process of a run, and what it said."""

    def __init__(
        self, words: Sequence[str], log: pathlib.Path, environment: dict[str, str]
    ) -> None:
        self._log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env={**os.environ, **environment},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def last_line(self) -> str:
        return self.said.splitlines()[-1]

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)


Start = Callable[..., list[Host]]


@pytest.fixture
def start_hosts(tmp_path: pathlib.Path) -> Iterator[Start]:
    """Starts `python -m` with these words on so many hosts."""
    started: list[Host] = []

    def start(*words: str, hosts: int = 2, devices: int = 4) -> list[Host]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        here = {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "R1CI_COORDINATOR": f"127.0.0.1:{port}",
            "R1CI_PROCESSES": str(hosts),
            "R1CI_HOST_TIMEOUT": str(SILENCE),
        }
        new = [
            Host(
                words,
                tmp_path / f"host{number}_{time.monotonic_ns()}.log",
                {**here, "R1CI_PROCESS_ID": str(number)},
            )
            for number in range(hosts)
        ]
        started.extend(new)
        return new

    yield start
    for host in started:
        host.process.kill()
        host.process.wait()
