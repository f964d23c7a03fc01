"""The endpoint's paths: /v1/chat/completions and /v1/models, as a Starlette application."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final, override

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from r1ci_jax.config import SamplingParams
from r1ci_jax.rollout.trajectory import RolloutId, StopReason
from r1ci_jax.text import chatml
from r1ci_jax.text.chatml import ChatMessage
from r1ci_jax.tools.serve import access, answer_service, chat_request, chat_response
from r1ci_jax.tools.serve.answer_service import AnswerService, End, Failure, Output, Prompt, Words
from r1ci_jax.tools.serve.chat_request import ChatRequest, Outputs, RequestError
from r1ci_jax.tools.serve.chat_response import ChoiceText, Completion

CLIENT_CLOSED: Final = 499
"""Status for the log alone: the client has gone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How the endpoint answers where a request says nothing."""

    model: str
    """Name of the model in requests."""
    sampling: SamplingParams
    system: str = ""
    """System message of conversations that have none."""
    instructions: str = ""
    """Text before the first user message of each conversation."""
    max_tokens: int
    """Sampled tokens of an answer."""
    outputs: Outputs = "separate"
    max_body_bytes: int = 1 << 20
    host: str = "127.0.0.1"
    """The address that it is bound to."""
    token: str | None = None


class _ClientGone(Exception):
    """The client has closed its connection."""


class _EventStream(Response):
    """Server-sent events, from a generator that ends when the client has gone."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        self._events = events
        super().__init__(headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async with contextlib.aclosing(self._events) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _AsciiResponse(JSONResponse):
    """JSON that may quote what a client sent, lone surrogates among it, which have no UTF-8."""

    @override
    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode("ascii")


class ChatEndpoint:
    """Answers requests with a service that runs."""

    def __init__(self, service: AnswerService, settings: ServeSettings) -> None:
        self._service = service
        self._settings = settings
        self._created = int(time.time())

    def make_app(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """Return the ASGI application."""
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._list_models, methods=["GET"]),
                Route("/v1/models/{name:path}", self._show_model, methods=["GET"]),
            ],
            exception_handlers={RequestError: _answer_error, HTTPException: _answer_http_error},
        )
        settings = self._settings

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            try:
                access.check(request.headers, host=settings.host, token=settings.token)
            except RequestError as error:
                await (await _answer_error(request, error))(scope, receive, send)
            else:
                await app(scope, receive, send)

        return guarded

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def _show_model(self, request: Request) -> Response:
        self._require_model(request.path_params["name"])
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        name, created = self._settings.model, self._created
        return {"id": name, "object": "model", "created": created, "owned_by": "r1ci_jax"}

    def _require_model(self, name: str) -> None:
        if name != self._settings.model:
            raise RequestError(
                f"there is no model {name[:60]!r} here, only {self._settings.model!r}",
                status=404,
                param="model",
                code="model_not_found",
            )

    async def _complete(self, request: Request) -> Response:
        settings = self._settings
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise RequestError("the body must have the Content-Type application/json", status=415)
        try:
            body = await _read_body(request, settings.max_body_bytes)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED)
        wanted = chat_request.parse(body, settings.sampling, settings.outputs)
        self._require_model(wanted.model)
        # Long texts take a while to encode, and others are to be served meanwhile.
        prompts = await asyncio.to_thread(self._prompts, wanted)
        completion = Completion(settings.model, wanted.outputs, len(prompts[0].tokens))
        answers = _Answers(self._service, prompts, request.receive)
        if wanted.is_stream:
            stream = _stream(answers, completion, includes_usage=wanted.includes_usage)
            await anext(stream)  # what cannot be begun is an HTTP error, not an event
            return _EventStream(stream)
        try:
            async with answers:
                texts = [ChoiceText() for _ in prompts]
                async for index, event in answers.events():
                    texts[index].add(event)
        except _ClientGone:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse(completion.whole(texts))

    def _prompts(self, wanted: ChatRequest) -> list[Prompt]:
        """Return the prompt of each choice.

        Raises:
            RequestError: It does not fit into the context.
        """
        runner = self._service.runner
        messages = _with_instructions(wanted.messages, self._settings.instructions)
        if self._settings.system and messages[0].role != "system":
            messages = (ChatMessage("system", (self._settings.system,)), *messages)
        tokens = tuple(chatml.conversation_ids(runner.tokenizer, messages))
        room = runner.sampler.cache_length - 1
        if len(tokens) > room:
            raise RequestError(
                f"the messages have {len(tokens)} tokens, and there is room for {room} and an "
                "answer of one token; shorten them",
                param="messages",
                code="context_length_exceeded",
            )
        seed = secrets.randbits(63) if wanted.seed is None else wanted.seed
        return [
            Prompt(
                tokens=tokens,
                sampling=wanted.sampling,
                rollout_id=random_stream(seed, index),
                max_new_tokens=wanted.max_tokens or self._settings.max_tokens,
                stop_strings=wanted.stop_strings,
            )
            for index in range(wanted.num_choices)
        ]


def random_stream(seed: int, index: int) -> RolloutId:
    """Name the random stream of a choice: the same for the same seed and index."""
    digest = hashlib.blake2b(f"{seed} {index}".encode(), digest_size=8).digest()
    return RolloutId(int.from_bytes(digest[:4]), int.from_bytes(digest[4:]))


def _with_instructions(
    messages: tuple[ChatMessage, ...], instructions: str
) -> tuple[ChatMessage, ...]:
    """Put the instructions before the first user message, as in training."""
    first = next(number for number, each in enumerate(messages) if each.role == "user")
    question = ChatMessage("user", (instructions + "".join(messages[first].segments),))
    return (*messages[:first], question, *messages[first + 1 :])


class _Answers:
    """The open answers of one request; leaving the context drops those that have not ended."""

    def __init__(self, service: AnswerService, prompts: list[Prompt], receive: Receive) -> None:
        self.num_choices = len(prompts)
        self._service = service
        self._prompts = prompts
        self._receive = receive
        self._queue: asyncio.Queue[tuple[int, answer_service.Event] | None] = asyncio.Queue()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()

        def listener(index: int) -> answer_service.Listener:
            return lambda event: _hand_over(loop, self._queue, (index, event))

        try:
            self._tickets = self._service.submit(
                [(prompt, listener(index)) for index, prompt in enumerate(self._prompts)]
            )
        except answer_service.Busy:
            raise RequestError(
                "too many answers wait for a slot; try again later",
                status=429,
                kind="rate_limit_error",
                code="rate_limit_exceeded",
            ) from None
        except answer_service.Stopped:
            raise _unavailable("the server is shutting down") from None
        self._watch = asyncio.ensure_future(_wait_for_end(self._receive))
        self._watch.add_done_callback(lambda _: self._queue.put_nowait(None))

    async def __aexit__(self, *_: object) -> None:
        self._watch.cancel()
        self._service.drop(self._tickets)

    async def events(self) -> AsyncGenerator[tuple[int, Words | Output | End]]:
        """Yield (choice, event) until all answers have ended.

        Raises:
            RequestError: An answer failed.
            _ClientGone: Nobody would read it.
        """
        num_open = self.num_choices
        while num_open:
            item = await self._queue.get()
            if item is None:
                raise _ClientGone
            match item:
                case _, Failure(reason=reason):
                    raise _unavailable(reason)
                case _, End(stop=StopReason.SANDBOX_FAULT.value):
                    raise _unavailable("the interpreter failed; nothing is known of the script")
                case index, (Words() | Output() | End()) as event:
                    yield index, event
                    num_open -= isinstance(event, End)


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    queue: asyncio.Queue[tuple[int, answer_service.Event] | None],
    item: tuple[int, answer_service.Event],
) -> None:
    """Pass an event to the loop's thread."""
    loop.call_soon_threadsafe(queue.put_nowait, item)


async def _wait_for_end(receive: Receive) -> None:
    """Wait until the client has closed its connection; the body has been read."""
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()


async def _stream(
    answers: _Answers, completion: Completion, *, includes_usage: bool
) -> AsyncGenerator[bytes]:
    """Yield the events of a streamed completion, then its token counts if they are wanted.

    The first item is empty: the answers are open. What fails before raises, later it is an event.
    """
    async with answers:
        yield b""
        ends: list[End] = []
        try:
            for index in range(answers.num_choices):
                yield chat_response.event_line(completion.first_chunk(index))
            async for index, event in answers.events():
                yield chat_response.event_line(completion.chunk(index, event))
                if isinstance(event, End):
                    ends.append(event)
        except _ClientGone:
            return
        except RequestError as error:
            yield chat_response.event_line(error.body)
            return
        if includes_usage:
            yield chat_response.event_line(completion.usage_chunk(ends))
        yield chat_response.DONE


async def _read_body(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise RequestError(f"the body has more than {limit} bytes; shorten it", status=413)
        parts.append(part)
    return b"".join(parts)


def _unavailable(reason: str) -> RequestError:
    return RequestError(reason, status=503, kind="server_error")


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers: Mapping[str, str] = {}
    if error.status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    elif error.status == 413:
        headers = {"Connection": "close"}  # the rest of the body is not read
    return _AsciiResponse(error.body, status_code=error.status, headers=headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown path or method in OpenAI's form."""
    assert isinstance(error, HTTPException)
    words = f"{request.method} {request.url.path[:100]}: {error.detail}"
    found = RequestError(words, status=error.status_code)
    return _AsciiResponse(found.body, status_code=found.status, headers=error.headers)
