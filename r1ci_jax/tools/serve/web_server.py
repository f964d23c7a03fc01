"""The web server: listens, and ends cleanly at SIGINT or SIGTERM."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Generator
from typing import override

import uvicorn

from r1ci_jax.errors import UserError
from r1ci_jax.tools.serve.answer_service import AnswerService
from r1ci_jax.tools.serve.web_app import ChatEndpoint, ServeSettings


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes one that is free.

    Raises:
        UserError: The address cannot be used.
    """
    if not 0 <= port <= 0xFFFF:
        raise UserError(f"there is no port {port}; choose one of 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from None


def base_url(listening: socket.socket) -> str:
    """Return the address that clients are given."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


class WebServer(uvicorn.Server):
    """Serves until SIGINT, SIGTERM or a failure of the service.

    It then accepts no more; answers that are open have `grace` seconds to end, and a second SIGINT
    ends them at once.
    """

    def __init__(
        self,
        service: AnswerService,
        settings: ServeSettings,
        *,
        grace: float,
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        app = ChatEndpoint(service, settings).make_app()
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
        )
        super().__init__(config)
        self._service = service
        self._grace = grace
        self._on_started = on_started
        service.on_failure = self.end

    def end(self) -> None:
        """Stop serving, as a signal does; any thread may call it."""
        self.should_exit = True

    def run_until_ended(self, listening: socket.socket) -> None:
        """Start the service, serve, and end both.

        Raises:
            Exception: The failure of the service, if that is why it ended.
        """
        self._service.start()
        try:
            with listening:
                asyncio.run(self.serve([listening]))
        finally:
            self._service.stop()
            self._service.join()
        if self._service.failure is not None:
            raise self._service.failure

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        timer = asyncio.get_running_loop().call_later(self._grace, self._service.stop)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
            # Before the loop closes, for the service hands it events.
            self._service.stop()
            await asyncio.to_thread(self._service.join)

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Let both signals end the server; its parent would raise them again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
