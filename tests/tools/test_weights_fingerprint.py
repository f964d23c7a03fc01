"""Other weights have another fingerprint, wherever they differ."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from r1ci_jax.errors import UserError
from r1ci_jax.tools.model_evaluation.weights_fingerprint import fingerprint


def test_a_change_of_any_tensor_or_file_shows(tmp_path: Path) -> None:
    weights = {f"layer{n}": np.ones((512, 700 + n), np.float32) for n in range(5)}
    file = tmp_path / "model.safetensors"

    def write() -> str:
        save_file(weights, file, metadata={"format": "pt"})
        return fingerprint(tmp_path)

    found = {write()}
    assert write() in found
    for name in weights:  # one matrix alone, somewhere in the file
        weights[name] = -3 * weights[name]
        found.add(write())
    weights["bias"] = np.zeros(3, np.float32)
    found.add(write())
    weights["bias"] = np.array([0, 0, 1], np.float32)
    found.add(write())
    (tmp_path / "config.json").write_text("{}")
    found.add(fingerprint(tmp_path))
    assert len(found) == 1 + 5 + 3
    (tmp_path / "readme.md").write_text("x")
    assert fingerprint(tmp_path) in found
    assert fingerprint(tmp_path / "config.json") not in found


@pytest.mark.parametrize("content", [b"", b"abc", b"\x05" + bytes(7) + b"[1,2]", b"\xff" * 20])
def test_what_is_no_weight_file_is_for_the_loader_to_refuse(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    before = fingerprint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content + b"x")
    assert fingerprint(tmp_path) != before


def test_an_unreadable_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model-00002.safetensors").mkdir()  # as unreadable as a file of another user
    with pytest.raises(UserError, match=r"cannot read .*model-00002.*; make it readable"):
        fingerprint(tmp_path)
