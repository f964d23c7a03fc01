"""The soak test passes on a sound sandbox and notices an unsound one."""

import argparse
import dataclasses
import json
import os
import pathlib
import tempfile
import time

import pytest

from r1ci_jax.cli import sandbox as cli
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.sandbox.stress import bench, soak, soak_mix
from r1ci_jax.sandbox.stress.census import Census, Memory, each_memory_once
from r1ci_jax.sandbox.stress.soak_mix import Step
from tests.load import PATIENCE


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_commands(parser.add_subparsers())
    arguments = parser.parse_args(["sandbox", *words])
    return arguments.run(arguments)


def test_a_short_soak_holds(capsys: pytest.CaptureFixture[str]) -> None:
    status = command("soak", "--runs", "60", "--json")
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert report["ok"] and status == 0, (report["reasons"], report["mismatches"])
    kinds = soak_mix.mix(report["tier"])
    assert sum(report["kinds"].values()) == 60 + 2 * len(kinds)
    assert set(report["kinds"]) == {kind.name for kind in kinds}
    assert {"ok", "exception", "exit_nonzero", "timeout_cpu", "timeout_wall", "output_limit",
            "killed_signal"} <= set(report["statuses"])  # fmt: skip
    assert "setup_error" not in report["statuses"] and "infra_error" not in report["statuses"]
    assert report["left_after_close"] == {} and report["mismatches"] == []
    assert len(report["memory"]["host_mib"]) == 6 + 1
    assert "60 of 60 runs" in shown.err
    assert soak.story(report).endswith("ok")


def test_the_mix_is_mostly_quick_and_the_same_for_a_seed() -> None:
    kinds = soak_mix.mix("nsjail + cgroup")
    assert len({kind.name for kind in kinds}) == len(kinds)
    whole = sum(kind.weight for kind in kinds)
    slow = (soak_mix.SHORT_CPU, soak_mix.SHORT_WALL)
    assert sum(kind.weight for kind in kinds if kind.limits in slow) < 0.025 * whole
    assert {Status.OOM} == {s for kind in kinds[-1:] for s in kind.steps[0].status}
    assert {Status.OK} == {s for k in soak_mix.mix("unsafe")[-1:] for s in k.steps[0].status}


def test_a_soak_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="at least one run"):
        soak.Plan(runs=0)


def test_every_difference_is_named() -> None:
    step = Step(
        code="", status=(Status.EXIT_NONZERO,), stdout="@N@\n", exit_code=3,
        collects=(("a", b"@N@"),),
    )  # fmt: skip
    good = ExecResult(status=Status.EXIT_NONZERO, exit_code=3, stdout="12\n", files={"a": b"12"})
    assert soak.differences(step, 12, good) == {}
    assert set(soak.differences(step, 13, good)) == {"stdout", "files"}
    bad = dataclasses.replace(good, status=Status.OK, exit_code=0, state_lost=True)
    assert set(soak.differences(step, 12, bad)) == {"status", "exit_code", "state_lost"}
    killed = Step(code="", status=(Status.KILLED_SIGNAL,), signal=9, lost=None)
    assert soak.differences(killed, 0, ExecResult(status=Status.KILLED_SIGNAL, signal=11)) == {
        "signal": "11"
    }


def census(**changes: int) -> Census:
    counts = {f.name: 5 for f in dataclasses.fields(Census) if f.name != "memory"}
    return Census(
        memory=Memory(available=0, host=64 << 20, pss=None, written=None), **{**counts, **changes}
    )


def test_growth_and_leavings_are_reasons_to_fail() -> None:
    driver = soak.Driver.__new__(soak.Driver)
    driver.failures, driver.mismatches = 0, []
    assert soak.complaints(driver, [census(), census(fds=4)], {}) == []
    assert soak.complaints(driver, [census(), census(fds=7, mounts=6)], {"processes": 1}) == [
        "fds grew by 2", "mounts grew by 1", "processes: 1 left after the sandbox was closed",
    ]  # fmt: skip
    driver.failures, driver.mismatches = 2, [{"kind": "print"}, {"kind": "exit"}]
    assert soak.complaints(driver, [census()] * 2, {}) == [
        "2 results were not as expected: exit, print"
    ]


def test_memory_may_wobble_but_not_grow() -> None:
    mib = 1 << 20
    assert soak.memory_growth([100 * mib] * 9) == 0
    assert soak.memory_growth([100 * mib, 130 * mib, 90 * mib] * 4) == 0
    assert soak.memory_growth([(100 + 10 * n) * mib for n in range(9)]) == 50 * mib
    assert soak.memory_growth([100 * mib] * 8 + [180 * mib]) == 0
    assert soak.memory_growth([mib]) == 0


def test_the_census_sees_what_is_left(tmp_path: pathlib.Path) -> None:
    before = Census.take(tmp_path)
    reading, writing = os.pipe()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "left").touch()
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        growth = Census.take(tmp_path).growth(before)
        assert growth["fds"] == 2 and growth["temp_files"] == 2 and growth["processes"] == 1
        assert growth["mounts_below"] > 0 and "mounts" not in growth
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
    (tmp_path / "folder" / "left").unlink()
    (tmp_path / "folder").rmdir()
    began = time.monotonic()
    assert Census.take_when_still(tmp_path, 10.0, before).growth(before) == {}
    assert time.monotonic() - began < PATIENCE


def smaps(rss: int, anonymous: int, share: int, file_share: int) -> str:
    """What /proc/PID/smaps_rollup says, in KiB; `share` of the anonymous pages is the process's."""
    return (
        f"Rss: {rss} kB\nPss: {share + file_share} kB\nAnonymous: {anonymous} kB\n"
        f"Pss_Anon: {share} kB\nPss_File: {file_share} kB\nPss_Shmem: 0 kB\n"
    )


def test_memory_of_two_processes_counts_once_while_others_map_the_same_files() -> None:
    server = smaps(97_836, 77_604, 39_318, 3_162)
    first_process = smaps(97_836, 77_604, 39_318, 2_950)  # the same memory, a moment later
    forked = smaps(82_316, 77_608, 39_322, 491)  # a copy, of which pages may be written
    texts = {10: server, 11: first_process, 12: forked}
    assert each_memory_once(texts, {10: 1, 11: 10, 12: 10}) == [server, forked]
    assert each_memory_once({11: first_process}, {10: 1, 11: 10}) == [first_process]


def test_a_count_is_as_before_when_nothing_came_or_went() -> None:
    def with_memory(written: int, **changes: int) -> Census:
        return dataclasses.replace(
            census(**changes), memory=Memory(available=0, host=1, pss=None, written=written)
        )

    first = with_memory(80 << 20)
    assert with_memory((80 << 20) + 4096).as_before(first)
    assert not with_memory(119 << 20).as_before(first)  # a worker starts
    assert not with_memory(80 << 20, processes=4).as_before(first)


def test_temporary_files_go_to_a_place_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    before = tempfile.gettempdir()
    with soak.private_temporary_directory() as place:
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(place)
        (place / "left").touch()
    assert tempfile.gettempdir() == before == os.environ["TMPDIR"] and not place.exists()


def test_wrong_answers_and_errors_of_the_sandbox_are_counted() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from r1ci_jax.sandbox import Sandbox, SandboxConfig

    with Sandbox(SandboxConfig(backend="cold", workers=1)) as box, ThreadPoolExecutor(1) as pool:
        driver = soak.Driver(box, pool)
        wrong = soak_mix.script("wrong", 1, "print(1)", stdout="2\n")
        driver.run([wrong, soak_mix.PLAIN[0]], 0, bench.Progress())
        assert driver.failures == 1 and driver.mismatches[0]["wrong"] == {"stdout": "1\n"}
        box.close()
        driver.run([soak_mix.PLAIN[0]], 0, bench.Progress())
    assert driver.failures == 2 and driver.kinds == {"wrong": 1, "print": 2}
