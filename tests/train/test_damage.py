"""A step that is half-written or damaged is told from a good one, and the one before is used."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations import memory

from r1ci_jax.errors import UserError
from r1ci_jax.train import checkpoint, checkpoint_dir
from r1ci_jax.train.checkpoint import CheckpointManager

TREE = {"w": jnp.zeros((64, 64)), "count": jnp.array(0, jnp.int32)}


def tree(step: int) -> dict[str, jax.Array]:
    """Noise, so that no byte of it can change unseen."""
    return {"w": jax.random.normal(jax.random.key(step), (64, 64)), "count": jnp.array(step)}


def largest(step: Path) -> Path:
    """The file that holds the numbers of `w`."""
    return max(step.glob("state/**/d/*"), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(step: Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "half-written": (lambda step: (step / "step.json").unlink(), "it was never finished"),
    "emptied": (empty, "it was never finished"),
    "marker cut": (lambda step: os.truncate(step / "step.json", 10), "its step.json is damaged"),
    "marker of zeros": (lambda step: os.truncate(step / "step.json", 0), "step.json is damaged"),
    "marker not ours": (lambda step: (step / "step.json").write_text("[]"), "is damaged"),
    "metadata gone": (lambda step: (step / "state" / "_METADATA").unlink(), "has no bytes instead"),
    "metadata changed": (lambda step: flip(step / "state" / "_METADATA"), "checksum differs"),
    "arrays gone": (lambda step: largest(step).unlink(), "has no bytes instead of"),
    "arrays cut": (lambda step: halve(largest(step)), "bytes instead of"),
    "arrays changed": (lambda step: flip(largest(step)), "its checksum differs"),
}


def save(directory: Path, *steps: int) -> None:
    with CheckpointManager(directory) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree(step), {"step": step})


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_step_is_skipped_with_a_warning_and_written_again(tmp_path, name, caplog):
    damage, reason = DAMAGES[name]
    save(tmp_path, 1, 2)
    damage(tmp_path / "2")
    with CheckpointManager(tmp_path) as checkpoints:
        with caplog.at_level(logging.WARNING):
            found = checkpoints.restore_latest(checkpoint.abstract(TREE))
        assert found is not None and (found.step, found.metadata) == (1, {"step": 1})
        np.testing.assert_array_equal(found.tree["w"], tree(1)["w"])
        [record] = caplog.records
        said = record.getMessage()
        assert said.startswith(f"checkpoint {tmp_path / '2'} is skipped: ") and reason in said
        assert "\n" not in said
        checkpoints.save(2, tree(2), {"step": "again"})
    with CheckpointManager(tmp_path) as checkpoints:
        again = checkpoints.restore_latest(checkpoint.abstract(TREE))
        assert again is not None and again.metadata == {"step": "again"}
        np.testing.assert_array_equal(again.tree["w"], tree(2)["w"])


def test_what_passes_every_check_and_cannot_be_read_is_skipped_too(tmp_path, caplog):
    """As after a release of Orbax that no longer knows how an older one wrote."""
    save(tmp_path, 1, 2)
    path = tmp_path / "2" / "state" / "_METADATA"
    path.write_text("{}")
    marker = json.loads((tmp_path / "2" / "step.json").read_text())
    marker["files"]["state/_METADATA"] = 2
    del marker["crc32"]["state/_METADATA"]
    (tmp_path / "2" / "step.json").write_text(json.dumps(marker))
    with CheckpointManager(tmp_path) as checkpoints:
        with caplog.at_level(logging.WARNING, "r1ci_jax"):
            found = checkpoints.restore_latest(checkpoint.abstract(TREE))
        assert found is not None and found.step == 1
        assert f"checkpoint {tmp_path / '2'} is skipped: " in caplog.text
        checkpoints.save(2, tree(2), {})
        checkpoints.save(3, tree(3), {})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]


def test_where_no_step_is_good_the_run_stops_instead_of_starting_afresh(tmp_path):
    save(tmp_path, 1, 2)
    for step in (1, 2):
        flip(largest(tmp_path / str(step)))
    with CheckpointManager(tmp_path) as checkpoints:
        with pytest.raises(UserError, match=r"no checkpoint in .* delete that directory") as one:
            checkpoints.restore_latest(checkpoint.abstract(TREE))
        with pytest.raises(UserError, match="no checkpoint in"):
            checkpoints.save(3, tree(3), {})
    assert "\n" not in str(one.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"], "nothing was deleted"


def test_a_first_step_that_was_never_finished_is_no_step(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "1" / "step.json").unlink()
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    with CheckpointManager(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(checkpoint.abstract(TREE)) is None
        checkpoints.save(1, tree(1), {})
        checkpoints.wait()
        assert checkpoints.steps() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_another_model_or_seed_is_an_error_and_not_damage(tmp_path, caplog):
    with CheckpointManager(tmp_path, training={"seed": 3}) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, tree(step), {})
    wider = {"w": jnp.zeros((64, 65)), "count": jnp.array(0)}
    with (
        CheckpointManager(tmp_path, training={"seed": 3}) as checkpoints,
        pytest.raises(UserError, match=r"\['w'\] is \[64, 64\] there, \[64, 65\] in this run"),
    ):
        checkpoints.restore_latest(checkpoint.abstract(wider))
    with (
        CheckpointManager(tmp_path, training={"seed": 4}) as checkpoints,
        pytest.raises(UserError, match="seed is 3 there, 4 in this run; use another") as one,
    ):
        checkpoints.restore_latest(checkpoint.abstract(TREE))
    assert "\n" not in str(one.value)
    assert not [record for record in caplog.records if record.name.startswith("r1ci_jax")]


def test_damaged_weights_are_refused(tmp_path):
    checkpoint.save_params(tmp_path / "final", tree(1))
    flip(largest(tmp_path / "final"))
    with pytest.raises(UserError, match=r"cannot be used: .* checksum differs.; run the stage"):
        checkpoint.load_params(tmp_path / "final", checkpoint.abstract(TREE))


# --- what stays ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("better", "kept"),
    # Losses 5 1 4 1 3 9: the last two, and of the others the best two; a later one wins a tie.
    [("lower", [2, 4, 5, 6]), ("higher", [1, 5, 6])],
)
def test_the_last_and_the_best_steps_stay(tmp_path, better, kept):
    for step, metric in enumerate((5.0, 1.0, 4.0, 1.0, 3.0, 9.0), start=1):
        # A process each: the metric lies with the step.
        with CheckpointManager(tmp_path, 2, keep_best=2, better=better) as checkpoints:
            checkpoints.save(step, TREE, {}, metric=metric)
    with CheckpointManager(tmp_path) as checkpoints:
        assert checkpoints.steps() == kept
        assert checkpoints.latest() == 6


def test_a_step_without_metric_is_never_among_the_best(tmp_path):
    with CheckpointManager(tmp_path, 1, keep_best=2) as checkpoints:
        for step, metric in enumerate((None, 2.0, None, None), start=1):
            checkpoints.save(step, TREE, {}, metric=metric)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 4]


def test_the_step_that_was_gone_on_from_is_not_written_again(tmp_path):
    save(tmp_path, 1, 2)
    with CheckpointManager(tmp_path) as checkpoints:
        assert checkpoints.latest() == 2
        checkpoints.save(2, tree(7), {})
        _, metadata = checkpoints.restore(2, checkpoint.abstract(TREE))
    assert metadata == {"step": 2}


# --- where there is no file system ---------------------------------------------------------------


class Bucket(memory.MemoryFileSystem):
    """Holds objects under gs:// in memory."""

    protocol: ClassVar = ("gcs", "gs")
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("gcs://").removeprefix("gs://"))


def test_a_step_in_a_bucket_is_told_whole_from_half(monkeypatch):
    """All but the arrays, which Orbax writes there itself."""
    bucket = Bucket()
    monkeypatch.setattr(backend.fsspec_backend, "fs", lambda path: bucket)
    monkeypatch.setattr(os, "replace", None)  # a bucket cannot rename
    step = checkpoint_dir.resolve_path("gs://bucket/run/3")
    (step / "state" / "d").mkdir(parents=True)
    (step / "state" / "d" / "array").write_bytes(b"1234")
    with pytest.raises(checkpoint_dir.UnusableCheckpointError, match="never finished"):
        checkpoint_dir.verify(step)
    files = {"state/d/array": 4}
    assert dict(checkpoint_dir._sizes(step)) == files
    checkpoint_dir._write_marker(step, json.dumps({"files": files}))
    checkpoint_dir.verify(step)
    with CheckpointManager("gs://bucket/run") as checkpoints:
        assert checkpoints.steps() == [3] and checkpoints.latest() == 3
    (step / "state" / "d" / "array").write_bytes(b"123")
    with pytest.raises(
        checkpoint_dir.UnusableCheckpointError, match="state/d/array has 3 bytes instead of 4"
    ):
        checkpoint_dir.verify(step)
    (step.parent / "4").mkdir()
    checkpoint_dir.clear(step)
    assert [path.name for path in step.parent.iterdir()] == ["4"]


def test_a_bucket_that_needs_a_package_says_which(run_on_devices):
    """In a process of its own: etils keeps the file system that another test gave it."""
    said = run_on_devices(
        1,
        """
import sys
sys.modules["gcsfs"] = None
from r1ci_jax.errors import UserError
from r1ci_jax.train.checkpoint import CheckpointManager
try:
    CheckpointManager("gs://bucket/run")
except UserError as error:
    print(error)
""",
    )
    assert said.startswith("gs://bucket/run cannot be reached: ") and "gcsfs" in said
    assert said.count("\n") == 1
