"""Requests to an OpenAI-compatible endpoint: repeated with patience, paid for, kept on disk.

What an endpoint sends is the text of a stranger: it is limited in size, read field by field, and
shown to nobody unescaped. The key is sent to the endpoint alone; where an answer or a message of
it holds the key, it is removed before anything is kept or shown.
"""

import dataclasses
import hashlib
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from r1ci_jax import utf8
from r1ci_jax.data.external.endpoint_config import EndpointConfig
from r1ci_jax.data.external.request_ledger import RequestLedger
from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra
from r1ci_jax.runtime import atomic_files, json_reader
from r1ci_jax.text import protocol

MAX_BODY_BYTES: Final = 4 << 20
"""Bytes of one answer of an endpoint that are read."""
_MESSAGE_TOKENS: Final = 16
"""At most so many tokens are added to each message by a chat template."""
_TRANSIENT: Final = frozenset({408, 409, 425, 429})
"""Statuses after which a request is repeated; those from 500 on are too."""
_FATAL: Final = frozenset({401, 402, 404})
"""Statuses that every other request would have too."""
_SHOWN: Final = 200
_SECRET: Final = 12
"""Characters from which on a key is one: local servers take "none" or "EMPTY", which are words."""

Message = Mapping[str, str]


class EndpointFailedError(Exception):
    """One request failed, and repeating it did not help or would not."""

    def __init__(self, reason: str, *, is_request_specific: bool = False) -> None:
        """`is_request_specific`: the endpoint does not take this request; others it may."""
        super().__init__(reason)
        self.is_request_specific = is_request_specific


class StoppedError(Exception):
    """The client was stopped; no more requests are made."""


class _TryAgainError(Exception):
    """A request failed for a reason that may pass."""

    def __init__(self, reason: str, *, is_free: bool, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.is_free = is_free
        self.wait = wait


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of an endpoint."""

    text: str
    finish_reason: str
    """Why it ended, in the words of the protocol: `stop`, `length`, `content_filter`."""
    prompt_tokens: int | None
    """Tokens that the endpoint counted; None if it did not say."""
    answer_tokens: int | None


class EndpointClient:
    """A client of one endpoint; thread-safe. Every answer is kept, and asked for once only."""

    def __init__(self, config: EndpointConfig, directory: Path) -> None:
        """Connect to nothing yet; `directory` keeps the answers and what they have cost.

        Raises:
            UserError: The package `openai` is missing, or the environment has no key.
        """
        self.config = config
        key = config.key()
        self._secret = key if len(key) >= _SECRET else ""
        self._directory = directory / "answers"
        self._directory.mkdir(parents=True, exist_ok=True)
        self._stopped = threading.Event()
        self._failures = 0
        self._has_answered = False
        self._lock = threading.Lock()
        self._client = _connect(config, key)
        self.ledger = RequestLedger(directory / "requests.jsonl", config)

    def close(self) -> None:
        """End the requests that wait for their next try."""
        self._stopped.set()
        self._client.close()
        self.ledger.__exit__()

    def stop(self) -> None:
        """Let no request begin any more."""
        self._stopped.set()

    def complete(
        self, messages: Sequence[Message], *, temperature: float | None, sample: int
    ) -> Answer:
        """Return the endpoint's answer, from disk if it was given before.

        Args:
            messages: The conversation so far.
            temperature: The sampling temperature; None: the endpoint's own.
            sample: The number of the trajectory, which tells equal conversations apart.

        Raises:
            EndpointFailedError: The request failed, and its repetitions too.
            BudgetSpentError: It could cost more than is left.
            StoppedError: The client was stopped.
            UserError: The endpoint answers no request at all.
        """
        body = self._body(messages, temperature)
        path = self._path(body, sample)
        if path.exists():
            self._has_answered = True
            return _stored(path)
        try:
            answer = self._ask(body)
        except EndpointFailedError as error:
            self._note_failure(error)
            raise
        with self._lock:
            self._failures, self._has_answered = 0, True
        path.parent.mkdir(exist_ok=True)
        stored = {"request": body, "sample": sample, "answer": dataclasses.asdict(answer)}
        atomic_files.write_json(path, stored)
        return answer

    def _body(self, messages: Sequence[Message], temperature: float | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": list(messages),
            self.config.token_field: self.config.max_answer_tokens,
        }
        if temperature is not None:
            body["temperature"] = temperature
        if self.config.send_stop:
            body["stop"] = [protocol.OBSERVATION_PREFIX]
        return body

    def _path(self, body: Mapping[str, Any], sample: int) -> Path:
        named = json.dumps([self.config.url, body, sample], sort_keys=True)
        digest = hashlib.sha256(named.encode()).hexdigest()
        return self._directory / digest[:2] / f"{digest}.json"

    def _ask(self, body: Mapping[str, Any]) -> Answer:
        """Send a request until it is answered."""
        reason = ""
        for attempt in range(self.config.max_retries + 1):
            number = self.ledger.reserve(*self._bounds(body))
            if self._stopped.is_set():
                self.ledger.charge(number, (0, 0))
                raise StoppedError
            usage: tuple[int, int] | None = None
            try:
                answer = self._send(body)
                if answer.prompt_tokens is not None and answer.answer_tokens is not None:
                    usage = answer.prompt_tokens, answer.answer_tokens
                return answer
            except _TryAgainError as error:
                usage = (0, 0) if error.is_free else None
                reason, asked = str(error), error.wait
            except (EndpointFailedError, UserError):
                usage = (0, 0)
                raise
            finally:
                self.ledger.charge(number, usage)
            if attempt < self.config.max_retries and self._stopped.wait(self._wait(attempt, asked)):
                raise StoppedError
        raise EndpointFailedError(reason)

    def _wait(self, attempt: int, asked: float) -> float:
        """Return the seconds before the next try: doubled each time, never all at once."""
        planned = self.config.first_wait_seconds * 2.0**attempt
        return min(max(planned * random.uniform(0.5, 1.0), asked), self.config.longest_wait_seconds)

    def _bounds(self, body: Mapping[str, Any]) -> tuple[int, int]:
        """Return the most tokens that prompt and answer can have: a token has a byte or more."""
        sizes = [len(each["content"].encode("utf-8", "replace")) for each in body["messages"]]
        return sum(sizes) + _MESSAGE_TOKENS * (len(sizes) + 1), self.config.max_answer_tokens

    def _send(self, body: Mapping[str, Any]) -> Answer:
        import httpx2
        import openai

        end = time.monotonic() + self.config.timeout_seconds
        create = self._client.chat.completions.with_streaming_response.create
        data = bytearray()
        try:
            with create(**body) as response:
                for piece in response.iter_bytes():
                    data += piece
                    if len(data) > MAX_BODY_BYTES:
                        raise _TryAgainError("an answer too long to be one", is_free=False)
                    if time.monotonic() > end:
                        raise _TryAgainError("an answer that does not end", is_free=False)
        except openai.APIStatusError as error:
            raise self._failure(error) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__
            is_free = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
            reason = "no connection" if is_free else "a connection that was lost"
            raise _TryAgainError(reason, is_free=is_free) from None
        return self._read(bytes(data))

    def _failure(self, error: Any) -> Exception:
        """Return what follows from an answer with a status that is not 200."""
        status = error.status_code
        said = self._printable(str(getattr(error, "message", "") or ""))
        told = f"status {status} ({said})"
        if status in _FATAL or (status == 429 and "insufficient_quota" in said):
            return UserError(
                f"the endpoint answers with {told}; check its address, its model, the account and "
                f"the key in {self.config.key_variable or 'the environment'}"
            )
        if status in _TRANSIENT or status >= 500:
            return _TryAgainError(told, is_free=True, wait=_asked_wait(error.response.headers))
        return EndpointFailedError(told, is_request_specific=True)

    def _read(self, data: bytes) -> Answer:
        """Read the body of an answer field by field."""
        try:
            raw = json_reader.parse(data, "an answer", allow_surrogates=True)
            choice = raw["choices"][0]
            message = choice["message"]
            text = message["content"] if message.get("content") is not None else ""
            reason = choice.get("finish_reason") or "stop"
            usage = raw.get("usage") or {}
            tokens = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        except (json_reader.JsonError, LookupError, TypeError, AttributeError):
            raise _TryAgainError("an answer that is not of the protocol", is_free=False) from None
        if not isinstance(text, str) or not isinstance(reason, str):
            raise _TryAgainError("an answer that is not of the protocol", is_free=False)
        if not all(type(count) is int and 0 <= count < 1 << 40 for count in tokens):
            tokens = [None, None]
        return Answer(
            text=self._without_key(utf8.well_formed(text)),
            finish_reason=self._printable(reason),
            prompt_tokens=tokens[0],
            answer_tokens=tokens[1],
        )

    def _printable(self, text: str) -> str:
        """Return the beginning of a text of the endpoint that may be shown: no key, one line."""
        words = self._without_key(text).split()
        if self._secret:  # OpenAI quotes the first and the last characters of a wrong key.
            words = [word for word in words if not word.startswith(self._secret[:6])]
        shown = "".join(letter if letter.isprintable() else " " for letter in " ".join(words))
        return shown[:_SHOWN]

    def _without_key(self, text: str) -> str:
        return text.replace(self._secret, "[key]") if self._secret else text

    def _note_failure(self, error: EndpointFailedError) -> None:
        """Count failures in a row; when all fail, something is wrong that will not pass.

        Requests that are not taken count until one is: there may be many long questions in a row.
        """
        if error.is_request_specific and self._has_answered:
            return
        with self._lock:
            self._failures += 1
            is_down = self._failures >= max(self.config.concurrency, 3)
        if is_down:
            raise UserError(
                f"the endpoint failed {self._failures} times in a row, the last time with "
                f"{error}; what it has answered is kept: run the same command again when it works"
            ) from None


def _connect(config: EndpointConfig, key: str) -> Any:
    try:
        import openai
    except ImportError:
        raise UserError(
            "a teacher behind an endpoint needs the package openai; install it: "
            f"{install_extra('endpoint')}"
        ) from None
    # Repetitions are made here, where each is paid for.
    return openai.OpenAI(
        api_key=key, base_url=config.url, max_retries=0, timeout=config.timeout_seconds
    )


def _stored(path: Path) -> Answer:
    try:
        return Answer(**json_reader.read_object(path)["answer"])
    except (OSError, json_reader.JsonError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no answer that was kept ({error}); delete it") from error


def _asked_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds that the endpoint asks to wait; 0 if it does not say."""
    try:
        return max(float(headers.get("retry-after", "0")), 0.0)
    except ValueError:
        return 0.0  # a date: the doubling wait does as well
