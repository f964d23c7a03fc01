"""Benchmarks against peers: installation in a real shell, scripts as real processes."""

import pathlib
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

from r1ci_jax.errors import UserError
from tests.load import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)
ECHO = """
import sys
sys.path.insert(0, {peers!r})
import wire
asked = 0
def answer(request):
    global asked
    asked += 1
    print("what a library prints")
    return {{"speed": request["speed"] * asked, "peak_bytes": wire.peak_bytes()}}
wire.serve(answer, ("pip",))
"""


@pytest.fixture
def alternate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import alternate

    return alternate


@pytest.fixture
def echo(tmp_path: pathlib.Path) -> list[str]:
    script = tmp_path / "echo.py"
    script.write_text(ECHO.format(peers=str(ROOT / "benchmarks/peers")))
    return [sys.executable, str(script)]


def test_sides_are_asked_in_turn_and_the_median_counts(alternate: ModuleType, echo: list[str]):
    order = []

    def ours(request):
        order.append("ours")
        return {"speed": 10.0 * request["speed"]}

    with alternate.opened(ours, {}) as sides, alternate.Process("echo", echo) as peer:

        def ask(request):
            order.append("echo")
            return peer.ask(request)

        answers = alternate.ask_in_turn({**sides, "echo": ask}, {"speed": 2.0}, rounds=3)
    assert order == ["ours", "echo"] * 3
    assert [answer["speed"] for answer in answers["echo"]] == [2.0, 4.0, 6.0]
    assert alternate.median(answers, "echo", "speed") == 4.0
    assert alternate.ratio(answers, "echo", "speed") == 5.0


def test_an_answer_has_versions_and_the_memory_of_its_own_process(
    alternate: ModuleType, echo: list[str]
):
    ballast = bytearray(300 * 2**20)  # touched: getrusage would hand our size down to the child
    with alternate.Process("echo", echo) as peer:
        answer = peer.ask({"speed": 1.0})
    assert answer["versions"].keys() == {"pip"}
    assert 2**20 < answer["peak_bytes"] < len(ballast)


def test_a_peer_that_dies_is_an_error_with_its_last_words(alternate: ModuleType):
    command = [sys.executable, "-c", "import sys; sys.exit('no such model')"]
    with (
        alternate.Process("hf", command) as peer,
        pytest.raises(UserError, match=r"hf ended with status 1 .*: no such model"),
    ):
        peer.ask({})


def test_a_peer_that_is_not_installed_is_said_and_null(
    alternate: ModuleType, capsys: pytest.CaptureFixture[str]
):
    peer = alternate.Peer(environment=".venv-peers-none", script="hf_decode.py")
    with alternate.opened(lambda _: {"speed": 1.0}, {"none": peer}) as sides:
        answers = alternate.ask_in_turn(sides, {}, rounds=1)
    assert "none is not installed ('make peers')" in capsys.readouterr().err
    assert answers["none"] is None
    assert alternate.ratio(answers, "none", "speed") is None


# --- scripts/peers.sh ----------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> pathlib.Path:
    """The script in a folder of its own, with nothing pinned: venv and pip are real."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "requirements").mkdir()
    for name in ("torch", "tunix"):
        (tmp_path / f"requirements/peers-{name}.txt").write_text("# none\n")
    return tmp_path


def install(checkout: pathlib.Path, *names: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", checkout / "scripts/peers.sh", *names],
        env={"HOME": str(checkout), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_second_installation_does_nothing(checkout: pathlib.Path):
    path = "/usr/bin:/bin"
    first = install(checkout, "tunix", PATH=path, TUNIX_PYTHON=BASE_PYTHON)
    assert first.returncode == 0, first.stderr
    stamp = checkout / ".venv-peers-tunix/r1ci-stamp"
    made = stamp.stat().st_mtime_ns
    again = install(checkout, "tunix", PATH=path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == made


def test_without_python_3_11_torch_is_one_line_and_nothing_is_made(checkout: pathlib.Path):
    tools = checkout / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "cksum", "cat"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    result = install(checkout, PATH=str(tools))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("peers: no Python 3.11 with venv")
    assert not list(checkout.glob(".venv-*"))


def test_a_wrong_interpreter_and_an_unknown_peer_are_refused(checkout: pathlib.Path):
    path = "/usr/bin:/bin"
    wrong = install(checkout, "torch", PATH=path, TORCH_PYTHON=BASE_PYTHON)
    assert wrong.returncode == 1 and "is no Python 3.11" in wrong.stderr
    unknown = install(checkout, "vllm", PATH=path)
    assert unknown.returncode == 1 and "unknown peer 'vllm'" in unknown.stderr
