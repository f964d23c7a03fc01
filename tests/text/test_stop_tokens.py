"""Every end token that a checkpoint's files name ends a turn; a bad one is one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    return tokenizers.train_byte_bpe(["one two three"] * 5, 300)


def put(directory: Path, name: str, **values: Any) -> None:
    path = directory / name
    before = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(before | values))


@pytest.mark.parametrize(
    ("files", "more"),
    [
        ({}, set()),
        ({"generation_config.json": 7}, {7}),
        ({"generation_config.json": [7, 9]}, {7, 9}),
        # As the reference does: config.json counts only without the other file.
        ({"config.json": 8}, {8}),
        ({"config.json": 8, "generation_config.json": [7]}, {7}),
        ({"config.json": 8, "generation_config.json": None}, set()),
    ],
)
def test_stop_tokens_are_those_that_the_files_name(
    plain: Tokenizer, tmp_path: Path, files: dict[str, Any], more: set[int]
) -> None:
    plain.save(tmp_path)
    for name, value in files.items():
        put(tmp_path, name, eos_token_id=value)
    always = {plain.eos_id, plain.pad_id}
    assert tokenizers.load(str(tmp_path)).stop_token_ids == tuple(sorted(always | more))
    # A tokenizer from elsewhere learns them from the checkpoint.
    assert plain.with_stop_tokens_of(tmp_path).stop_token_ids == tuple(sorted(always | more))
    assert plain.stop_token_ids == tuple(sorted(always))


@pytest.mark.parametrize("spelled", ["!", {"content": "!", "lstrip": False}])
def test_the_tokenizers_own_end_token_is_one(
    plain: Tokenizer, tmp_path: Path, spelled: Any
) -> None:
    plain.save(tmp_path)
    put(tmp_path, "tokenizer_config.json", eos_token=spelled)
    (end,) = plain.encode("!")
    assert end in tokenizers.load(str(tmp_path)).stop_token_ids


@pytest.mark.parametrize("value", ["7", [7, "9"], 7.0, True, {"a": 1}, [None], -1, 300, [7, 10**9]])
@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_what_is_no_id_is_one_line(plain: Tokenizer, tmp_path: Path, name: str, value: Any) -> None:
    plain.save(tmp_path)
    put(tmp_path, name, eos_token_id=value)
    for load in (tokenizers.load, lambda path: plain.with_stop_tokens_of(Path(path))):
        with pytest.raises(UserError, match="eos_token_id") as caught:
            load(str(tmp_path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["<|nowhere|>", 7, ["!"]])
def test_an_end_token_outside_the_vocabulary_is_one_line(
    plain: Tokenizer, tmp_path: Path, value: Any
) -> None:
    plain.save(tmp_path)
    put(tmp_path, "tokenizer_config.json", eos_token=value)
    with pytest.raises(UserError, match=r"eos_token .*correct it"):
        tokenizers.load(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_damaged_file_is_one_line(plain: Tokenizer, tmp_path: Path, text: str) -> None:
    plain.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(UserError, match=r"generation_config.json.*again") as caught:
        tokenizers.load(str(tmp_path))
    assert "\n" not in str(caught.value)
