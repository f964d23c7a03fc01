"""Metric sinks: what they show is metrics.jsonl, each step once, whatever killed the run.

Real packages in offline mode; files are read back by the readers of TensorBoard, wandb and SQLite.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r1ci_jax.config import DatasetConfig, Experiment, SinkName
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import hosts, metrics, run_dir
from r1ci_jax.runtime.sinks import metric_sinks
from tests.load import PATIENCE

type Point = tuple[str, int, str, float]
"""Stage, step, metric and value."""

STEPS = 10

# A training whose state is one number, in the frame of the real ones: files, checkpoints, resume.
TRAINING = """
import os
import signal
import sys
from pathlib import Path

import jax.numpy as jnp
import optax

from r1ci_jax.config import SftConfig
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.sinks import metric_sinks
from r1ci_jax.train.training_run import TrainingRun

place, names, last = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
path = place / "metrics.jsonl"
facts = metric_sinks.RunFacts(place, "toy", {"seed": 0})
with metric_sinks.opened(names, facts, path) as sinks:
    run = TrainingRun(
        name="sft", seed=1, checkpoints_dir=place / "checkpoints", metrics_path=path,
        trajectories_path=place / "t", diagnostics_path=place / "d", rollouts_dir=place / "r",
        diverged_dir=place / "x", sinks=sinks,
    )
    config = SftConfig(checkpoint_every=4)
    with run.start({"w": jnp.zeros(())}, optax.sgd(0.1), config, STEPS, identity={}) as loop:
        for step in range(loop.first_step + 1, STEPS + 1):
            values = {"optim/loss": 1 / step, "len/tokens": 3 * step, "reward/x": float("nan")}
            loop.record(step, values, save_batch=lambda: path, advice="", shown={})
            if step == last:
                os.kill(os.getpid(), signal.SIGKILL)
            if loop.must_save(step):
                loop.save(step, loop.train_state, {}, metric=1.0)
                loop._checkpoints.wait()
    with metrics.MetricsWriter(path, sinks) as writer:
        writer.write("potential", 1, {"curriculum/group1": 4})
"""


def train(place: Path, name: str, *, killed_at: int = 0, **environment: str) -> None:
    """Train in a process of its own, which resumes what is there."""
    place.mkdir(exist_ok=True)
    source = f"STEPS = {STEPS}\n{TRAINING}"
    done = subprocess.run(
        [sys.executable, "-c", source, str(place), name, str(killed_at)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == (-signal.SIGKILL if killed_at else 0), done.stderr


def logged(place: Path) -> list[Point]:
    """Points of metrics.jsonl, each as often as it is there."""
    return sorted(
        (record["stage"], record["step"], name, float(np.float32(value)))
        for record in metrics.read(place / "metrics.jsonl")
        for name, value in metric_sinks.points(record).items()
    )


def in_tensorboard(place: Path) -> list[Point]:
    """Points of the event files, read by TensorBoard itself."""
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="THE PACKAGE tensorboard IS MISSING: its event files are not read back",
    )
    found: list[Point] = []
    for folder in (place / "tensorboard").iterdir():
        events = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        for name in events.Tags()["scalars"]:
            found += [(folder.name, e.step, name, e.value) for e in events.Scalars(name)]
    return sorted(found)


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip(
        "tensorboardX", reason="THE PACKAGE tensorboardX IS MISSING: the sink is not tested"
    )


@pytest.mark.usefixtures("tensorboard")
def test_killed_and_resumed_gives_the_same_curves_in_tensorboard(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(whole, "tensorboard")
    train(stopped, "tensorboard", killed_at=7)
    assert [step for stage, step, name, _ in in_tensorboard(stopped) if name == "optim/loss"] == [
        *range(1, 8)
    ]  # each point was there before the kill
    train(stopped, "tensorboard")
    expected = in_tensorboard(whole)
    assert len(expected) == len(set(expected)) == 3 * STEPS + 1  # check/loss_deviation is the third
    assert in_tensorboard(stopped) == expected == logged(stopped) == logged(whole)


@pytest.mark.usefixtures("tensorboard")
def test_a_sink_that_comes_late_gets_the_records_before(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with metrics.MetricsWriter(path) as writer:
        for step in (1, 2, 3):
            writer.write("sft", step, {"optim/loss": step / 3})
    facts = metric_sinks.RunFacts(tmp_path, "toy", {})
    for step in (4, 5):  # the second time the files are there already
        with (
            metric_sinks.opened(("tensorboard",), facts, path) as sinks,
            metrics.MetricsWriter(path, sinks) as writer,
        ):
            writer.write("sft", step, {"optim/loss": step / 3})
            assert in_tensorboard(tmp_path) == logged(tmp_path)  # before it is closed
    assert len(in_tensorboard(tmp_path)) == 5


def in_wandb(place: Path) -> list[Point]:
    """Points of all offline files, each as often as it is there, read by wandb itself."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    found: list[Point] = []
    for path in sorted(place.glob("wandb/offline-run-*/*.wandb")):
        store = DataStore()
        store.open_for_scan(str(path))
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if not record.history.item:
                continue
            row = {item.key or "/".join(item.nested_key): item for item in record.history.item}
            values = {key: json.loads(item.value_json) for key, item in row.items()}
            found += flatten(values)
    return sorted(found)


def flatten(row: dict[str, Any]) -> list[Point]:
    """Points of a row {"sft/step": 3, "sft/optim/loss": 0.3, ...}."""
    [axis] = [key for key in row if key.endswith("/step")]
    stage = axis.removesuffix("/step")
    return [
        (stage, row[axis], key.removeprefix(f"{stage}/"), float(np.float32(value)))
        for key, value in row.items()
        if key.startswith(f"{stage}/") and key != axis
    ]


def test_killed_and_resumed_gives_the_same_curves_in_wandb(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="THE PACKAGE wandb IS MISSING: the sink is not tested")
    place = tmp_path / "run"
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path)}
    train(place, "wandb", killed_at=7, **environment)
    wait_for(lambda: len([p for p in in_wandb(place) if p[2] == "optim/loss"]) == 7)
    train(place, "wandb", **environment)
    assert in_wandb(place) == logged(place)
    ids = {path.name for path in place.glob("wandb/offline-run-*/*.wandb")}
    assert len(ids) == 1 and len([*place.glob("wandb/offline-run-*")]) == 2  # one run, resumed


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for another process."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.2)


def in_trackio(database: Path) -> list[Point]:
    """Points of trackio's database, each as often as it is there."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, metrics FROM metrics").fetchall()
    assert len({name for name, _ in rows}) == 1  # one run, resumed
    return sorted(point for _, text in rows for point in flatten(json.loads(text)))


def test_killed_and_resumed_gives_the_same_curves_in_trackio(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="THE PACKAGE trackio IS MISSING: the sink is not tested")
    place = tmp_path / "run"
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path)}
    train(place, "trackio", killed_at=7, **environment)
    train(place, "trackio", **environment)
    assert in_trackio(tmp_path / "trackio" / "r1ci.db") == logged(place)


@pytest.mark.parametrize("name", [*metric_sinks.KINDS])
def test_a_missing_package_is_one_line_with_the_extra(
    name: SinkName, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = metric_sinks.KINDS[name].package
    monkeypatch.setattr(metric_sinks.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError) as refusal:
        metric_sinks.require_installed((name,))
    assert str(refusal.value) == (
        f"the sink {name} needs the package {package}; install it: pip install -e '.[{name}]', "
        f"or leave {name} out of --config.sinks"
    )


def test_only_the_first_host_opens_sinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "is_first", lambda: False)
    facts = metric_sinks.RunFacts(tmp_path, "toy", {})
    with metric_sinks.opened((*metric_sinks.KINDS,), facts, tmp_path / "metrics.jsonl") as sinks:
        assert sinks == ()
    assert [*tmp_path.iterdir()] == []


class Seen:
    """A follower that compares itself with the file at each call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[metrics.Record] = []

    def follow(self, records: Sequence[metrics.Record]) -> None:
        self.records = [*records]
        assert self.records == metrics.read(self.path)

    def write(self, record: metrics.Record) -> None:
        self.records.append(record)
        assert self.records == metrics.read(self.path)


def test_followers_see_what_the_file_holds(tmp_path: Path) -> None:
    seen = Seen(tmp_path / "metrics.jsonl")
    with metrics.MetricsWriter(seen.path, [seen]) as writer:
        for stage in ("sft", "grpo"):
            for step in (1, 2, 3):
                writer.write(stage, step, {"optim/loss": step})
        writer.truncate_after("sft", 1)
        writer.write("sft", 2, {"optim/loss": 5})
    assert [(r["stage"], r["step"]) for r in seen.records] == [
        *(("sft", 1), ("grpo", 1), ("grpo", 2), ("grpo", 3), ("sft", 2))
    ]


def test_sinks_may_change_when_a_run_resumes(tmp_path: Path) -> None:
    def experiment(sinks: tuple[SinkName, ...]) -> Experiment:
        return Experiment(name="toy", dataset=DatasetConfig(tasks=("toy_gcd_lcm",)), sinks=sinks)

    run_dir.RunDir.open(tmp_path / "run", experiment(())).close()
    config = tmp_path / "run" / "config.json"
    old = json.loads(config.read_text())
    del old["experiment"]["sinks"]  # as an earlier version wrote it
    config.write_text(json.dumps(old))
    for sinks in ((), ("wandb",), ("tensorboard", "wandb")):
        with run_dir.RunDir.open(tmp_path / "run", experiment(sinks)) as run:
            assert run.config["experiment"]["sinks"] == [*sinks]
        assert json.loads(config.read_text())["experiment"]["sinks"] == [*sinks]
        assert "earlier_meshes" not in json.loads(config.read_text())
