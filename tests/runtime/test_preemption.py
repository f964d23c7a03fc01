"""The first SIGTERM asks, the second one ends; outside nothing has changed."""

import os
import signal
import subprocess
import sys

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
