"""Switches and fixtures that every test shares.

JAX is configured through the environment, before anything imports it, so that tests of the rooms
without JAX stay quick and subprocesses inherit the same strictness. Tests see one CPU device: eight
would make every worker's start and every unsharded test slower. A law about many devices runs its
own process through `run_on_devices`.
"""

import gc
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

from tests.load import PATIENCE

ROOT = pathlib.Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

os.environ["JAX_PLATFORMS"] = "cpu"  # laws are about numbers, the same on every machine
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # [B] + [B, T] is a bug, not a broadcast
os.environ.pop("JAX_NUM_CPU_DEVICES", None)
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that needs the network is not a test


PROGRAMS = "R1CI_COMPILATION_CACHE"
"""Environment: where this run of the tests keeps the programs that any of its processes compiled.
Laws need the same small models again and again. Counts of compilations count what is found, too."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the directory; the workers and their processes inherit it.

    They inherit an ignored SIGINT too, as `make test &` has it, and tests send that signal.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        directory = tempfile.TemporaryDirectory(prefix="r1ci-tests-")
        config.add_cleanup(directory.cleanup)
        os.environ[PROGRAMS] = directory.name


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> None:
    """Compile without most optimizations and keep the programs, once something has imported JAX.

    Most laws compile for longer than they compute; a file that does not is marked `optimized`. The
    commands that tests start compile as their user's do.
    """
    if (jax := sys.modules.get("jax")) is not None:
        compilation_cache = importlib.import_module("r1ci_jax.runtime.compilation_cache")
        compilation_cache.enable()
        quick = request.node.get_closest_marker("optimized") is None
        jax.config.update("jax_disable_most_optimizations", quick)


# Linux lets a process have 65,530 memory maps. JAX keeps every program that it compiles, and each
# has maps of its own on the CPU: a worker that runs thousands of tests reaches the limit, and then
# the compiler crashes.
MANY_MAPS = 15_000


@pytest.fixture(scope="module", autouse=True)
def few_memory_maps() -> Iterator[None]:
    """Forget compiled programs between two files of tests, once they have many memory maps."""
    yield
    if (jax := sys.modules.get("jax")) is None:
        return
    with open("/proc/self/maps", "rb") as maps:
        count = sum(1 for _ in maps)
    if count > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of reference data; without it the test is skipped, and the summary says so."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"REFERENCE DATA MISSING: {SHARED_DATA} is not there; parity is not checked")
    return SHARED_DATA


@pytest.fixture
def run_on_devices() -> Callable[[int, str], str]:
    """Run Python source in its own process on so many CPU devices; returns what it printed."""

    def run(devices: int, source: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", source],
            env={
                **os.environ,
                "JAX_NUM_CPU_DEVICES": str(devices),
                "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # as `quick_compilation`
            },
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def own_modules(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder with the agent and the experiment of CONTRIBUTING.md, searched for modules."""
    from r1ci_jax.runtime import user_modules

    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in ("my_agent.py", "my_experiment.py"):
        source = text.split(f"```python\n# {name}\n")[1].split("```\n")[0]
        (tmp_path / name).write_text(f"# {name}\n{source}")
    user_modules.search(tmp_path)
    yield tmp_path
    user_modules.search(ROOT)
