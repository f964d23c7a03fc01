"""Scripts on a Ray cluster: two nodes on this machine, one of which is killed in mid-run.

Needs the ray package, which `make setup` installs; without it this file fails, it is not skipped.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import ExecResult, Limits, SandboxConfig, Status
from r1ci_jax.sandbox.ray.connection import import_ray
from r1ci_jax.sandbox.ray.node import (
    pack_config,
    pack_result,
    unpack_config,
    unpack_result,
)
from r1ci_jax.sandbox.ray.ray_pool import RayPool, RaySession, WaitingRoom
from tests.load import PATIENCE

ray = import_ray()
from ray import cluster_utils  # noqa: E402  # after the telemetry is switched off

# Ray forks to start its nodes. Other tests of this process may have used JAX, which then warns.
pytestmark = [
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in.*_at_fork"),
]

ROOT = pathlib.Path(__file__).parents[2]
WORKERS = 2
LIMITS = Limits(cpu_seconds=2.0, wall_seconds=60.0, output_bytes=16 << 10, processes=16)
STORE_BYTES = 80 << 20
# A killed node is noticed in three seconds instead of fifteen.
QUICK = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    node = {"num_cpus": WORKERS, "num_gpus": 0, "object_store_memory": STORE_BYTES}
    head = {**node, "include_dashboard": False, "_system_config": QUICK}
    with short_directory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", place)
        nodes = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        try:
            nodes.add_node(**node)
            yield nodes
        finally:
            nodes.shutdown()


def short_directory() -> tempfile.TemporaryDirectory[str]:
    """Ray puts sockets there, whose paths may have 107 bytes; pytest's own are too long."""
    return tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True)


def settings(address: str, **rest: Any) -> SandboxConfig:
    return SandboxConfig(backend="ray", address=address, limits=LIMITS, workers=WORKERS, **rest)


def node_of(result: ExecResult) -> int:
    return result.worker // WORKERS


def squares(pool: RayPool, count: int, seconds: float) -> list[Future[ExecResult]]:
    code = "import time; time.sleep({}); print({} ** 2)"
    return [pool.submit(code.format(seconds, i)) for i in range(count)]


def check_squares(results: list[ExecResult]) -> None:
    for i, result in enumerate(results):
        assert (result.status, result.stdout) == (Status.OK, f"{i**2}\n"), result


def wait_for_nodes(pool: RayPool, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not pool.tier.startswith(f"ray: {count} node"):
        assert time.monotonic() < deadline, pool.tier
        time.sleep(0.1)


# ---- a cluster -----------------------------------------------------------------------------------


def test_two_nodes_one_killed_in_mid_run_one_joins(cluster: Any) -> None:
    with contextlib.closing(RayPool(settings(cluster.address))) as pool:
        wait_for_nodes(pool, 2)
        load_is_balanced(pool)
        scripts_are_what_they_are_on_one_machine(pool)
        sessions = sessions_open_on_both_nodes(pool)
        a_node_dies_and_every_script_has_its_answer(pool, cluster)
        one_session_tells_its_loss_and_starts_afresh(sessions)
        cluster.add_node(num_cpus=WORKERS, num_gpus=0, object_store_memory=STORE_BYTES)
        wait_for_nodes(pool, 2)
        nodes = {node_of(future.result()) for future in squares(pool, 12, 0.05)}
        assert nodes == {0, 2} or nodes == {1, 2}, "the node that joined works"
        pending = squares(pool, 8, 5.0)
    assert all(future.cancelled() for future in pending)
    assert not ray.is_initialized(), "the pool ends the connection it made"
    assert all(node.live_processes() for node in cluster.list_all_nodes()), "and no more"
    with pytest.raises(RuntimeError, match="the sandbox is closed"):
        pool.submit("1")
    with pytest.raises(RuntimeError, match="the sandbox is closed"):
        sessions[0].submit("1")


def load_is_balanced(pool: RayPool) -> None:
    workers: set[int] = set()
    for _ in range(20):  # on a busy machine one may begin late
        if len(workers) == 2 * WORKERS:
            break
        workers |= {future.result().worker for future in squares(pool, 40, 0.1)}
    assert workers == set(range(2 * WORKERS))
    results = [future.result() for future in squares(pool, 40, 0.1)]
    check_squares(results)
    counts = collections.Counter(node_of(result) for result in results)
    assert set(counts) == {0, 1} and min(counts.values()) >= 8, counts
    assert {result.attempt for result in results} == {1}
    assert max(result.queue_seconds for result in results) > 0.3, "ten rounds of 0.1 s"


def scripts_are_what_they_are_on_one_machine(pool: RayPool) -> None:
    code = "open('note', 'w').write('kept'); print('out'); import sys; sys.exit('\u00e9')"
    result = pool.submit(code, None, ["note", "missing"]).result()
    assert (result.status, result.exit_code) == (Status.EXIT_NONZERO, 1)
    assert (result.stdout, result.stderr) == ("out\n", "\u00e9\n")
    assert result.files == {"note": b"kept"} and not result.detail
    short = pool.submit("while True: pass", dataclasses.replace(LIMITS, cpu_seconds=0.3)).result()
    assert short.status is Status.TIMEOUT_CPU and short.attempt == 1
    surrogate = pool.submit("print('\udcff')").result()
    assert surrogate.status is Status.EXCEPTION, "a lone surrogate reaches Python as it is"
    assert pool.submit("print(len('" + "x" * 1_000_000 + "'))").result().stdout == "1000000\n"


def sessions_open_on_both_nodes(pool: RayPool) -> list[RaySession]:
    sessions = [pool.session() for _ in range(2)]
    first = [session.submit(f"x = {i}; import time") for i, session in enumerate(sessions)]
    assert sorted(node_of(future.result()) for future in first) == [0, 1]
    cells = [session.submit("x += 10; x") for session in sessions for _ in range(2)]
    assert [cell.result().stdout for cell in cells] == ["10\n", "20\n", "11\n", "21\n"]
    sleeper = sessions[0].submit(f"time.sleep({PATIENCE})")
    time.sleep(0.5)
    sessions[0].interrupt()
    while not wait([sleeper], timeout=5.0).done:
        sessions[0].interrupt()  # the cell had not begun when it was interrupted
    assert "KeyboardInterrupt" in sleeper.result().stderr and not sleeper.result().state_lost
    assert sessions[0].run("x").stdout == "20\n"
    with pool.session() as brief:
        assert brief.run("1 + 1").stdout == "2\n"
    return sessions


def a_node_dies_and_every_script_has_its_answer(pool: RayPool, cluster: Any) -> None:
    futures = squares(pool, 48, 0.2)
    futures[4].result()
    (victim,) = cluster.worker_nodes
    cluster.remove_node(victim, allow_graceful=False)
    results = [future.result() for future in futures]
    check_squares(results)
    repeated = [result for result in results if result.attempt > 1]
    assert 1 <= len(repeated) <= 2 * WORKERS, "what was under way there, and no more"
    assert len({node_of(result) for result in repeated}) == 1, "on the node that is left"
    wait_for_nodes(pool, 1)


def one_session_tells_its_loss_and_starts_afresh(sessions: list[RaySession]) -> None:
    shown = [session.run("x") for session in sessions]
    assert sorted(result.state_lost for result in shown) == [False, True]
    for number, (session, result) in enumerate(zip(sessions, shown, strict=True)):
        if not result.state_lost:
            assert result.stdout == f"{20 + number}\n", "the other one never noticed"
            continue
        assert result.status is Status.INFRA_ERROR and "variables are lost" in result.detail
        afresh = session.run("x")
        assert afresh.status is Status.EXCEPTION and "NameError" in afresh.stderr
        assert session.run("x = 5; x").stdout == "5\n"


# ---- a Ray of our own ----------------------------------------------------------------------------

OWN_RAY = """
import os, signal, subprocess, sys
told = []
signal.signal(signal.SIGTERM, handler := lambda number, _: told.append(number))
from r1ci_jax.sandbox import SandboxConfig
from r1ci_jax.sandbox.ray.ray_pool import RayPool
assert not {"jax", "ray"} & set(sys.modules)
from r1ci_jax.sandbox import Limits
pool = RayPool(SandboxConfig(backend="ray", workers=1))
assert pool.submit("print(6 * 7)", Limits(), []).result().stdout == "42\\n"
assert pool.tier.startswith("ray: 1 node, nsjail"), pool.tier
import ray
session = ray.get_runtime_context().get_session_name()
os.kill(os.getpid(), signal.SIGTERM)
assert signal.getsignal(signal.SIGTERM) is handler and told == [signal.SIGTERM]
assert signal.alarm(0) == 0, "nobody counts down to an abort"
pool.close()
pool.close()
assert signal.getsignal(signal.SIGTERM) is handler and not ray.is_initialized()
assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
print(session)
"""


def test_a_ray_that_the_pool_started_ends_with_it(tmp_path: pathlib.Path) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with short_directory() as place:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", OWN_RAY],
            env={**inherited, "HOME": str(tmp_path), "RAY_TMPDIR": place},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir()), "Ray's token is not left in the home directory"
    session = done.stdout.strip()
    assert session.startswith("session_")
    deadline = time.monotonic() + PATIENCE
    while left := processes_of(session):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def processes_of(session: str) -> list[str]:
    lines = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if session in line]


# ---- what the user has to mend -------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_an_address_where_nobody_is() -> None:
    begin = time.monotonic()
    with pytest.raises(
        UserError, match=r"cannot reach the Ray cluster at 127.*ray start"
    ) as caught:
        RayPool(settings(f"127.0.0.1:{free_port()}"))
    assert "\n" not in str(caught.value) and time.monotonic() - begin < PATIENCE


def test_an_address_where_another_server_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        threads.submit(greet, server)
        with pytest.raises(UserError, match=r"the server there is not Ray's; correct sandbox.a"):
            RayPool(settings(f"127.0.0.1:{server.getsockname()[1]}"))


def greet(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        connection.recv(100)


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1", "http://head:8265"])
def test_an_address_of_another_kind(address: str) -> None:
    with pytest.raises(UserError, match=r"is not HOST:PORT; give the address"):
        RayPool(settings(address))


def test_ray_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[ray\]'") as caught:
        RayPool(settings(""))
    assert "\n" not in str(caught.value)


# ---- parts ---------------------------------------------------------------------------------------


def test_results_and_settings_travel_as_plain_data() -> None:
    result = ExecResult(
        status=Status.EXCEPTION, exit_code=1, stdout="a\udcff", detail="\udc80", state_lost=True,
        files={"n\udcff": b"\0"}, cpu_seconds=0.5,
    )  # fmt: skip
    assert unpack_result(pack_result(result)) == result
    assert type(pack_result(result)["status"]) is str
    config = settings("", policy="other")
    assert unpack_config(pack_config(config)) == config
    with pytest.raises(ValueError, match="not a result"):
        unpack_result({**pack_result(result), "of_another_version": 1})


def test_the_waiting_room_blocks_and_is_left_once() -> None:
    room = WaitingRoom(1)
    leave = room.enter(blocking=True)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(room.enter, blocking=True)
        room.enter(blocking=False)()
        time.sleep(0.05)
        assert not second.done()
        leave()
        second.result(PATIENCE)
        third = threads.submit(room.enter, blocking=True)
        leave()
        time.sleep(0.05)
        assert not third.done(), "leaving twice frees one seat"
        room.close()
        with pytest.raises(RuntimeError, match="closed"):
            third.result(PATIENCE)
