"""A GGUF file gives the weights, the logits and the tokens of the model that it was made from."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
from typing import Any

import gguf
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import transformers
from gguf import GGMLQuantizationType as Format
from gguf import quants

from r1ci_jax.cli import main as cli
from r1ci_jax.config import SamplingParams
from r1ci_jax.model import qwen2
from r1ci_jax.model.gguf import gguf_file, gguf_import, gguf_tensors
from r1ci_jax.model.hf import checkpoint_writer, hf_config, hub, weights
from r1ci_jax.text import stop_tokens
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.tools.model_evaluation import checkpoint_defaults, evaluated_model
from r1ci_jax.tools.model_evaluation.evaluation_settings import Choices
from r1ci_jax.train import load_model
from tests.load import PATIENCE
from tests.model.gguf import tiny_gguf

LAYOUTS = {"qwen2": tiny_gguf.CONFIG, "llama": tiny_gguf.LLAMA}
MIXED = (Format.Q4_0, Format.Q4_1, Format.Q5_0, Format.Q5_1, Format.Q8_0, Format.F16, Format.BF16)


def write(
    path: pathlib.Path,
    config: qwen2.Qwen2Config = tiny_gguf.CONFIG,
    format_of: Any = lambda name: Format.F32,
    **fields: Any,
) -> dict[str, np.ndarray]:
    """Write a random model; return its weights by Hugging Face's names."""
    drawn = tiny_gguf.random_weights(config)
    tiny_gguf.write(
        path, tiny_gguf.metadata(config, fields), tiny_gguf.as_gguf(config, drawn), format_of
    )
    return drawn


def mixed(name: str) -> Format:
    """Choose a format by the name, so that all are met."""
    return MIXED[sum(name.encode()) % len(MIXED)]


def read_back(directory: pathlib.Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(directory.glob("*.safetensors")):
        found |= safetensors.numpy.load_file(path)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_precision_comes_back_bit_by_bit(tmp_path: pathlib.Path, layout: str) -> None:
    config = LAYOUTS[layout]
    want = write(tmp_path / "m.gguf", config)
    done = gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    found = read_back(tmp_path / "out")
    assert found.keys() == want.keys()
    for name, tensor in want.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    model = weights.load_pretrained(tmp_path / "out")
    assert model.config == config == done.config
    assert done.parameters == sum(tensor.size for tensor in want.values())
    theirs = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert theirs.model_type == layout and theirs.rope_parameters["rope_theta"] == 1e5
    assert (theirs.rms_norm_eps, theirs.tie_word_embeddings) == (1e-5, config.tied)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_quantized_tensors_are_widened_as_the_package_widens_them(tmp_path, layout) -> None:
    config = LAYOUTS[layout]
    drawn = write(tmp_path / "m.gguf", config, mixed)
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    found = read_back(tmp_path / "out")
    met = set()
    for name, tensor in drawn.items():
        own = tiny_gguf.gguf_name(name)
        number_format = mixed(own) if tensor.ndim > 1 else Format.F32
        met.add(number_format)
        # A row is quantized by itself, so the order of rows does not matter.
        want = quants.dequantize(quants.quantize(tensor, number_format), number_format)
        np.testing.assert_array_equal(found[name], want, err_msg=name)
        np.testing.assert_allclose(found[name], tensor, atol=0.06)
    assert met >= set(MIXED)


@pytest.mark.parametrize(
    "number_format",
    [Format.Q2_K, Format.Q3_K, Format.Q4_K, Format.Q5_K, Format.Q6_K, Format.IQ4_XS, Format.MXFP4],
)
def test_blocks_of_rows_are_the_whole_tensor(tmp_path, monkeypatch, number_format: Format) -> None:
    """Formats that the package can only read: random bytes with scales that are numbers."""
    monkeypatch.setattr(gguf_tensors, "_BLOCK_BYTES", 3 * 4 * 512)  # three rows, then one
    block, block_bytes = gguf.GGML_QUANT_SIZES[number_format]
    rows, width = 7, 512
    raw = np.random.default_rng(1).integers(0, 60, (rows, width // block * block_bytes), np.uint8)
    (tmp_path / "raw").write_bytes(b"head" + raw.tobytes())
    source = gguf_file.GgufTensor(
        path=tmp_path / "raw",
        name="t",
        number_format=number_format,
        shape=(rows, width),
        row_bytes=raw.shape[1],
        offset=4,
    )
    whole = quants.dequantize(raw, number_format)
    assert np.isfinite(whole).all() and whole.any()
    widened = gguf_tensors.WidenedTensor(source, (rows, width), np.dtype(np.float32))
    blocks = list(widened.blocks())
    assert [len(block) for block in blocks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    # Whole heads of two rows, in the reference's order: a head of two rows is its own.
    turned = gguf_tensors.WidenedTensor(
        dataclasses.replace(source, shape=(6, width)), (6, width), np.dtype(np.float32), 6
    )
    want = whole[[0, 2, 4, 1, 3, 5]]
    np.testing.assert_array_equal(np.concatenate(list(turned.blocks())), want)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_those_of_the_original(tmp_path: pathlib.Path, layout: str) -> None:
    config = LAYOUTS[layout]
    drawn = write(tmp_path / "m.gguf", config)
    (tmp_path / "direct").mkdir()
    safetensors.numpy.save_file(drawn, tmp_path / "direct" / "model.safetensors")
    described = hf_config.render(config, np.dtype(np.float32), {})
    (tmp_path / "direct" / "config.json").write_text(json.dumps(described))
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    tokens_BT = jnp.arange(24, dtype=jnp.int32).reshape(2, 12) * 11
    want = weights.load_pretrained(tmp_path / "direct")(tokens_BT)
    found = weights.load_pretrained(tmp_path / "out")(tokens_BT)
    np.testing.assert_array_equal(found, want)
    assert float(jnp.abs(want).max()) > 0.1


# --- the dtype -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_of", "large", "asked", "dtype", "reason"),
    [
        (mixed, False, None, "float32", "the file's numbers, not rounded"),
        (
            mixed,
            True,
            None,
            "bfloat16",
            "half of float32's size; `r1ci weights import --dtype float32` rounds nothing",
        ),
        (mixed, True, "float32", "float32", "as asked"),
        (mixed, False, "bfloat16", "bfloat16", "as asked"),
        (lambda name: Format.BF16, False, None, "bfloat16", "the file's own"),
    ],
)
def test_the_dtype_follows_format_and_size(
    tmp_path, monkeypatch, format_of, large, asked, dtype, reason
) -> None:
    write(tmp_path / "m.gguf", tiny_gguf.CONFIG, format_of)
    if large:
        monkeypatch.setattr(gguf_import, "_LARGE", 1000)
    done = gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out", asked)
    assert (str(done.dtype), done.reason) == (dtype, reason)
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "exact", "float32")
    exact = read_back(tmp_path / "exact")
    for name, tensor in read_back(tmp_path / "out").items():
        assert tensor.dtype == dtype
        np.testing.assert_array_equal(tensor, exact[name].astype(tensor.dtype))


# --- the tokenizer -------------------------------------------------------------------------------


def test_a_trained_tokenizer_comes_back(tmp_path: pathlib.Path) -> None:
    texts = ["one two three 1234", "def f(x):\n    return x\n", "Ünï 你好", "one two"] * 3
    trained = tokenizers.train_byte_bpe(texts, 300)
    trained.save(tmp_path / "trained")
    fields = tiny_gguf.from_definition(tmp_path / "trained", "qwen2")
    write(tmp_path / "m.gguf", **fields)
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    found = tokenizers.load(str(tmp_path / "out"))
    assert found.vocab_size == trained.vocab_size
    assert found.token_bytes() == trained.token_bytes()
    assert found.marks == trained.marks and found.stop_token_ids == trained.stop_token_ids
    marked = "<|im_start|>user\none two 12 你好<|im_end|>\n"
    assert found.encode_marked(marked) == trained.encode_marked(marked)
    for text in (*texts, marked, "It's 3.14 <|endoftext|>\n\n\t ok"):
        assert found.encode(text) == trained.encode(text)
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs(marked, add_special_tokens=False).input_ids == trained.encode_marked(marked)
    assert (theirs.eos_token, theirs.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert theirs.chat_template == tiny_gguf.TEMPLATE


def test_the_published_tokenizer_comes_back(shared_data, tmp_path: pathlib.Path) -> None:
    published = shared_data / "qwen2.5_tokenizer"
    fields = tiny_gguf.from_definition(published, "qwen2")
    count = len(fields["tokenizer.ggml.tokens"])
    fields["tokenizer.ggml.tokens"] += ["[PAD1]", "[PAD2]"]
    fields["tokenizer.ggml.token_type"] += [5, 5]
    config = dataclasses.replace(tiny_gguf.CONFIG, vocab_size=count + 2, tied=True)
    write(tmp_path / "m.gguf", config, **fields)
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    want = json.loads((published / "tokenizer.json").read_text())
    found = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    want["model"]["merges"] = [merge.split(" ") for merge in want["model"]["merges"]]
    assert found["model"].pop("ignore_merges") is False  # the default, which theirs leaves out
    assert found == want


SPLITS = {
    "qwen2": ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", "Ġ?!ĊĊ", "ok"],
    "llama-bpe": ["I", "'ll", "Ġpay", "Ġ", "123", "4", "Ġ?!ĊĊ", "ok"],
    "smollm": ["I", "'ll", "Ġpay", "Ġ", "1", "2", "3", "4", "Ġ?!", "Ċ", "Ċ", "ok"],
    "gpt-2": ["I", "'ll", "Ġpay", "Ġ1234", "Ġ?!", "Ċ", "Ċ", "ok"],
}


@pytest.mark.parametrize("pre", SPLITS)
def test_text_is_split_by_the_rule_that_the_file_names(tmp_path: pathlib.Path, pre: str) -> None:
    config = tiny_gguf.CONFIG if pre == "qwen2" else tiny_gguf.LLAMA
    write(tmp_path / "m.gguf", config, **tiny_gguf.plain_tokenizer(pre))
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    pieces = theirs.backend_tokenizer.pre_tokenizer.pre_tokenize_str("I'll pay 1234 ?!\n\nok")
    assert [piece for piece, _ in pieces] == SPLITS[pre]


def test_marks_among_the_first_ids_and_a_mark_before_each_text(tmp_path: pathlib.Path) -> None:
    """As SmolLM2 has its marks, and as Llama 3 begins texts."""
    tokens = [*tiny_gguf.MARKS, *tiny_gguf.ALPHABET, "ab", "<tool>", "<bos>"]
    kinds = [3] * 3 + [1] * 257 + [4, 3]
    fields = tiny_gguf.tokenizer_fields(tokens, kinds, ["a b"], "llama-bpe")
    fields["tokenizer.ggml.add_bos_token"] = ...  # the rule's default is true
    fields |= {"tokenizer.ggml.bos_token_id": 261, "tokenizer.ggml.eot_token_id": 2}
    fields |= {"tokenizer.ggml.eos_token_id": 0, "tokenizer.ggml.add_eos_token": True}
    write(tmp_path / "m.gguf", tiny_gguf.LLAMA, **fields)
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    found = tokenizers.load(str(tmp_path / "out"))
    a = 3 + tiny_gguf.ALPHABET.index("a")
    assert found.encode_marked("<|im_end|>a<tool>ab") == [2, a, 260, 259]
    assert 2 not in found.encode("<|im_end|>")  # plain text spells no mark
    theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("a").input_ids == [261, a, 0]
    assert theirs("a", "ab").input_ids == [261, a, 0, 261, 259, 0]
    assert theirs.decode([261, a, 260, 259], skip_special_tokens=True) == "a<tool>ab"
    assert stop_tokens.read(tmp_path / "out") == (0, 2)  # end of text, and end of a turn
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (raw["bos_token_id"], raw["eos_token_id"], raw["pad_token_id"]) == (261, 0, 0)


# --- whole, or not at all ------------------------------------------------------------------------


def test_an_interrupted_import_continues_behind_its_last_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint_writer, "SHARD_BYTES", 100_000)
    write(tmp_path / "m.gguf")
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "want")
    widen, calls = gguf_tensors.widen, []

    def interrupted(*given: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) > 12:
            raise KeyboardInterrupt
        return widen(*given)

    with monkeypatch.context() as patched:
        patched.setattr(gguf_tensors, "widen", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (partial,) = tmp_path.glob(".out.*.partial")
    finished = {path.name: path.stat().st_ino for path in partial.glob("*.safetensors")}
    assert len(finished) >= 2
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    assert not partial.exists()
    for name, inode in finished.items():
        assert (tmp_path / "out" / name).stat().st_ino == inode
    for path in (tmp_path / "want").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "out").iterdir())) == len(list((tmp_path / "want").iterdir()))
    weights.load_pretrained(tmp_path / "out")


def test_a_file_is_imported_once_and_again_when_it_changes(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("R1CI_IMPORTED_MODELS", str(tmp_path / "cache"))
    write(tmp_path / "m.gguf", tiny_gguf.LLAMA)
    first = hub.resolve(tmp_path / "m.gguf")
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert hub.resolve(str(tmp_path / "m.gguf")) == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    write(tmp_path / "m.gguf")
    second = hub.resolve(tmp_path / "m.gguf")
    assert second != first
    assert weights.open_checkpoint(tmp_path / "m.gguf").config == tiny_gguf.CONFIG
    assert sorted((tmp_path / "cache").iterdir()) == sorted([first, second])


def test_two_at_once_import_a_file_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("R1CI_IMPORTED_MODELS", str(tmp_path / "cache"))
    write(tmp_path / "m.gguf")
    both, found, written = threading.Barrier(2), [], []
    fill = gguf_import._fill

    def counted(*given: Any) -> None:
        written.append(given)
        fill(*given)

    monkeypatch.setattr(gguf_import, "_fill", counted)

    def resolve() -> None:
        both.wait()
        found.append(hub.resolve(tmp_path / "m.gguf"))

    threads = [threading.Thread(target=resolve) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 2 and found[0] == found[1] and len(written) == 1
    assert list((tmp_path / "cache").iterdir()) == [found[0]]


def test_a_model_to_sample_from_is_loaded_from_the_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("R1CI_IMPORTED_MODELS", str(tmp_path / "cache"))
    drawn = write(tmp_path / "m.gguf", tiny_gguf.LLAMA)
    path = str(tmp_path / "m.gguf")
    loaded = load_model.load_published(path)
    assert loaded.config == tiny_gguf.LLAMA
    np.testing.assert_array_equal(loaded.weights.embed_VD, drawn["model.embed_tokens.weight"])
    assert loaded.tokenizer.eos_id == 261
    for checkpoint in ("", path):  # as another model's tokenizer, and as its own
        assert load_model.load_tokenizer(path, checkpoint).decode([0, 1]) == '!"'


def test_what_the_file_asks_for_is_done_as_for_the_imported_directory(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("R1CI_IMPORTED_MODELS", str(tmp_path / "cache"))
    asked: dict[str, Any] = {
        "tokenizer.chat_template": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
        "{{ messages[0].content }}<|im_end|>\n{{ '<|im_start|>assistant\n' }}",
        "general.sampling.temp": 0.7,
        "general.sampling.top_k": 20,
        "general.sampling.penalty_repeat": 1.05,
    }
    write(tmp_path / "m.gguf", **asked)
    write(tmp_path / "silent.gguf")
    gguf_import.import_file(tmp_path / "m.gguf", tmp_path / "out")
    directory = load_model.published_directory(str(tmp_path / "m.gguf"))
    found = checkpoint_defaults.read(directory)
    assert found == checkpoint_defaults.read(tmp_path / "out")
    assert found == checkpoint_defaults.CheckpointDefaults(
        sampling=SamplingParams(temperature=0.7, top_k=20, repetition_penalty=1.05),
        has_sampling=True,
        system="Be brief.",
    )
    model = evaluated_model.EvaluatedModel(path=str(tmp_path / "m.gguf"), run=None)
    settings = model.settings(Choices(tasks=("toy_letters",)))
    assert (settings.eval.sampling, settings.system) == (found.sampling, found.system)
    assert model.deviations(settings) == []
    # Nothing asked for, or a penalty alone: the likeliest tokens, as transformers does.
    write(tmp_path / "penalty.gguf", **{"general.sampling.penalty_repeat": 1.05})
    for name, penalty in (("silent", 1.0), ("penalty", 1.05)):
        directory = load_model.published_directory(str(tmp_path / f"{name}.gguf"))
        wanted = SamplingParams(temperature=0.0, repetition_penalty=penalty)
        assert checkpoint_defaults.read(directory).sampling == wanted


def test_the_command_says_what_was_written(tmp_path: pathlib.Path, capsys) -> None:
    drawn = write(tmp_path / "m.gguf", tiny_gguf.CONFIG, mixed)
    words = ["weights", "import", str(tmp_path / "m.gguf")]
    assert cli.main([*words, str(tmp_path / "a"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    count = sum(tensor.size for tensor in drawn.values())
    assert (facts["parameters"], facts["dtype"]) == (count, "float32")
    assert facts["dtype_reason"] == "the file's numbers, not rounded"
    (tmp_path / "b").mkdir()  # an empty directory is filled
    assert cli.main([*words, str(tmp_path / "b"), "--dtype", "bfloat16"]) == 0
    assert "parameters in bfloat16 (as asked), 2 layers of width 64" in capsys.readouterr().out
    assert read_back(tmp_path / "b")["model.norm.weight"].dtype == ml_dtypes.bfloat16
    assert cli.main([*words, str(tmp_path / "a")]) == 2
    assert "not an empty directory" in capsys.readouterr().err
    # A second import, of the directory, changes nothing.
    assert cli.main(["weights", "import", str(tmp_path / "a"), str(tmp_path / "c")]) == 0
    first, second = read_back(tmp_path / "a"), read_back(tmp_path / "c")
    assert all(np.array_equal(first[name], second[name]) for name in (*first, *second))


def test_memory_does_not_grow_with_the_file(tmp_path: pathlib.Path) -> None:
    config = dataclasses.replace(tiny_gguf.LLAMA, vocab_size=1 << 20)
    write(tmp_path / "small.gguf", tiny_gguf.LLAMA)
    drawn = tiny_gguf.random_weights(tiny_gguf.LLAMA)
    fields = tiny_gguf.metadata(config)
    tensors = tiny_gguf.as_gguf(tiny_gguf.LLAMA, drawn)
    tensors["token_embd.weight"] = np.zeros((config.vocab_size, config.width), np.float32)
    tiny_gguf.write(tmp_path / "large.gguf", fields, tensors)
    size = os.path.getsize(tmp_path / "large.gguf")
    assert size > 256 << 20
    source = f"""
import re, pathlib
from r1ci_jax.model.gguf import gguf_import
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) << 10
here = pathlib.Path({str(tmp_path)!r})
gguf_import.import_file(here / "small.gguf", here / "a", "bfloat16")
before = peak()
gguf_import.import_file(here / "large.gguf", here / "b", "bfloat16")
print(before, peak())
"""
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, peak = map(int, re.findall(r"\d+", done.stdout))
    assert peak - before < size // 2
