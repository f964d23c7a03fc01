"""Line files: complete lines survive anything, half lines never count."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import metrics


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    rows = [{"a": 1, "text": 'line\nbreak "quoted" é \udc80'}, {"b": [1.5, None, True]}]
    with metrics.JsonlLog(path) as log:
        for row in rows:
            log.append(row)
            assert metrics.read(path)[-1] == row  # visible at once, before close
    assert metrics.read(path) == rows


def test_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert metrics.read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("half", [b"{", b'{"stage": "sft", "st', b'{"whole": 1}', b"\xff\xfe"])
def test_half_last_line_is_ignored_then_cut(tmp_path: Path, half: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"n": 1}\n' + half)
    assert metrics.read(path) == [{"n": 1}]
    with metrics.JsonlLog(path) as log:
        log.append({"n": 2})
    assert metrics.read(path) == [{"n": 1}, {"n": 2}]


def test_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": \n{"n": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        metrics.read(path)


def test_truncate_after_touches_only_its_stage(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with metrics.MetricsWriter(path) as writer:
        for stage in ("sft", "grpo"):
            for step in range(1, 5):
                writer.write(stage, step, {"optim/loss": step / 2})
        assert writer.truncate_after("grpo", 2) == 2
        assert writer.truncate_after("grpo", 2) == 0
        writer.write("grpo", 3, {"optim/loss": 9})
    seen = [(row["stage"], row["step"]) for row in metrics.read(path)]
    assert seen == [("sft", n) for n in (1, 2, 3, 4)] + [("grpo", n) for n in (1, 2, 3)]
    assert metrics.read(path)[-1]["optim/loss"] == 9


def test_non_finite_values_stay_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with metrics.MetricsWriter(path) as writer:
        writer.write(
            "sft", 1, {"a": float("nan"), "b": np.float32("-inf"), "c": np.ones(1), "d": 3}
        )
    row = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert (row["a"], row["b"], row["c"], row["d"]) == (None, None, 1.0, 3)
    assert row["non_finite"] == {"a": "nan", "b": "-inf"}


def test_metric_names_cannot_shadow_the_columns(tmp_path: Path) -> None:
    with metrics.MetricsWriter(tmp_path / "m.jsonl") as writer, pytest.raises(AssertionError):
        writer.write("sft", 1, {"step": 2})


def test_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with metrics.JsonlLog(path) as log:
        log.append({"n": 1})
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
        try:
            with pytest.raises(OSError):
                log.append({"text": "x" * 1000})  # the kernel takes 10 bytes of it, then refuses
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        log.append({"n": 2})
    assert metrics.read(path) == [{"n": 1}, {"n": 2}]
