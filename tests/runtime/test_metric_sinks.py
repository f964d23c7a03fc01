"""Metric sinks: what they show is metrics.jsonl, each step once, whatever killed the run.

Real packages in offline mode, and what they wrote is read back: by TensorBoard, as wandb's records
in a log of LevelDB, and by SQLite.
"""

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from r1ci_jax.config import DatasetConfig, Experiment, SinkName
from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra
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
from r1ci_jax.runtime.sinks import metric_sinks
from r1ci_jax.train.training_run import TrainingRun

place, last = Path(sys.argv[1]), int(sys.argv[3])
path = place / "metrics.jsonl"
facts = metric_sinks.RunFacts(place, "toy", {"seed": 0})
with metric_sinks.opened([sys.argv[2]], facts, path) as sinks:
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
"""

# The same without JAX, which takes less time: step 4 is the last that a resumed one keeps.
WRITING = """
import os
import signal
import sys
from pathlib import Path

from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.sinks import metric_sinks

place, last = Path(sys.argv[1]), int(sys.argv[3])
path = place / "metrics.jsonl"
facts = metric_sinks.RunFacts(place, "toy", {"seed": 0})
with (
    metric_sinks.opened([sys.argv[2]], facts, path) as sinks,
    metrics.MetricsWriter(path, sinks) as writer,
):
    writer.truncate_after("sft", 4)
    for step in range(1 + len(metrics.read(path)), STEPS + 1):
        values = {"optim/loss": 1 / step, "len/tokens": 3 * step, "reward/x": float("nan")}
        writer.write("sft", step, values)
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)
    writer.write("potential", 1, {"curriculum/group1": 4})
"""

# A run with nothing left to do.
OPENING = """
import sys
from pathlib import Path

from r1ci_jax.runtime.sinks import metric_sinks

place = Path(sys.argv[1])
facts = metric_sinks.RunFacts(place, "toy", {"seed": 0})
with metric_sinks.opened([sys.argv[2]], facts, place / "metrics.jsonl"):
    pass
"""


def run(
    source: str,
    place: Path,
    name: SinkName,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    killed_at: int = 0,
) -> None:
    """Run in a process of its own, which resumes what is there."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", f"STEPS = {STEPS}\n{source}", str(place), name, str(killed_at)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == (-signal.SIGKILL if killed_at else 0), done.stderr


def steps(points: Sequence[Point], metric: str) -> list[int]:
    """Steps of a metric, each as often as it is there."""
    return [step for _, step, name, _ in points if name == metric]


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
    run(TRAINING, tmp_path, "tensorboard", killed_at=7)
    assert steps(in_tensorboard(tmp_path), "optim/loss") == [*range(1, 8)]  # there before the kill
    run(TRAINING, tmp_path, "tensorboard")
    shown = in_tensorboard(tmp_path)
    assert shown == logged(tmp_path)
    for metric in ("optim/loss", "len/tokens", "check/loss_deviation"):
        assert steps(shown, metric) == [*range(1, STEPS + 1)]
    losses = [value for *_, name, value in shown if name == "optim/loss"]
    assert losses == [float(np.float32(1 / step)) for step in range(1, STEPS + 1)]


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
    """Points of all offline files, each as often as it is there."""
    from wandb.proto import wandb_internal_pb2

    found: list[Point] = []
    for path in sorted(place.glob("wandb/offline-run-*/*.wandb")):
        for data in leveldb_records(path.read_bytes()):
            items = wandb_internal_pb2.Record.FromString(data).history.item  # pyright: ignore[reportAttributeAccessIssue]  # generated
            if items:
                row = {item.key or "/".join(item.nested_key): item.value_json for item in items}
                found += flatten({key: json.loads(text) for key, text in row.items()})
    return sorted(found)


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """Records of a file in the format of LevelDB's log, after wandb's seven bytes."""
    assert content[:4] == b":W&B"
    at, record, block = 7, b"", 32_768
    while at < len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""


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
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path)}
    run(WRITING, tmp_path, "wandb", environment, killed_at=7)
    [first] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    run(WRITING, tmp_path, "wandb", environment)
    assert in_wandb(tmp_path) == logged(tmp_path)
    [second] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert second.name == first.name and second != first  # one run by its id
    # What was sent to the server stays sent.
    second.with_name(f"{second.name}.synced").touch()
    with metrics.MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("grpo", 1, {"reward/mean": 0.5})
    run(OPENING, tmp_path, "wandb", environment)
    assert steps(in_wandb(tmp_path), "reward/mean") == [1]
    assert in_wandb(tmp_path) == logged(tmp_path)


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
    run(WRITING, place, "trackio", environment, killed_at=7)
    run(WRITING, place, "trackio", environment)
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
        f"the sink {name} needs the package {package}; install it: "
        f"{install_extra(name)}, or leave {name} out of --config.sinks"
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
    choices: list[tuple[SinkName, ...]] = [(), ("wandb",), ("tensorboard", "wandb")]
    for sinks in choices:
        with run_dir.RunDir.open(tmp_path / "run", experiment(sinks)) as run:
            assert run.config["experiment"]["sinks"] == [*sinks]
        assert json.loads(config.read_text())["experiment"]["sinks"] == [*sinks]
        assert "earlier_meshes" not in json.loads(config.read_text())
