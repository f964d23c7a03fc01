"""A GGUF file that is damaged or of another kind is refused in one line, and nothing stays."""

import contextlib
import dataclasses
import pathlib
import resource
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Format

from r1ci_jax.cli import main as cli
from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra
from r1ci_jax.model.gguf import gguf_file, gguf_import
from r1ci_jax.model.hf import hub
from r1ci_jax.text import tokenizer as tokenizers
from tests.model.gguf import tiny_gguf

LLAMA = tiny_gguf.LLAMA
TOKENS = "tokenizer.ggml.tokens"
KINDS = "tokenizer.ggml.token_type"
PLAIN = tiny_gguf.plain_tokenizer()


def refusal(path: pathlib.Path, dtype: str | None = None) -> str:
    """Return the message of an import that must fail and leave nothing behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(UserError) as caught:
        gguf_import.import_file(path, path.parent / "out", dtype)
    assert sorted(path.parent.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message and str(path.parent) in message
    return message


# --- metadata ------------------------------------------------------------------------------------


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"general.architecture": "gemma3"}, "general.architecture is 'gemma3'; only 'qwen2' and"),
    ({"split.count": 3}, "one of 3 files; join them by `llama-gguf-split --merge`"),
    ({"general.alignment": 24}, "general.alignment is 24, not a power of two"),
    ({"llama.block_count": ...}, "llama.block_count must be a positive integer, found nothing"),
    ({"llama.block_count": 0}, "llama.block_count must be a positive integer, found 0"),
    ({"llama.block_count": -2}, "llama.block_count must be a positive integer, found -2"),
    ({"llama.block_count": 20_000}, "asks for 20000 layers"),
    ({"llama.embedding_length": "64"}, "must be a positive integer, found '64'"),
    ({"llama.attention.head_count": [4, 4]}, "must be a positive integer, found [4, 4]"),
    ({"llama.attention.head_count_kv": 3}, "4 query heads, 3 key/value heads and heads of 16"),
    ({"llama.attention.key_length": 32}, "llama.rope.dimension_count is 16, which this decoder"),
    ({"llama.attention.value_length": 8}, "llama.attention.value_length is 8, which this decoder"),
    ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8, which this decoder"),
    ({"llama.rope.freq_base": 10000}, "rope.freq_base must be a positive number, found 10000"),
    ({"llama.rope.freq_base": float("nan")}, "must be a positive number, found nan"),
    ({"llama.attention.layer_norm_rms_epsilon": float("inf")}, "positive number, found inf"),
    ({"llama.attention.layer_norm_rms_epsilon": ...}, "positive number, found nothing"),
    ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type is 'yarn', which this decoder"),
    ({"llama.rope.scaling.factor": 4.0}, "llama.rope.scaling.factor is 4.0, which this decoder"),
    ({"llama.rope.scale_linear": 2.0}, "llama.rope.scale_linear is 2.0, which this decoder"),
    ({"llama.expert_count": 8}, "llama.expert_count is 8, which this decoder does not support"),
    ({"llama.attention.sliding_window": 4096}, "sliding_window is 4096, which this decoder"),
    ({"llama.attention.causal": False}, "llama.attention.causal is False, which this decoder"),
    ({"llama.logit_scale": 0.5}, "llama.logit_scale is 0.5, which this decoder does not support"),
    ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model is 'llama'; only byte-level BPE"),
    ({"tokenizer.ggml.model": ...}, "tokenizer.ggml.model is ''; only byte-level BPE"),
    ({"tokenizer.ggml.model": 7}, "the tokenizer is damaged: model is no str"),
    ({"tokenizer.ggml.pre": "tekken"}, "tokenizer.ggml.pre is 'tekken'; known are deepseek-r1-"),
    ({"tokenizer.ggml.pre": ...}, "tokenizer.ggml.pre is ''; known are"),
    ({"tokenizer.ggml.add_space_prefix": True}, "add_space_prefix is true, which no byte-level"),
    ({TOKENS: ...}, "there is no list tokenizer.ggml.tokens"),
    ({TOKENS: [1, 2]}, "tokens is no list of str"),
    ({TOKENS: "abc"}, "tokens is no list"),
    ({TOKENS: PLAIN[TOKENS][:-1]}, "token_type does not give each token a known type"),
    ({KINDS: [*PLAIN[KINDS][:-1], 6]}, "token_type does not give each token a known type"),
    ({KINDS: [5] * len(PLAIN[KINDS])}, "tokens is empty or holds a token twice"),
    ({TOKENS: ["a", *PLAIN[TOKENS][1:]]}, "tokens is empty or holds a token twice"),
    ({"tokenizer.ggml.merges": ["ab"]}, "the merge 'ab' has no two parts"),
    ({"tokenizer.ggml.merges": ["a b c"]}, "the merge 'a b c' has no two parts"),
    ({"tokenizer.ggml.merges": ["a b"]}, "the merge 'a b' has parts that are no tokens"),
    ({"tokenizer.ggml.eos_token_id": 300}, "eos_token_id is 300 of 262 tokens"),
    ({"tokenizer.ggml.eos_token_id": -1}, "eos_token_id is -1 of 262 tokens"),
    ({"tokenizer.ggml.eos_token_id": True}, "eos_token_id is no int"),
    ({"tokenizer.ggml.add_bos_token": True}, "adds the token bos to every text and does not name"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), BAD_FIELDS)
def test_metadata_are_refused_by_name(tmp_path, changes: dict[str, Any], said: str) -> None:
    tensors = tiny_gguf.as_gguf(LLAMA, tiny_gguf.random_weights(LLAMA))
    tiny_gguf.write(tmp_path / "m.gguf", tiny_gguf.metadata(LLAMA, changes), tensors)
    assert said in refusal(tmp_path / "m.gguf")


def test_values_that_mean_no_feature_are_read(tmp_path: pathlib.Path) -> None:
    changes = {
        "llama.expert_count": 0,
        "llama.rope.scaling.type": "linear",
        "llama.rope.scaling.factor": 1.0,
        "llama.attention.causal": True,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.tensor_data_layout": "Meta AI original pth",
        "llama.attention.head_count_kv": ...,  # then there is one for each query head
        "general.alignment": 64,
    }
    config = dataclasses.replace(LLAMA, kv_heads=4)
    tensors = tiny_gguf.as_gguf(config, tiny_gguf.random_weights(config))
    tiny_gguf.write(tmp_path / "m.gguf", tiny_gguf.metadata(config, changes), tensors)
    assert gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out").config == config


def test_a_qwen2_with_another_tokenizer_is_refused(tmp_path: pathlib.Path) -> None:
    """Transformers would read its text by Qwen's rule."""
    config = tiny_gguf.CONFIG
    tensors = tiny_gguf.as_gguf(config, tiny_gguf.random_weights(config))
    fields = tiny_gguf.metadata(config, {"tokenizer.ggml.pre": "gpt-2"})
    tiny_gguf.write(tmp_path / "m.gguf", fields, tensors)
    assert "tokenizer.ggml.pre is 'gpt-2', but transformers splits" in refusal(tmp_path / "m.gguf")


# --- tensors -------------------------------------------------------------------------------------


def without(name: str) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda tensors: tensors.pop(name)


def having(name: str, shape: tuple[int, ...]) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda tensors: tensors.update({name: np.zeros(shape, np.float32)})


def filled(name: str, value: float) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda tensors: tensors[name].fill(value)


BAD_TENSORS = [
    (without("token_embd.weight"), "lacks the tensor token_embd.weight; it holds no whole model"),
    (without("blk.1.attn_q.weight"), "tensors that its metadata ask for: blk.1.attn_q.weight"),
    (having("blk.2.attn_q.weight", (64, 64)), "has no use for: blk.2.attn_q.weight"),
    (having("blk.0.attn_q.bias", (64,)), "has no use for: blk.0.attn_q.bias"),
    (having("rope_freqs.weight", (8,)), "rope_freqs.weight scales the rotary frequencies"),
    (having("blk.0.ffn_up.weight", (64, 256)), "shape [64, 256], its metadata ask for [256, 64]"),
    (having("token_embd.weight", (200, 64)), "has 262 tokens and only 200 embeddings"),
    (filled("blk.1.ffn_up.weight", np.nan), "blk.1.ffn_up.weight holds NaN or infinite values"),
    (filled("blk.1.attn_k.weight", np.inf), "blk.1.attn_k.weight holds NaN or infinite values"),
    (filled("output_norm.weight", 3.4e38), "has values too large for bfloat16; choose float32"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BAD_TENSORS)
def test_tensors_are_refused_by_name(tmp_path, change, said: str) -> None:
    tensors = tiny_gguf.as_gguf(LLAMA, tiny_gguf.random_weights(LLAMA))
    tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    change(tensors)
    tiny_gguf.write(tmp_path / "m.gguf", tiny_gguf.metadata(LLAMA), tensors)
    assert said in refusal(tmp_path / "m.gguf", "bfloat16")


def test_an_unreadable_number_format_is_named(tmp_path: pathlib.Path) -> None:
    tensors = tiny_gguf.as_gguf(LLAMA, tiny_gguf.random_weights(LLAMA))
    write_described(tmp_path / "m.gguf", tensors, {"blk.0.ffn_up.weight": Format.Q8_1})
    message = refusal(tmp_path / "m.gguf")
    assert "tensor blk.0.ffn_up.weight has the number format Q8_1, which the package" in message


def write_described(
    path: pathlib.Path, tensors: dict[str, np.ndarray], formats: dict[str, Format]
) -> None:
    """Write a file whose tensors are zeros in formats that the writer cannot make."""
    writer = tiny_gguf.gguf.GGUFWriter(path, "llama")
    for key, value in tiny_gguf.metadata(LLAMA).items():
        if key != "general.architecture":
            tiny_gguf.add_field(writer, key, value)
    for name, tensor in tensors.items():
        if name in formats:
            block, size = tiny_gguf.gguf.GGML_QUANT_SIZES[formats[name]]
            rows, width = tensor.shape
            data = np.zeros((rows, width // block * size), np.uint8)
            writer.add_tensor(name, data, raw_dtype=formats[name])
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- the header, byte by byte --------------------------------------------------------------------


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def field(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(
    name: bytes = b"t",
    sizes: tuple[int, ...] = (32,),
    number: int = 0,
    offset: int = 0,
    dims: int | None = None,
) -> bytes:
    head = text(name) + struct.pack("<I", len(sizes) if dims is None else dims)
    return head + struct.pack(f"<{len(sizes)}QIQ", *sizes, number, offset)


def header(
    *parts: bytes, fields: int = 0, tensors: int = 0, version: int = 3, data: bytes = bytes(4096)
) -> bytes:
    start = b"GGUF" + struct.pack("<IQQ", version, tensors, fields)
    return start + b"".join(parts) + data


HUGE = struct.pack("<Q", 1 << 62)
BAD_BYTES: list[tuple[bytes, str]] = [
    (b"", "is no GGUF file"),
    (b"GGUF", "is no GGUF file"),
    (b"PK\3\4" * 8, "is no GGUF file"),
    (b"GGUF\3\0\0\0\0", "is truncated: its header ends after byte 9"),
    (header(version=1), "has GGUF version 1; versions 2 and 3 are read"),
    (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a big-endian GGUF file"),
    (header(tensors=1 << 60), "asks for 1152921504606846976 tensors, more than it can hold"),
    (header(fields=1 << 60), "asks for 1152921504606846976 metadata, more than it can hold"),
    (header(HUGE, fields=1), "is truncated: its header ends"),
    (header(text(b"\xff\xfe"), fields=1), "the text b'\\xff\\xfe' in its header is not UTF-8"),
    (header(field(b"k", 13, b""), fields=1), "its metadata have a value of the unknown type 13"),
    (header(field(b"k", 8, HUGE), fields=1), "is truncated: its header ends"),
    (header(field(b"k", 9, struct.pack("<I", 8) + HUGE), fields=1), "texts in an array, more than"),
    (header(field(b"k", 9, struct.pack("<I", 4) + HUGE), fields=1), "numbers in an array, more"),
    (header(field(b"k", 9, struct.pack("<I", 9) + HUGE), fields=1), "of the unknown type 9"),
    (header(field(b"k", 0, b"1") * 2, fields=2), "it has the metadata 'k' twice"),
    (header(tensor(dims=0), tensors=1), "the tensor 't' has 0 axes"),
    (header(tensor(dims=1 << 31), tensors=1), "the tensor 't' has 2147483648 axes"),
    (header(tensor(sizes=(0,)), tensors=1), "the tensor 't' has the sizes [0]"),
    (header(tensor(sizes=(33, 2), number=8), tensors=1), "[2, 33]; Q8_0 needs rows in blocks"),
    (header(tensor(number=999), tensors=1), "tensor t has the number format 999, which"),
    (header(tensor(offset=32), tensors=1), "the tensor 't' starts at 32, not at 0, where the one"),
    (header(tensor(), tensor(b"u", offset=64), tensors=2), "'u' starts at 64, not at 128, where"),
    (header(tensor(), tensor(offset=128), tensors=2), "it has the tensor 't' twice"),
    (header(tensor(sizes=(1 << 62, 1 << 62)), tensors=1), "is truncated: tensor t ends at byte"),
    (header(tensor(sizes=(1 << 12,)), tensors=1), "is truncated: tensor t ends at byte 16448 of"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), BAD_BYTES)
def test_a_hostile_header_is_refused(tmp_path, content: bytes, said: str) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    assert said in refusal(tmp_path / "m.gguf")


def test_a_header_without_end_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gguf_file, "_MAX_HEADER_BYTES", 1000)
    (tmp_path / "m.gguf").write_bytes(header(field(b"k", 8, text(bytes(1000))), fields=1))
    assert "its header is larger than" in refusal(tmp_path / "m.gguf")


def test_every_cut_is_refused(tmp_path: pathlib.Path) -> None:
    """A file that ends early anywhere is not read as a smaller model."""
    tensors = tiny_gguf.as_gguf(LLAMA, tiny_gguf.random_weights(LLAMA))
    tiny_gguf.write(tmp_path / "whole", tiny_gguf.metadata(LLAMA), tensors)
    whole = (tmp_path / "whole").read_bytes()
    for cut in np.random.default_rng(0).integers(0, len(whole) - 64, 60):
        (tmp_path / "m.gguf").write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"truncated|no GGUF file|more than it can hold"):
            gguf_file.read(tmp_path / "m.gguf")


def test_changed_bytes_of_a_header_raise_nothing_else(tmp_path: pathlib.Path) -> None:
    tensors = tiny_gguf.as_gguf(LLAMA, tiny_gguf.random_weights(LLAMA))
    tiny_gguf.write(tmp_path / "whole", tiny_gguf.metadata(LLAMA), tensors)
    whole = (tmp_path / "whole").read_bytes()
    start = min(tensor.offset for tensor in gguf_file.read(tmp_path / "whole").tensors.values())
    draw = np.random.default_rng(0)
    refused = 0
    for number in range(60):
        changed = bytearray(whole)
        for place in draw.integers(0, start, 3):
            changed[place] = draw.integers(256)
        (tmp_path / "m.gguf").write_bytes(changed)
        try:
            gguf_import.import_file(tmp_path / "m.gguf", tmp_path / f"out{number}")
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20


# --- surroundings --------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: pathlib.Path) -> pathlib.Path:
    """A good file."""
    tensors = tiny_gguf.as_gguf(LLAMA, tiny_gguf.random_weights(LLAMA))
    tiny_gguf.write(tmp_path / "m.gguf", tiny_gguf.metadata(LLAMA), tensors)
    return tmp_path / "m.gguf"


def test_without_the_package_one_line_says_what_to_install(small, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert cli.main(["weights", "import", str(small), str(small.parent / "out")]) == 2
    assert capsys.readouterr().err == (
        f"r1ci: GGUF files need the package gguf; {install_extra('gguf')}\n"
    )


def test_too_small_a_disk_is_said_before_writing(small, monkeypatch) -> None:
    usage = shutil.disk_usage(small.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "GB, 0.0 GB are free; make room" in refusal(small)


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the file system gives up early
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing(small, monkeypatch) -> None:
    monkeypatch.setenv("R1CI_IMPORTED_MODELS", str(small.parent / "cache"))
    with small_files():
        assert "nothing was kept" in refusal(small)
        with pytest.raises(UserError, match="nothing was kept"):
            hub.resolve(small)
    assert not list((small.parent / "cache").iterdir())


def test_other_paths_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    for path, said in (
        (str(tmp_path / "notes.txt"), "is a file; give the directory of the checkpoint, or a GGUF"),
        (str(tmp_path / "absent.gguf"), "does not exist; give a checkpoint directory, a GGUF file"),
        ("absent/model.gguf", "does not exist; give a checkpoint directory, a GGUF file"),
    ):
        with pytest.raises(UserError) as caught:
            hub.resolve(path)
        assert said in str(caught.value)
    with pytest.raises(UserError, match=r"notes.txt is a file; name a tokenizer's directory"):
        tokenizers.load(str(tmp_path / "notes.txt"))
    with pytest.raises(UserError, match=r"cannot read .*absent: No such file"):
        gguf_import.import_file(tmp_path / "absent", tmp_path / "out")


def test_a_directory_named_like_a_file_is_a_checkpoint(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.gguf").mkdir()
    assert hub.resolve(tmp_path / "m.gguf") == tmp_path / "m.gguf"
