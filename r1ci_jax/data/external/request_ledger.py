"""What the requests to an endpoint have cost, kept on disk, so that a budget holds over all runs.

A request reserves the most that it can cost before it is sent, and is charged what it did cost when
that is known. A reservation without a charge (the process was killed, an answer was lost) counts in
full: the endpoint may have billed it.
"""

import contextlib
import threading
from pathlib import Path
from typing import Self

from r1ci_jax.data.external.endpoint_config import EndpointConfig
from r1ci_jax.runtime import metrics


class BudgetSpentError(Exception):
    """The next request could cost more than is left."""


class RequestLedger:
    """Reservations and charges of requests; thread-safe. A context manager."""

    def __init__(self, path: Path, config: EndpointConfig) -> None:
        """Read what earlier runs have spent."""
        self._config = config
        self._changed = threading.Condition()
        self._in_flight: dict[int, tuple[int, int]] = {}
        self._is_spent = False
        known: dict[int, tuple[int, int]] = {}
        fields = {"request": int, "prompt_tokens": int, "answer_tokens": int}
        for record in metrics.read(path, required=fields):
            known[record["request"]] = (record["prompt_tokens"], record["answer_tokens"])
        self.prompt_tokens = sum(prompt for prompt, _ in known.values())
        self.answer_tokens = sum(answer for _, answer in known.values())
        self._next = max(known, default=-1) + 1
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = metrics.JsonlLog(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._log.close()

    @property
    def cost(self) -> float:
        """What was spent so far, in the unit of the prices."""
        return self._config.cost(self.prompt_tokens, self.answer_tokens)

    def reserve(self, prompt_tokens: int, answer_tokens: int) -> int:
        """Reserve the most that a request can cost; wait while others may free enough for it.

        Returns the number of the request.

        Raises:
            BudgetSpentError: It could cost more than is left.
        """
        with self._changed:
            while not self._is_spent and not self._fits(prompt_tokens, answer_tokens):
                self._is_spent = not self._in_flight
                if not self._is_spent:
                    self._changed.wait()
            if self._is_spent:
                self._changed.notify_all()
                raise BudgetSpentError
            number, self._next = self._next, self._next + 1
            self._write(number, prompt_tokens, answer_tokens)
            self._in_flight[number] = (prompt_tokens, answer_tokens)
            return number

    def charge(self, number: int, usage: tuple[int, int] | None) -> None:
        """Charge a request with the tokens of its prompt and answer; None: with all it reserved."""
        with self._changed:
            reserved = self._in_flight.pop(number)
            prompt_tokens, answer_tokens = reserved if usage is None else usage
            if usage is not None:
                self._write(number, prompt_tokens, answer_tokens)
            self.prompt_tokens += prompt_tokens
            self.answer_tokens += answer_tokens
            self._changed.notify_all()

    def _fits(self, prompt_tokens: int, answer_tokens: int) -> bool:
        """Return True if the budgets have room, should all in flight cost what they reserved."""
        prompts = self.prompt_tokens + prompt_tokens + sum(p for p, _ in self._in_flight.values())
        answers = self.answer_tokens + answer_tokens + sum(a for _, a in self._in_flight.values())
        tokens, money = self._config.token_budget, self._config.money_budget
        return (not tokens or prompts + answers <= tokens) and (
            not money or self._config.cost(prompts, answers) <= money
        )

    def _write(self, number: int, prompt_tokens: int, answer_tokens: int) -> None:
        self._log.append(
            {"request": number, "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens}
        )
