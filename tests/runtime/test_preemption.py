"""The first SIGTERM asks, the second one ends; outside nothing has changed."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1ci_jax.errors import Resume
from r1ci_jax.runtime import preemption
from tests.load import PATIENCE


def test_the_first_sigterm_only_asks(capfd):
    before = signal.getsignal(signal.SIGTERM)
    with preemption.handle_sigterm():
        preemption.raise_if_preempted()
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.is_requested()
        with pytest.raises(Resume, match=r"^stopped by SIGTERM; the same command resumes$"):
            preemption.raise_if_preempted()
    assert not preemption.is_requested()
    assert signal.getsignal(signal.SIGTERM) == before
    assert capfd.readouterr().err.count("a second one ends the run at once") == 1


def test_where_nobody_listens_nothing_is_asked():
    assert not preemption.is_requested()
    preemption.raise_if_preempted()


def test_the_second_sigterm_ends_the_process():
    code = """
import os, signal
from r1ci_jax.runtime import preemption
with preemption.handle_sigterm():
    os.kill(os.getpid(), signal.SIGTERM)
    print("asked", preemption.is_requested(), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("survived", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.stdout, done.returncode) == ("asked True\n", -signal.SIGTERM)


def test_what_was_done_before_is_named():
    assert str(preemption.preempted_error(after="sft step 7")) == (
        "stopped by SIGTERM after sft step 7; the same command resumes"
    )


@pytest.fixture
def hears_hang_ups() -> Iterator[None]:
    """The tests may have been begun by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hears_hang_ups")
def test_a_hang_up_asks_however_often_it_comes():
    before = signal.getsignal(signal.SIGHUP)
    with preemption.handle_sigterm():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(Resume, match=r"^stopped by SIGHUP; the same command resumes$"):
            preemption.raise_if_preempted()
        os.kill(os.getpid(), signal.SIGTERM)  # the first of its kind ends nothing either
    assert signal.getsignal(signal.SIGHUP) == before
    assert str(preemption.preempted_error()).startswith("stopped by SIGTERM")


def test_nohup_stays_deaf():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with preemption.handle_sigterm():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not preemption.is_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hears_hang_ups")
def test_a_run_whose_terminal_is_closed_saves(tmp_path: Path):
    code = """
import fcntl, pathlib, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from r1ci_jax.runtime import preemption
with preemption.handle_sigterm():
    print("ready", flush=True)
    while not preemption.is_requested():
        time.sleep(0.01)
    for stream in (sys.stdout, sys.stderr):
        print("saving" * 1000, file=stream, flush=True)
    pathlib.Path(sys.argv[1]).write_text(str(preemption.preempted_error()))
"""
    saved = tmp_path / "saved"
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(saved)],
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    shown = b""
    while b"ready" not in shown:
        shown += os.read(terminal, 1000)
    os.close(terminal)  # the kernel sends SIGHUP
    assert process.wait(timeout=PATIENCE) == 0
    assert saved.read_text() == "stopped by SIGHUP; the same command resumes"
