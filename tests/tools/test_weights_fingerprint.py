"""Other weights have another fingerprint, wherever they differ."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from r1ci_jax.errors import UserError
from r1ci_jax.tools.model_evaluation import weights_fingerprint


def test_a_change_of_any_tensor_or_text_file_shows(tmp_path: Path) -> None:
    tensors = {f"layer{n}": np.ones((512, 700 + n), np.float32) for n in range(5)}

    def write() -> str:
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return weights_fingerprint.of_checkpoint(tmp_path)

    found = {write()}
    assert write() in found
    for name in tensors:  # one matrix alone, somewhere in the file
        tensors[name] = -3 * tensors[name]
        found.add(write())
    tensors["bias"] = np.zeros(3, np.float32)
    found.add(write())
    tensors["bias"] = np.array([0, 0, 1], np.float32)
    found.add(write())
    (tmp_path / "config.json").write_text("{}")
    found.add(weights_fingerprint.of_checkpoint(tmp_path))
    assert len(found) == 1 + 5 + 3
    (tmp_path / "readme.md").write_text("x")
    assert weights_fingerprint.of_checkpoint(tmp_path) in found


def test_the_fingerprint_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    found = set()
    for content in (b"", b"a", b"ab"):
        file.write_bytes(content)
        found.add(weights_fingerprint.of_file(file))
    assert len(found) == 3
    with pytest.raises(UserError, match=r"cannot read .*"):
        weights_fingerprint.of_file(tmp_path)  # as unreadable as a file of another user


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(UserError, match="truncated or no safetensors file"):
        weights_fingerprint.of_checkpoint(tmp_path)
