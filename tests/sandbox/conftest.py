"""One sandbox per back end for the whole session, with limits small enough to be hit in tests."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator

import pytest

from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig, Session, Status
from tests.load import PATIENCE

POLICY = SandboxConfig.from_policy("default").limits
# The policy's own, but for what a test would wait long to meet.
LIMITS = dataclasses.replace(
    POLICY,
    cpu_seconds=2.0,
    wall_seconds=120.0,
    output_bytes=POLICY.output_bytes // 4,
    processes=POLICY.processes // 2,
    file_bytes=POLICY.file_bytes // 4,
)


@pytest.fixture(scope="session", params=["zygote", "cold"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Every test that uses it runs on both back ends."""
    with Sandbox(SandboxConfig(limits=LIMITS, workers=2, backend=request.param)) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def session_box() -> Iterator[Sandbox]:
    """The sandbox of the sessions."""
    with Sandbox(SandboxConfig(limits=LIMITS, workers=2, backend="zygote")) as sandbox:
        yield sandbox


@pytest.fixture
def session(session_box: Sandbox) -> Iterator[Session]:
    """A fresh kernel."""
    with session_box.session() as opened:
        yield opened


@pytest.fixture(scope="session")
def policy_limits() -> Limits:
    """The numbers of the default policy, for the cases that are about these numbers."""
    return POLICY


@pytest.fixture(scope="session")
def patient() -> Limits:
    """Room for scripts that import much on a busy machine."""
    return dataclasses.replace(LIMITS, cpu_seconds=20.0, wall_seconds=120.0)


TRY = """
import os, errno
def attempt(name, action):
    try: print(name, "DONE", action())
    except OSError as e: print(name, errno.errorcode[e.errno])
"""


@pytest.fixture
def outcomes(box: Sandbox, patient: Limits) -> Callable[[str], dict[str, str]]:
    """What each `attempt(name, action)` of some code ends in: an errno's name or DONE."""

    def run(code: str) -> dict[str, str]:
        result = box.run(TRY + code, patient)
        assert result.status is Status.OK, result
        return {line.split()[0]: line.split()[1] for line in result.stdout.splitlines()}

    return run


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            found |= {child} | _descendants(child)
    return found


@pytest.fixture(scope="session")
def descendants() -> Callable[[int], set[int]]:
    """All processes below one."""
    return _descendants


def _eventually(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="session")
def eventually() -> Callable[..., bool]:
    """Wait until a condition holds; False when it does not in time."""
    return _eventually
