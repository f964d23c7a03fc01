"""The queue of scripts and cells, and the threads that pass them to workers."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, override

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.host.fork_server_client import Worker
from r1ci_jax.sandbox.host.fork_server_process import WorkerLost
from r1ci_jax.sandbox.result import SANDBOX_FAULTS, ExecResult, Status
from r1ci_jax.sandbox.session import Session
from r1ci_jax.sandbox.settings import Limits

ATTEMPTS: Final = 2
"""Largest number of runs of a script whose worker was lost; a script that fails runs once."""

Future = concurrent.futures.Future[ExecResult]


class Executor(Protocol):
    """A worker of either kind: a fork server or a cold jail."""

    worker: int

    def run(self, code: str, limits: Limits, collect: Sequence[str] = ()) -> ExecResult:
        """Run one script."""
        ...

    def stop(self) -> None:
        """End the running execution, from another thread."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


@dataclasses.dataclass(kw_only=True)
class _Job:
    """A script or cell in the queue."""

    future: Future
    work: Callable[[Executor], ExecResult]
    pinned: int | None = None
    """Index of the only worker that may run it."""
    retried: bool = True
    """True when the job is run again after a failure of the sandbox."""
    attempt: int = 1
    failed_on: int | None = None
    queued: float = dataclasses.field(default_factory=time.monotonic)


class LocalPool:
    """A pool of workers on this machine, each with its own thread."""

    def __init__(self, workers: Sequence[Executor], *, room: int, tier: str):
        self.tier = tier
        self.workers = list(workers)
        self._room = room
        self._waiting: collections.deque[_Job] = collections.deque()
        self._pinned = [collections.deque[_Job]() for _ in workers]
        self._changed = threading.Condition()
        self._closing = False
        self._broken: BaseException | None = None
        self._process = os.getpid()
        self._sessions = [0 for _ in workers]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"sandbox-{worker.worker}")
            for worker in workers
        ]
        for thread in self._threads:
            thread.daemon = True  # a program without a call to close() can still end
            thread.start()

    def submit(self, code: str, limits: Limits, collect: Sequence[str]) -> Future:
        """Queue one script; block while the queue is full."""
        return self._queue(
            _Job(future=Future(), work=lambda worker: worker.run(code, limits, collect))
        )

    def session(self, limits: Limits) -> Session:
        """Open a session on the worker with the fewest sessions."""
        if not isinstance(self.workers[0], Worker):
            raise UserError('sessions need sandbox.backend = "zygote" with isolation')
        with self._changed:
            index = min(range(len(self.workers)), key=self._sessions.__getitem__)
            self._sessions[index] += 1
        return LocalSession(self, index, limits)

    def close(self) -> None:
        """Drop waiting jobs, end running ones, and remove everything the pool created."""
        if os.getpid() != self._process:
            return  # a forked child: everything belongs to its parent
        with self._changed:
            if self._closing:
                return
            self._closing = True
            dropped = [*self._waiting, *(job for jobs in self._pinned for job in jobs)]
            self._waiting.clear()
            for jobs in self._pinned:
                jobs.clear()
            self._changed.notify_all()
        for job in dropped:
            job.future.cancel()
        for worker in self.workers:
            worker.stop()
        for thread in self._threads:
            thread.join()
        for worker in self.workers:
            worker.close()

    def pin(self, index: int, work: Callable[[Executor], ExecResult]) -> Future:
        """Queue work for one worker; it is not repeated when the sandbox fails."""
        return self._queue(_Job(future=Future(), work=work, pinned=index, retried=False))

    def release(self, index: int) -> None:
        """Note that a session of this worker has ended."""
        with self._changed:
            self._sessions[index] -= 1

    def _queue(self, job: _Job) -> Future:
        if os.getpid() != self._process:
            raise RuntimeError(
                "a sandbox does not work in a forked child of the process that opened it; open one "
                "in the child"
            )
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or self._broken or self._count() < self._room
            )
            if self._closing:
                raise RuntimeError("the sandbox is closed")
            if self._broken is not None:
                raise RuntimeError("the sandbox is broken by a defect") from self._broken
            if job.pinned is None:
                self._waiting.append(job)
            else:
                self._pinned[job.pinned].append(job)
            self._changed.notify_all()
        return job.future

    def _count(self) -> int:
        return len(self._waiting) + sum(map(len, self._pinned))

    def _serve(self, worker: Executor) -> None:
        """Run jobs on one worker; this is the body of its thread."""
        try:
            if isinstance(worker, Worker):
                # Tried again, and reported, by the run of the first script.
                with contextlib.suppress(WorkerLost, OSError):
                    worker.start()
            while (job := self._take(worker.worker)) is not None:
                if job.attempt > 1 or job.future.set_running_or_notify_cancel():
                    self._run(job, worker)
        except BaseException as error:  # our own defect: nobody may wait for this thread
            self._break(error)

    def _run(self, job: _Job, worker: Executor) -> None:
        """Run one job, and set its future unless another worker tries it again."""
        waited = time.monotonic() - job.queued
        try:
            result = job.work(worker)
            if self._maybe_retry(job, result, worker.worker):
                return
        except BaseException as error:  # our own defect; raised where the result is awaited
            job.future.set_exception(error)
            return
        job.future.set_result(
            dataclasses.replace(result, queue_seconds=waited, attempt=job.attempt)
        )

    def _break(self, error: BaseException) -> None:
        """End every waiting call with this error, and refuse further ones."""
        with self._changed:
            self._broken = error
            waiting = [*self._waiting, *(job for jobs in self._pinned for job in jobs)]
            self._waiting.clear()
            for jobs in self._pinned:
                jobs.clear()
            self._changed.notify_all()
        for job in waiting:
            if job.attempt > 1 or job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)

    def _take(self, index: int) -> _Job | None:
        """Return the next job for this worker; None when the pool closes."""
        with self._changed:
            while not self._closing:
                if job := self._next(index):
                    self._changed.notify_all()  # the queue has room again
                    return job
                self._changed.wait()
        return None

    def _next(self, index: int) -> _Job | None:
        if self._pinned[index]:
            return self._pinned[index].popleft()
        for position, job in enumerate(self._waiting):
            if job.failed_on != index or len(self.workers) == 1:
                del self._waiting[position]
                return job
        return None

    def _maybe_retry(self, job: _Job, result: ExecResult, index: int) -> bool:
        """Put a job at the head of the queue, for another worker, when the sandbox failed."""
        if result.status not in SANDBOX_FAULTS or not job.retried or job.attempt >= ATTEMPTS:
            return False
        with self._changed:
            if self._closing:
                return False
            job.attempt += 1
            job.failed_on = index
            self._waiting.appendleft(job)
            self._changed.notify_all()
        return True


class LocalSession(Session):
    """A session whose process runs in one of the workers; its first cell starts it."""

    def __init__(self, pool: LocalPool, index: int, limits: Limits):
        self._pool = pool
        self._index = index
        self._limits = limits
        self._number: int | None = None
        self._closed = False

    @override
    def submit(self, code: str) -> Future:
        """Queue one cell."""
        if self._closed:
            raise RuntimeError("the session is closed")
        return self._pool.pin(self._index, lambda worker: self._cell(worker, code))

    @override
    def interrupt(self) -> None:
        """Interrupt the running cell."""
        if self._number is not None:
            self._worker.interrupt(self._number)

    @override
    def close(self) -> None:
        """End the session's process."""
        if self._closed:
            return
        self._closed = True
        try:
            self._pool.pin(self._index, self._end).result()
        except (RuntimeError, concurrent.futures.CancelledError):
            return  # the sandbox is closed, and so is the session
        self._pool.release(self._index)

    @property
    def _worker(self) -> Worker:
        worker = self._pool.workers[self._index]
        assert isinstance(worker, Worker)
        return worker

    def _cell(self, executor: Executor, code: str) -> ExecResult:
        worker = self._worker
        if self._number is not None and self._number not in worker.sessions:
            self._number = None
            return ExecResult(
                status=Status.INFRA_ERROR,
                detail="the worker was lost and the session's state with it",
                state_lost=True,
                worker=executor.worker,
            )
        if self._number is None:
            try:
                self._number = worker.open(self._limits)
            except (WorkerLost, OSError) as error:
                return ExecResult(
                    status=Status.INFRA_ERROR,
                    detail=str(error),
                    state_lost=True,
                    worker=executor.worker,
                )
        result = worker.cell(self._number, code, self._limits)
        if result.state_lost:
            self._number = None
        return result

    def _end(self, executor: Executor) -> ExecResult:
        if self._number is not None:
            self._worker.close_session(self._number)
            self._number = None
        return ExecResult(status=Status.OK, worker=executor.worker)
