"""A kernel that keeps its variables from cell to cell: one for each stateful trajectory."""

import concurrent.futures
import types
from typing import Protocol, Self

from r1ci_jax.sandbox.result import ExecResult


class Session(Protocol):
    """What `Sandbox.session()` gives.

    A cell that reaches a limit is interrupted first (KeyboardInterrupt: the state is kept) and
    killed half a second later. `ExecResult.state_lost` tells that the variables are gone; the next
    cell then starts afresh. The value of a cell's last expression is printed.
    """

    def run(self, code: str) -> ExecResult:
        """Run one cell and wait for it."""
        ...

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        """Queue one cell; cells of a session run in the order they came."""
        ...

    def interrupt(self) -> None:
        """Interrupt the cell that runs, as Ctrl-C would."""
        ...

    def close(self) -> None:
        """End the kernel."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None: ...
