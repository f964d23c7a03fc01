"""A server in this process, whose policy follows a script, and OpenAI's client to ask it."""

import concurrent.futures
import contextlib
import threading
from collections.abc import Generator

import openai

from r1ci_jax.config import SamplingParams, TurnLimits
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.sandbox import ExecResult
from r1ci_jax.tools.serve import web_server
from r1ci_jax.tools.serve.answer_service import AnswerService
from r1ci_jax.tools.serve.web_app import ServeSettings
from tests.load import PATIENCE
from tests.rollout.conftest import World
from tests.rollout.scripts import echo

LIMITS = TurnLimits(max_code_calls=3, max_new_tokens=60, max_observation_tokens=40)
MODEL = "scripted"


class Gate:
    """An interpreter whose first scripts never end; `begun` is set at the first one."""

    def __init__(self, num_hanging: int) -> None:
        self.num_hanging = num_hanging
        self.begun = threading.Event()

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        future: concurrent.futures.Future[ExecResult] = concurrent.futures.Future()
        if self.num_hanging:
            self.num_hanging -= 1
        else:
            future.set_result(echo(code))
        self.begun.set()
        return future


class Server:
    """A server that runs, and a client of it."""

    def __init__(self, server: web_server.WebServer, service: AnswerService, url: str) -> None:
        self.server = server
        self.service = service
        self.url = url
        self.port = int(url.split(":")[2].split("/")[0])
        self.client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE)

    def ask(self, text: str = "Compute 3+4.", **options):
        messages = options.pop("messages", [{"role": "user", "content": text}])
        return self.client.chat.completions.create(model=MODEL, messages=messages, **options)

    def end(self) -> None:
        self.server.end()


class Serving:
    """Starts servers; `failures` are those of their services."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.failures: list[Exception] = []

    def runner(self, script, box=None, **sampler: int) -> Runner:
        sizes = {"slots": 4, "cache_length": 400, "chunk_steps": 4, **sampler}
        return self.world.runner(script, box, limits=LIMITS, **sizes)

    @contextlib.contextmanager
    def __call__(
        self,
        script,
        box=None,
        *,
        max_open: int = 64,
        grace: float = 0.0,
        slots: int = 4,
        **settings,
    ) -> Generator[Server]:
        service = AnswerService(self.runner(script, box, slots=slots), max_open=max_open)
        settings = {"sampling": SamplingParams(temperature=1.0), "max_tokens": 60, **settings}
        started = threading.Event()
        listening = web_server.listen("127.0.0.1", 0)
        url = web_server.base_url(listening)
        server = web_server.WebServer(
            service,
            ServeSettings(model=MODEL, **settings),
            grace=grace,
            on_started=started.set,
        )

        def run() -> None:
            try:
                server.run_until_ended(listening)
            except Exception as error:
                self.failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert started.wait(PATIENCE)
            running = Server(server, service, url)
            with running.client:
                yield running
        finally:
            server.end()
            thread.join(PATIENCE)
            assert not thread.is_alive()
