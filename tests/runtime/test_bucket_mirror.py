"""A run kept at a URL: what is there can always be gone on with, here or elsewhere."""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, bucket_mirror, metrics, run_dir
from tests.load import wait_until

EXPERIMENT = Experiment(name="tiny", dataset=DatasetConfig(tasks=("toy_gcd_lcm",)))


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket" / "runs" / "tiny"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Go to work on a machine by its name: each has a disk of its own."""

    def at(name: str) -> Path:
        disk = tmp_path / name
        disk.mkdir(exist_ok=True)
        monkeypatch.chdir(disk)
        return disk

    return at


def log(run: run_dir.RunDir, step: int) -> None:
    with metrics.MetricsWriter(run.metrics_path) as writer:
        writer.write("sft", step, {"loss": 1 / step})


def steps(path: Path) -> list[int]:
    return [row["step"] for row in metrics.read(path / "metrics.jsonl")]


def test_another_machine_resumes_where_the_first_one_stopped(machine, bucket: Path) -> None:
    machine("first")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as run:
        assert (bucket / "config.json").is_file(), "a run is known at its URL from the start"
        log(run, 1)
        (run.path / "data" / "train").mkdir(parents=True)
        (run.path / "data" / "train" / "part-0").write_bytes(b"\x00\xff")
        run.mark_finished("data", questions=3)
        assert steps(bucket) == [1], "a finished stage is copied at once"
        log(run, 2)
    disk = machine("second")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as run:
        assert run.path.resolve().is_relative_to(disk)
        assert list(run.finished_stages()) == ["data"] and steps(run.path) == [1, 2]
        assert (run.path / "data" / "train" / "part-0").read_bytes() == b"\x00\xff"
        log(run, 3)
    assert steps(bucket) == [1, 2, 3]
    assert not [path for path in bucket.rglob("*") if path.name.startswith(".")]


def test_checkpoints_go_straight_to_the_url(machine, bucket: Path) -> None:
    machine("first")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as run:
        place = run.checkpoints / "sft" / "10"
        place.mkdir(parents=True)
        (place / "step.json").write_text("{}")
        assert run.location == f"file://{bucket}"
    assert (bucket / "checkpoints" / "sft" / "10" / "step.json").is_file()
    disk = machine("second")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT):
        assert not list(disk.rglob("step.json")), "what a device reads from the URL is not copied"


def test_killed_machine_keeps_what_it_had_not_copied(machine, bucket: Path) -> None:
    machine("first")
    killed = run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT)
    log(killed, 1)
    abandon(killed)
    assert not (bucket / "metrics.jsonl").exists()
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as run:
        assert steps(run.path) == [1]
    assert steps(bucket) == [1]


def test_machine_that_was_overtaken_takes_the_newer_run(machine, bucket: Path) -> None:
    machine("first")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as run:
        log(run, 1)
        (run.path / "tables").mkdir()
        (run.path / "tables" / "old.md").write_text("old")
    machine("second")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as run:
        log(run, 2)
        (run.path / "tables" / "old.md").unlink()
    assert not (bucket / "tables" / "old.md").exists()
    machine("first")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as run:
        assert steps(run.path) == [1, 2]
        assert not (run.path / "tables" / "old.md").exists()


def test_copy_that_was_cut_short_is_gone_on_with(
    machine, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any write of a copy, the same machine loses nothing."""
    for kill_at in range(1, 8):
        machine("first")
        run = run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT)
        log(run, kill_at)
        run.mark_finished(f"before_{kill_at}")
        log(run, 100 + kill_at)
        with monkeypatch.context() as patch:
            patch.setattr(atomic_files, "write_atomic", killed_at(kill_at))
            with contextlib.suppress(KeyboardInterrupt):
                run.mark_finished("cut")
        abandon(run)
        with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as resumed:
            assert steps(resumed.path)[-2:] == [kill_at, 100 + kill_at]
        assert steps(bucket)[-2:] == [kill_at, 100 + kill_at]


def test_process_that_does_not_copy_takes_the_run_and_changes_nothing(
    machine, bucket: Path
) -> None:
    machine("first")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as run:
        run.mark_finished("data")
        machine("second")
        with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT, host=1) as other:
            assert other.is_finished("data")
            other.mark_finished("sft")
            log(other, 1)
        machine("first")
    assert not (bucket / "metrics.jsonl").exists()
    assert list(json.loads((bucket / "stages.json").read_text())) == ["data"]


def test_two_writers_are_noticed(machine, bucket: Path) -> None:
    machine("first")
    first = run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT)
    machine("second")
    with run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT) as second:
        second.mark_finished("data")
    machine("first")
    log(first, 1)
    with pytest.raises(UserError, match="written by another process"):
        first.close()


def test_run_with_another_config_is_refused(machine, bucket: Path) -> None:
    machine("first")
    run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT).close()
    machine("second")
    with pytest.raises(UserError, match="seed"):
        run_dir.RunDir.open(f"file://{bucket}", dataclasses.replace(EXPERIMENT, seed=1))


def test_place_with_other_files_is_refused_untouched(machine, bucket: Path) -> None:
    machine("first")
    bucket.mkdir(parents=True)
    (bucket / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="no run"):
        run_dir.RunDir.open(f"file://{bucket}", EXPERIMENT)
    assert [path.name for path in bucket.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("url", ["gs://", "s3://bucket/run", "http://host/run"])
def test_url_of_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="gs://bucket"):
        bucket_mirror.BucketMirror(url)


def test_bucket_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    beyond_a_file = bucket_mirror.BucketMirror(f"file://{tmp_path}/file/run", tmp_path / "local")
    with pytest.raises(UserError, match="cannot be read or written"):
        beyond_a_file.pull()
        beyond_a_file.push()


def test_copies_are_made_during_the_run(tmp_path: Path) -> None:
    local, there = tmp_path / "local", tmp_path / "there"
    kept = bucket_mirror.BucketMirror(f"file://{there}", local, interval_seconds=0.01)
    kept.pull()
    kept.start()
    (local / "metrics.jsonl").write_text("{}\n")
    wait_until((there / "metrics.jsonl").exists)
    assert json.loads((there / "metrics.jsonl").read_text()) == {}
    kept.close()


def test_shipped_code_says_which_revision_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1CI_REVISION", "abc123+changes")
    with run_dir.RunDir.open(tmp_path / "run", EXPERIMENT) as run:
        assert run.config["git_revision"] == "abc123" and run.config["git_changes"] is True


class Bucket(MemoryFileSystem):
    """Objects under names: no directories, as in Google's store."""

    protocol = ("gcs", "gs")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(str(path).removeprefix("gs:/"))


def test_gs_url_works_through_the_library_for_buckets(
    machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(fsspec.registry)
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    try:
        machine("first")
        with run_dir.RunDir.open("gs://bucket/runs/tiny", EXPERIMENT) as run:
            log(run, 1)
            run.mark_finished("data")
            (run.path / "tables").mkdir()
            (run.path / "tables" / "old.md").write_text("old")
            assert str(run.checkpoints) == "gs://bucket/runs/tiny/checkpoints"
        assert "/bucket/runs/tiny/tables/old.md" in Bucket.store
        disk = machine("second")
        with run_dir.RunDir.open("gs://bucket/runs/tiny", EXPERIMENT) as run:
            assert run.path.resolve() == disk / "runs/mirrored/bucket/runs/tiny"
            assert steps(run.path) == [1] and run.is_finished("data")
            (run.path / "tables" / "old.md").unlink()
        assert "/bucket/runs/tiny/tables/old.md" not in Bucket.store
        Bucket.store["/bucket/other/thesis.tex"] = Bucket.store["/bucket/runs/tiny/config.json"]
        with pytest.raises(UserError, match="no run"):
            run_dir.RunDir.open("gs://bucket/other", EXPERIMENT)
    finally:
        fsspec.register_implementation("gcs", known.get("gcs", "gcsfs.GCSFileSystem"), clobber=True)


def killed_at(number: int) -> Callable[[Path, str | bytes], None]:
    """Writes files until its n-th call, which kills instead."""
    write, calls = atomic_files.write_atomic, itertools.count(1)

    def cut(path: Path, text: str | bytes) -> None:
        if next(calls) >= number:
            raise KeyboardInterrupt
        write(path, text)

    return cut


def abandon(run: run_dir.RunDir) -> None:
    """As if the process were killed: nothing more is copied, the lock is gone."""
    assert run._mirror is not None
    run._mirror._closing.set()
    run._mirror = None
    run.close()
