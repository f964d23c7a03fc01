"""Sessions: interpreters that keep their variables from cell to cell."""

import abc
import concurrent.futures
from typing import Self

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.result import ExecResult


def require_text(code: object) -> None:
    """Raise UserError unless a script is a text."""
    if not isinstance(code, str):
        raise UserError(
            f"a script is a text, not {type(code).__name__}; pass its source, as in 'print(6 * 7)'"
        )


class Session(abc.ABC):
    """The session that `Sandbox.session()` returns; its first cell starts its process.

    A cell that reaches a limit is interrupted first, by a KeyboardInterrupt that keeps the state,
    and killed half a second later. If `ExecResult.state_lost` is true, the variables are lost, and
    the next cell starts with none. The value of a cell's last expression is printed.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, code: str) -> ExecResult:
        """Run one cell and wait for it; raise UserError if `code` is no text."""
        require_text(code)
        return self.submit(code).result()

    @abc.abstractmethod
    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        """Queue one cell; cells of a session run one after the other, as submitted."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Interrupt the running cell, as Ctrl-C would; its variables stay."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the session and its process."""
