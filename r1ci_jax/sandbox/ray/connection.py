"""This process's connection to Ray, which is opened once and closed by the code that opened it."""

import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any, Final

from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra

REACH_SECONDS: Final = 5.0
HTTP2_SETTINGS: Final = 4
HTTP2_HEADER_BYTES: Final = 9
HTTP2_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    (0, 0, 0, HTTP2_SETTINGS, *bytes(5))
)
"""The client's preface with an empty settings frame; a server answers with its own settings."""
OBJECT_STORE_BYTES: Final = 128 << 20
"""Object store of a Ray that this process starts; it can be small because results are small."""


def import_ray() -> Any:
    """Import the ray module, without its telemetry.

    Raises:
        UserError: Ray is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray announces a new default with a FutureWarning; this sandbox's actors use no accelerator.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f'the sandbox\'s back end "ray" needs the ray package ({one_line(error)}); '
            f"run: {install_extra('ray')}"
        ) from None
    return ray


def one_line(error: BaseException) -> str:
    """Return an error's text as one line of limited length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:150]} ... {text[-250:]}"


class Link:
    """This process's connection to Ray, shared by its pools; it ends only a Ray that it started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._begun = False

    def join(self, ray: Any, address: str, cores: int) -> None:
        """Connect to Ray or start it on this machine, unless this process is connected already."""
        with self._lock:
            if ray.is_initialized():
                _check_same(ray, address)
            else:
                with _sigterm_kept():
                    _begin(ray, address or os.environ.get("RAY_ADDRESS", ""), cores)
                self._begun = True
            self._users += 1

    def leave(self, ray: Any) -> None:
        """Disconnect with the last pool; a Ray that was started for the pools ends then, too."""
        with self._lock:
            self._users -= 1
            if self._begun and self._users == 0:
                self._begun = False
                with _sigterm_kept():
                    ray.shutdown()


LINK: Final = Link()


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM: a trainer saves its state in it.

    Ray installs two handlers, and the inner one aborts the process three seconds later. Python
    allows a change of handlers only in the main thread.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _begin(ray: Any, address: str, cores: int) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        _probe(address)
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            _join_or_start(ray, cores, quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"join the Ray cluster at {address}" if address else "use Ray on this machine"
        raise UserError(
            f"cannot {where}: {one_line(error)}; the trainer's machine must be a node of the "
            "cluster (`ray start --address=HOST:PORT --num-cpus=0`), with the same Ray and Python"
        ) from None


def _join_or_start(ray: Any, cores: int, quiet: dict[str, Any]) -> None:
    """Join the Ray that `ray start` started on this machine, else start one for this process."""
    is_ours = _provide_token()
    start = {
        "num_cpus": cores,
        "num_gpus": 0,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    try:
        ray.init(**start, **quiet)
    except ValueError as error:
        if "existing cluster" not in str(error):
            raise
        if is_ours:
            del os.environ["RAY_AUTH_TOKEN"]
        ray.init(**quiet)  # a running Ray has fixed all other settings


def _provide_token() -> bool:
    """Set a token for a Ray of this process; return False if there is one already.

    Ray listens on all interfaces. By default it writes a token into the home directory, where every
    user of the machine can read it. A used token stays until this process ends, because Ray keeps
    it.
    """
    home = os.environ.get("HOME", "")
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if any(name in os.environ for name in names) or os.path.exists(f"{home}/.ray/auth_token"):
        return False
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return True


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(
            f"sandbox.address {address!r} is not HOST:PORT; give the address that "
            "`ray start --head` printed (usually port 6379), without ray:// or http://"
        )
    return host.strip("[]"), int(port)


def _probe(address: str) -> None:
    """Check for a Ray; Ray itself would try for minutes and report its absence in many lines."""
    try:
        with socket.create_connection(_split(address), REACH_SECONDS) as talk:
            problem = "" if "RAY_USE_TLS" in os.environ else _why_not_grpc(talk)
    except (OSError, OverflowError) as error:
        problem = one_line(error)
    if problem:
        raise UserError(
            f"cannot reach the Ray cluster at {address}: {problem}; correct sandbox.address or "
            "start the cluster (`ray start --head` on its first machine)"
        )


def _why_not_grpc(talk: socket.socket) -> str:
    """Explain why a server cannot be Ray's; return an empty text when it speaks HTTP/2."""
    talk.sendall(HTTP2_GREETING)
    answer = b""
    while len(answer) < HTTP2_HEADER_BYTES:
        data = talk.recv(HTTP2_HEADER_BYTES - len(answer))
        if not data:
            return "the server there closes the connection, so it is not Ray's"
        answer += data
    return "" if answer[3] == HTTP2_SETTINGS else "the server there is not Ray's"


def _check_same(ray: Any, address: str) -> None:
    connected = ray.get_runtime_context().gcs_address
    if not address or connected == address:
        return
    host, port = _split(address)
    try:
        known = {entry[4][:2] for entry in socket.getaddrinfo(host, port)}
    except OSError:
        known = set()
    if _split(connected) not in known:
        raise UserError(
            f"this process is connected to the Ray cluster at {connected} and sandbox.address is "
            f"{address}; use one of them"
        )
