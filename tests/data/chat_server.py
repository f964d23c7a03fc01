"""A real HTTP server that speaks OpenAI's protocol of chat completions; a script decides."""

import http.server
import json
import threading
import time
from collections.abc import Callable
from typing import Any, Self

Body = dict[str, Any]


class Reply:
    """What the server sends: a text as an answer, or anything else that it is told to."""

    def __init__(
        self,
        text: str = "",
        *,
        status: int = 200,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = 0.0,
        usage: Any = None,
        finish: str = "stop",
    ) -> None:
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "teacher",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": finish,
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            if usage is None
            else usage,
        }
        self.status = status
        self.raw = json.dumps(answer).encode() if raw is None else raw
        self.headers = {"Content-Type": "application/json", **(headers or {})}
        self.seconds = seconds


class ChatServer:
    """Serves on a port of its own; a context manager. `requests` are all bodies, in order."""

    def __init__(self, policy: Callable[[Body, int], Reply]) -> None:
        self.requests: list[Body] = []
        self.keys: list[str] = []
        self.busiest = 0
        self._busy = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/v1/chat/completions"
                with outer._lock:
                    outer.requests.append(body)
                    outer.keys.append(self.headers["Authorization"])
                    number = len(outer.requests) - 1
                    outer._busy += 1
                    outer.busiest = max(outer.busiest, outer._busy)
                try:
                    reply = policy(body, number)
                    time.sleep(reply.seconds)
                finally:
                    with outer._lock:
                        outer._busy -= 1
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(reply.raw)))
                    self.end_headers()
                    self.wfile.write(reply.raw)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client had no patience

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                del request, client_address

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
