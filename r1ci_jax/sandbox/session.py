"""A kernel that keeps its variables from cell to cell: one for each stateful trajectory."""

import abc
import concurrent.futures
from typing import Self

from r1ci_jax.sandbox.result import ExecResult


class Session(abc.ABC):
    """What `Sandbox.session()` gives; the kernel starts with the first cell.

    A cell that reaches a limit is interrupted first (KeyboardInterrupt: the state is kept) and
    killed half a second later. `ExecResult.state_lost` tells that the variables are gone; the next
    cell then starts afresh. The value of a cell's last expression is printed.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, code: str) -> ExecResult:
        """Run one cell and wait for it."""
        return self.submit(code).result()

    @abc.abstractmethod
    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        """Queue one cell; cells of a session run in the order they came."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Interrupt the cell that runs, as Ctrl-C would; its variables stay."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the kernel."""
