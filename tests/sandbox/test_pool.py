"""The queue in front of the workers, and what becomes of them over time."""

import asyncio
import threading
import time

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig, Status
from r1ci_jax.sandbox.host import fork_server_client
from r1ci_jax.sandbox.host.pool import LocalPool
from tests.load import PATIENCE, wait_until


def fork_servers(box: Sandbox) -> list[int | None]:
    backend = box._backend
    assert isinstance(backend, LocalPool)
    return [one.pid for one in backend.workers if isinstance(one, fork_server_client.Worker)]


def test_no_settings_are_the_default_ones_and_a_script_is_a_text() -> None:
    with Sandbox() as box:
        assert box.config == SandboxConfig()
        assert box.run("print(6 * 7)").stdout == "42\n"
        with pytest.raises(UserError, match="a script is a text, not int"):
            box.run(5)  # type: ignore[arg-type]
        with box.session() as session, pytest.raises(UserError, match="not bytes"):
            session.run(b"1")  # type: ignore[arg-type]


def test_a_full_queue_holds_up_who_submits_and_forgets_nobody() -> None:
    with Sandbox(SandboxConfig(workers=1, queue=2)) as box:
        slow = box.submit("import time; time.sleep(0.5); print('slow')")
        wait_until(slow.running)
        waiting = [box.submit(f"print({i})") for i in range(2)]
        late = box.submit("print('late')")
        assert slow.done(), "two scripts wait, there is no room for a third"
        outputs = [future.result().stdout for future in (slow, *waiting, late)]
        assert outputs == ["slow\n", "0\n", "1\n", "late\n"]


def test_closing_sends_away_who_is_held_up() -> None:
    box = Sandbox(SandboxConfig(workers=1, queue=1))
    running = box.submit("import time; time.sleep(30)")
    wait_until(running.running)
    waiting = box.submit("print(1)")
    told: list[str] = []

    def late() -> None:
        with pytest.raises(RuntimeError) as refused:
            box.submit("print(2)")
        told.append(str(refused.value))

    blocked = threading.Thread(target=late)
    blocked.start()
    time.sleep(0.2)
    box.close()
    blocked.join(PATIENCE)
    assert told == ["the sandbox is closed"]
    assert waiting.cancelled() and running.result().status is Status.INFRA_ERROR


def test_fork_servers_are_replaced_but_never_under_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fork_server_client, "RECYCLE_AFTER", 3)
    with Sandbox(SandboxConfig(workers=1)) as box:
        seen = set()
        for number in range(10):
            assert box.run(f"print({number})").stdout == f"{number}\n"
            seen.add(tuple(fork_servers(box)))
        assert len(seen) >= 3
        with box.session() as session:
            session.run("kept = 5")
            held = fork_servers(box)
            for _ in range(6):
                assert box.run("print(1)").status is Status.OK
            assert fork_servers(box) == held and session.run("kept").stdout == "5\n"


def test_asyncio_goes_on_while_scripts_run() -> None:
    async def both(box: Sandbox) -> tuple[int, list[str]]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        clock = asyncio.create_task(tick())
        codes = [f"import time; time.sleep(0.3); print({i})" for i in range(4)]
        results = await asyncio.gather(*(box.run_async(code) for code in codes))
        clock.cancel()
        return ticks, [result.stdout for result in results]

    with Sandbox(SandboxConfig(workers=2)) as box:
        ticks, outputs = asyncio.run(both(box))
    assert outputs == ["0\n", "1\n", "2\n", "3\n"]
    assert ticks > 10, "the event loop was never blocked"


def test_without_isolation_only_by_name_and_with_limits() -> None:
    limits = Limits(cpu_seconds=1, wall_seconds=300)  # a busy machine gives a tenth of a core
    with Sandbox(SandboxConfig(unsafe=True, workers=1, limits=limits)) as box:
        assert box.tier == "unsafe"
        assert box.run("print(6 * 7)").stdout == "42\n"
        assert box.run("while True: pass").status is Status.TIMEOUT_CPU
        assert box.run("x = bytearray(1 << 40)").status is Status.EXCEPTION
        made = box.run("open('own.txt', 'w').write('x')", collect=["own.txt"])
        assert made.files == {"own.txt": b"x"}
        with pytest.raises(UserError, match="isolation"):
            box.session()


def test_a_cell_tells_its_memory() -> None:
    with Sandbox(SandboxConfig(workers=1)) as box, box.session() as kernel:
        before = kernel.run("1").max_rss_bytes
        after = kernel.run("held = bytearray(64 << 20)").max_rss_bytes
    assert before > 0 and after - before > 48 << 20
