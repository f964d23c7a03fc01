"""The benchmark measures what it says, and the command line prints one JSON object."""

import argparse
import concurrent.futures
import io
import json
import math
import pathlib
import subprocess
import sys
import threading
from typing import Any, override

import pytest

from r1ci_jax.cli import sandbox as cli
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.sandbox.stress import bench, census
from tests.load import PATIENCE, wait_until


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    arguments = parser.parse_args(["sandbox", *words])
    return arguments.run(arguments)


def test_percentiles_by_hand() -> None:
    assert bench.percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert bench.percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert bench.percentile(range(1, 101), 95) == 95
    assert bench.percentile([7.0], 95) == 7.0 == bench.percentile([7.0], 50)


def test_figures_of_samples() -> None:
    samples = bench.Samples()
    samples.milliseconds = [10.0, 20.0, 30.0, 40.0]
    samples.seconds = 0.5
    assert samples.figures() == {
        "runs": 4, "p50_ms": 20.0, "p95_ms": 40.0, "max_ms": 40.0, "runs_per_second": 8.0,
    }  # fmt: skip


def test_bars_hold_up_to_their_edge_and_not_beyond() -> None:
    def row(p50: float) -> dict[str, dict[str, float]]:
        figures = {"p50_ms": p50, "runs_per_second": 150.0}
        return {"sequential": figures, "concurrent": figures}

    def held(print_ms: float, imports_ms: float, slow: int) -> list[bool]:
        backends = {
            "zygote": {"print": row(print_ms), "imports": row(imports_ms)},
            "cold": {"print": row(30.0), "imports": row(400.0)},
        }
        sessions = {"sessions": 10, "available_memory_used_bytes": 10 * slow << 20}
        found = bench.bars(backends, {"above_half_second": slow}, {"timeouts": slow}, sessions)
        return [bar["holds"] for bar in found.values()]

    assert all(held(9.9, 10.0, 0))
    assert held(10.1, 10.1, 9) == [False, False, True, False, False, False]


def test_a_wrong_answer_is_never_measured() -> None:
    bench.check(ExecResult(status=Status.OK, stdout="1\n"), "1\n")
    for result in (
        ExecResult(status=Status.OK, stdout="2\n"),
        ExecResult(status=Status.INFRA_ERROR, detail="no jail"),
    ):
        with pytest.raises(UserError, match="failed while it was measured"):
            bench.check(result, "1\n")


def test_plans_reject_nonsense() -> None:
    with pytest.raises(UserError, match="at least one round"):
        bench.Plan(rounds=0)
    with pytest.raises(UserError, match="cannot be negative"):
        bench.Plan(sessions=-1)


def test_progress_speaks_while_others_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken = threading.Event()

    class Errors(io.StringIO):
        @override
        def write(self, text: str) -> int:
            if "waiting: 1 of 2" in text:
                spoken.set()
            return len(text)

    monkeypatch.setattr(bench, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(sys, "stderr", Errors())
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(spoken.wait, PATIENCE), pool.submit(pow, 2, 3)]
        assert bench.Progress().attend(futures, "waiting") == [True, 8]
    assert capsys.readouterr().out == ""


def test_memory_of_this_process_and_its_descendants() -> None:
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'input()'])\n"

    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        wait_until(lambda: len(census.descendants()) >= 2, "the child's child")
        assert child.pid in census.descendants()
        now = census.Memory.now()
        assert now.pss is not None and now.pss > 1 << 20
        assert now.available > 1 << 20 and now.host > 1 << 20
        child.communicate(b"\n")
    assert child.pid not in census.descendants()


def numbers(value: object) -> list[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, (int, float)) else []


def test_bench_measures_both_back_ends(capsys: pytest.CaptureFixture[str]) -> None:
    plan = bench.Plan(rounds=2, prints=3, imports=1, tail=10, sessions=3)
    figures: dict[str, Any] = json.loads(json.dumps(bench.measure(plan, bench.Progress())))
    assert set(figures["tiers"]) == set(figures["backends"]) == {"zygote", "cold"}
    for scripts in figures["backends"].values():
        assert set(scripts) == {"print", "imports"}
        for modes in scripts.values():
            for row in modes.values():
                assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["max_ms"]
                assert row["runs_per_second"] > 0
    assert figures["backends"]["cold"]["print"]["sequential"]["runs"] == 6
    assert figures["backends"]["zygote"]["imports"]["concurrent"]["runs"] == 10
    assert 0 < figures["imports_p50_ratio"] < 1, "preloaded packages are not imported again"
    assert figures["tail"]["runs"] == 10
    # On a busy machine a script may time out; that waiting does not is T10 of test_limits.py.
    statuses = figures["queue"]["statuses"]
    assert sum(statuses.values()) == 16 and statuses["ok"] > 0
    assert figures["queue"]["timeouts"] == 16 - statuses["ok"]
    assert figures["sessions"]["sessions"] == 3 and figures["sessions"]["cell_p50_ms"] > 0
    assert set(figures["bars"]) == {
        "print_p50_ratio", "imports_p50_ratio", "zygote_runs_per_second", "queue_timeouts",
        "above_half_second", "gib_for_1000_sessions",
    }  # fmt: skip
    assert figures["host"]["cores"] >= 1 and len(figures["host"]["load_average"]) == 3
    assert all(math.isfinite(number) for number in numbers(figures))
    assert "zygote print concurrent" in bench.table(figures)
    assert "round 2 of 2 done" in capsys.readouterr().err


def test_bench_command_prints_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[bench.Plan] = []

    def measure(plan: bench.Plan, progress: bench.Progress) -> dict[str, int]:
        asked.append(plan)
        progress.say("measuring")
        return {"figure": 1}

    monkeypatch.setattr(bench, "measure", measure)  # measured by the test above
    assert command("bench", "--json", "--sessions", "7", "--rounds", "1") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"figure": 1} and "measuring" in shown.err
    assert asked == [bench.Plan(sessions=7, rounds=1)]


SCRIPT = """
import os
os.mkdir("sub")
open("sub/a.txt", "w").write("hello")
os.symlink("/dev/null", "link")
print("made")
"""


@pytest.fixture
def script_file(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


def test_exec_brings_files_back(
    script_file: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "out"
    words = ["--collect", "sub/a.txt", "--collect", "link", "--into", str(into), "--json"]
    # A link is not followed: it is said to be missing.
    assert command("exec", script_file, "--backend", "cold", *words) == 1
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert "link" in shown.err and "sub/a.txt" not in shown.err
    assert report["files"] == {"sub/a.txt": 5} and report["stdout"] == "made\n"
    assert [path.name for path in into.rglob("*") if path.is_file()] == ["a.txt"]
    assert (into / "sub/a.txt").read_bytes() == b"hello"
    for half in (["--collect", "x"], ["--into", str(into)]):
        with pytest.raises(UserError, match="need each other"):
            command("exec", script_file, *half)


def test_exec_shows_what_was_printed_though_a_file_cannot_be_written(
    script_file: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, into = tmp_path / "file", tmp_path / "out"
    file.write_text("")
    words = ["--backend", "cold", "--collect", "sub/a.txt", "--json", "--into"]
    with pytest.raises(UserError, match="cannot make the directory"):
        command("exec", script_file, *words, str(file))
    assert capsys.readouterr().out == ""  # the script did not run
    into.mkdir()
    (into / "sub").write_text("in the way")
    with pytest.raises(UserError, match="cannot make the directory"):
        command("exec", script_file, *words, str(into))
    assert json.loads(capsys.readouterr().out)["stdout"] == "made\n"


@pytest.mark.parametrize(
    "words", [("--wall-seconds", "1e9"), ("--cpu-seconds", "1e30"), ("--processes", "100000")]
)
def test_exec_refuses_limits_that_no_machine_has(script_file: str, words: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"{words[0]} must be .* at most"):
        command("exec", script_file, *words)


def test_exec_takes_a_policy_and_limits(
    script_file: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="no-such-policy"):
        command("exec", script_file, "--policy", "no-such-policy")
    busy = tmp_path / "busy.py"
    busy.write_text("while True: pass")
    words = ["--policy", "default", "--backend", "cold", "--cpu-seconds", "0.2", "--json"]
    assert command("exec", str(busy), *words) == 124
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "timeout_cpu" and report["cpu_seconds"] < 1


def test_exec_without_isolation_warns_in_red(
    script_file: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("exec", script_file, "--unsafe", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["stdout"] == "made\n"
    assert "\x1b[31m" in shown.err and "UNSAFE" in shown.err
    assert command("exec", script_file, "--backend", "cold") == 0
    assert "UNSAFE" not in capsys.readouterr().err
