"""Generate the questions of many tasks in parallel, each task in one process.

The processes only generate; the caller writes the questions. So the datasets do not depend on
the number of processes, and a process needs neither TFDS nor JAX.
"""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import question_splits
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example

TASKS_PER_PROCESS = 8
"""Fewest tasks per process: a process takes half a second to start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratedTask:
    """All questions of one task."""

    task: str
    splits: dict[str, list[Example]]
    seconds: float
    """Wall time that generation took."""


def num_processes(tasks: int, jobs: int | None = None) -> int:
    """Return the number of processes: `jobs` if given, else by the number of processors."""
    if jobs is None:
        jobs = min(len(os.sched_getaffinity(0)), tasks // TASKS_PER_PROCESS)
    elif jobs < 1:
        raise UserError(f"--jobs {jobs}: at least one process is needed")
    return max(1, min(jobs, tasks))


def generate_all(
    names: Sequence[str],
    questions: DatasetConfig,
    *,
    seed: int,
    jobs: int | None = None,
    reserved: frozenset[bytes] = frozenset(),
) -> Iterator[GeneratedTask]:
    """Yield the questions of every task, in the order in which they are ready.

    Args:
        names: The names of the tasks.
        questions: The numbers of questions and their difficulties.
        seed: The seed that determines the questions.
        jobs: The number of processes; None: `num_processes` decides.
        reserved: Keys of questions that must not be trained on.

    Raises:
        UserError: `question_splits.generate_splits` raised it, or a process was killed.
    """
    if num_processes(len(names), jobs) == 1:
        for name in names:
            yield _generate(name, questions, seed, reserved)
        return
    # The processes are not forked: the caller may run JAX, whose threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    lifeline, ours = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        num_processes(len(names), jobs),
        mp_context=context,
        initializer=_initialize_worker,
        initargs=(lifeline, registry.registered(), reserved),
    )
    try:
        waiting = {pool.submit(_generate_here, name, questions, seed) for name in names}
        while waiting:
            # Results are released one by one, so that written questions do not stay in memory.
            ready, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            while ready:
                yield ready.pop().result()
    except BaseException as error:
        ours.close()  # Nobody waits for the questions that are still being generated.
        if not isinstance(error, BrokenProcessPool):
            raise
        raise UserError(
            "a question worker crashed (see its output above; no output usually means that it was "
            "killed, perhaps for want of memory); run the same again with --jobs 1: it resumes"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        ours.close()
        lifeline.close()


def _generate(
    name: str, questions: DatasetConfig, seed: int, reserved: frozenset[bytes]
) -> GeneratedTask:
    began = time.monotonic()
    splits = question_splits.generate_splits(
        registry.get(name), questions, seed=seed, reserved=reserved
    )
    return GeneratedTask(task=name, splits=splits, seconds=time.monotonic() - began)


# --- in a process of the pool ---

_reserved: frozenset[bytes] = frozenset()


def _initialize_worker(
    lifeline: Connection, added: Mapping[str, tuple[str, str]], reserved: frozenset[bytes]
) -> None:
    """Set up a new process."""
    global _reserved  # The data that every task of this process needs is sent once.
    _reserved = reserved
    # An interrupt reaches the whole process group; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with, args=(lifeline,), daemon=True, name="lifeline").start()
    for name, (location, suite) in added.items():
        # The main module, which a new process also imports, may have registered it already.
        if name not in registry.names():
            registry.register(name, location, suite=suite)


def _exit_with(lifeline: Connection) -> None:
    """Exit when the parent ends or gives up: else a pool's process would run or wait forever."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()  # Nothing is ever sent.
    os._exit(1)


def _generate_here(name: str, questions: DatasetConfig, seed: int) -> GeneratedTask:
    return _generate(name, questions, seed, _reserved)
