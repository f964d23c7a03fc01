"""Compiled programs that are kept: found again, and never a reason to fail."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1ci_jax.runtime import compilation_cache
from tests.load import PATIENCE

SOURCE = """
import jax, jax.numpy as jnp, numpy as np
from jax._src import monitoring
from r1ci_jax.runtime import compilation_cache
compilation_cache.MIN_COMPILE_SECONDS = 0.0
events = []
monitoring.register_event_listener(lambda name, **_: events.append(name))
directory = compilation_cache.enable()
@jax.jit
def program(x):
    for _ in range(3):
        x = jnp.sin(x @ x) + jnp.sort(x, axis=0)
    return x
out = program(jnp.linspace(0, 1, 256).reshape(16, 16))
hits = sum("cache_hits" in name for name in events)
misses = sum("cache_misses" in name for name in events)
print(directory, hits, misses)
print(np.asarray(out).tobytes().hex())
"""


def run(home: Path, **environment: str) -> tuple[str, int, int, str]:
    """Compile and run a program in a process of its own: directory, hits, misses, result."""
    known = {key: value for key, value in os.environ.items() if key != compilation_cache.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SOURCE],
        env={**known, "XDG_CACHE_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr, done.stderr
    first, result = done.stdout.splitlines()
    directory, hits, misses = first.split()
    return directory, int(hits), int(misses), result


def test_a_second_process_finds_what_the_first_compiled(tmp_path: Path) -> None:
    directory, hits, misses, result = run(tmp_path)
    assert Path(directory).is_relative_to(tmp_path) and hits == 0 and misses > 0
    again = run(tmp_path)
    assert again == (directory, misses, 0, result)
    assert Path(directory).stat().st_mode & 0o777 == 0o700


def test_damaged_entries_are_compiled_again(tmp_path: Path) -> None:
    directory, _, misses, result = run(tmp_path)
    files = sorted(Path(directory).glob("*.program"))
    assert len(files) == misses
    whole = {path: path.read_bytes() for path in files}

    def damage(change) -> None:
        for path, data in whole.items():
            path.write_bytes(change(data))
        assert run(tmp_path) == (directory, 0, misses, result)
        assert run(tmp_path) == (directory, misses, 0, result)

    damage(lambda data: data[: len(data) // 2])
    damage(lambda data: b"")
    damage(lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    damage(lambda data: data[:10] + b"x" + data[11:])


def test_every_cut_of_an_entry_is_noticed(tmp_path: Path) -> None:
    store = compilation_cache.ProgramStore(tmp_path)
    value = bytes(range(200))
    for size in range(48 + len(value)):
        store.put("key", value)
        assert store.get("key") == value
        (path,) = tmp_path.iterdir()
        path.write_bytes(path.read_bytes()[:size])
        assert store.get("key") is None and not path.exists()
    assert store.get("other") is None


def test_processes_write_the_same_entry_at_once(tmp_path: Path) -> None:
    """A reader sees nothing or a whole entry, however many write."""
    source = f"""
import sys, pathlib
from r1ci_jax.runtime.compilation_cache import ProgramStore
store = ProgramStore(pathlib.Path({str(tmp_path)!r}))
value = bytes([int(sys.argv[1])]) * 3_000_000
for _ in range(40):
    store.put("key", value)
    found = store.get("key")
    assert found is not None and len(found) == 3_000_000 and len(set(found)) == 1
"""
    writers = [subprocess.Popen([sys.executable, "-c", source, str(n)]) for n in range(3)]
    assert [writer.wait(PATIENCE) for writer in writers] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["key.program"]


def test_a_killed_writer_leaves_whole_entries(tmp_path: Path) -> None:
    source = f"""
import itertools, pathlib
from r1ci_jax.runtime.compilation_cache import ProgramStore
store = ProgramStore(pathlib.Path({str(tmp_path)!r}))
for turn in itertools.count():
    store.put(f"key{{turn % 5}}", bytes([turn % 5]) * 5_000_000)
    if turn == 0: print("wrote one", flush=True)
"""
    store = compilation_cache.ProgramStore(tmp_path)
    for attempt in range(3):
        command = [sys.executable, "-c", source]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"wrote one\n"
            time.sleep(0.02 * attempt)  # into the middle of some later entry
            writer.kill()
        names = {path.name for path in tmp_path.glob("*.program")}
        found = [store.get(f"key{number}") for number in range(5)]
        assert all(found[n] == bytes([n]) * 5_000_000 for n in range(5) if found[n] is not None)
        assert sum(each is not None for each in found) == len(names) > 0


def test_a_full_disk_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    compilation_cache.ProgramStore(tmp_path).put("key", b"value")
    assert list(tmp_path.iterdir()) == []


def test_where_programs_are_not_kept(tmp_path: Path) -> None:
    assert run(tmp_path, **{compilation_cache.VARIABLE: "off"})[:3] == ("None", 0, 0)
    own = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")}
    assert run(tmp_path, **own)[0] == "None"
    directory = Path(run(tmp_path)[0])
    directory.chmod(0o777)  # anybody could put code there
    assert run(tmp_path)[0] == "None"


def test_machines_and_flags_have_their_own_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {compilation_cache.machine_key()}
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    keys.add(compilation_cache.machine_key())
    monkeypatch.setattr(compilation_cache, "_processor", lambda: ["flags: sse2"])
    keys.add(compilation_cache.machine_key())
    monkeypatch.setattr(compilation_cache.jaxlib.version, "__version__", "0")
    keys.add(compilation_cache.machine_key())
    assert len(keys) == 4


def test_the_entries_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = compilation_cache.ProgramStore(tmp_path)
    for number in range(4):
        store.put(f"key{number}", bytes(1000))
        os.utime(tmp_path / f"key{number}.program", (number, number))
    assert store.get("key0") is not None  # used now
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 2500)
    compilation_cache._remove_oldest(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key0.program", "key3.program"]
