"""Checkpoints: bit-exact there and back, streamed, and one clear line for each bad one."""

import dataclasses
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import transformers
from flax import nnx

from r1ci_jax.cli import main as cli
from r1ci_jax.errors import UserError
from r1ci_jax.model import presets, qwen2, sampler_weights
from r1ci_jax.model.hf import checkpoint_writer, parameter_reader, safetensors_file, weights
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.train import checkpoint as checkpoint_files
from tests.load import PATIENCE

GOLDEN = ("untied_gqa", "tied_mqa", "sharded_bf16")
CONFIG = qwen2.Qwen2Config(
    vocab_size=64,
    width=32,
    layers=2,
    query_heads=4,
    kv_heads=2,
    head_dim=8,
    mlp_width=48,
    tied=False,
)


def raw_tensors(directory: pathlib.Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor's dtype, shape and bytes, read by the format's own library."""
    found = {}
    for path in directory.glob("*.safetensors"):
        for name, tensor in safetensors.deserialize(path.read_bytes()):
            found[name] = (tensor["dtype"], tuple(tensor["shape"]), bytes(tensor["data"]))
    return found


@pytest.fixture
def checkpoint(tmp_path: pathlib.Path) -> pathlib.Path:
    """A small good checkpoint."""
    directory = tmp_path / "good"
    weights.save_pretrained(qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0)), directory)
    return directory


def edit_config(directory: pathlib.Path, **changes: object) -> None:
    path = directory / "config.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not ...}))


def edit_tensors(directory: pathlib.Path, edit: Callable[[dict[str, np.ndarray]], object]) -> None:
    path = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    edit(tensors)
    safetensors.numpy.save_file(tensors, path)


@pytest.mark.parametrize("name", GOLDEN)
def test_import_then_export_is_bit_exact(shared_data, tmp_path: pathlib.Path, name: str):
    source = shared_data / "qwen2_golden" / name
    model = weights.load_pretrained(source, dtype=None)
    weights.save_pretrained(model, tmp_path / "out")
    assert raw_tensors(tmp_path / "out") == raw_tensors(source)
    ours = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    theirs = transformers.AutoConfig.from_pretrained(source)
    for key in (
        *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "intermediate_size", "rms_norm_eps", "tie_word_embeddings"),
        *("rope_parameters", "max_position_embeddings", "dtype", "layer_types"),
    ):
        assert getattr(ours, key) == getattr(theirs, key), key


def test_export_in_shards_is_bit_exact(checkpoint, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint_writer, "SHARD_BYTES", 20_000)
    model = weights.load_pretrained(checkpoint)
    weights.save_pretrained(model, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(files) > 4 and "model.safetensors.index.json" in files
    assert raw_tensors(tmp_path / "out") == raw_tensors(checkpoint)
    again = weights.load_pretrained(tmp_path / "out")
    np.testing.assert_array_equal(again.embed[...], model.embed[...])


def test_blocks_and_slices_reassemble(checkpoint, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(safetensors_file, "_BLOCK_BYTES", 256)  # two rows at a time
    model = weights.load_pretrained(checkpoint)
    layer = safetensors.numpy.load_file(checkpoint / "model.safetensors")
    gate = layer["model.layers.1.mlp.gate_proj.weight"]
    np.testing.assert_array_equal(model.layers.gate[...][1], gate.T)
    o = layer["model.layers.1.self_attn.o_proj.weight"]
    np.testing.assert_array_equal(model.layers.o[...][1].reshape(32, 32), o.T)


@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_sampler_layout_is_that_of_the_converted_model(tmp_path, dtype, tied):
    config = dataclasses.replace(CONFIG, tied=tied, layers=3)
    stored = qwen2.Qwen2(config, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    weights.save_pretrained(stored, tmp_path / "model")
    model = weights.load_pretrained(tmp_path / "model", dtype)
    want = sampler_weights.from_trainer_params(model, config)
    found_config, found = weights.load_decoder_weights(tmp_path / "model", dtype)
    assert found_config == config
    assert jax.tree.structure(found) == jax.tree.structure(want)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.sharding.is_equivalent_to(theirs.sharding, ours.ndim)
        np.testing.assert_array_equal(ours, theirs)


def test_threads_and_tiles_reassemble(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Parts of a vocabulary that no number divides, on more threads than there are processors."""
    config = dataclasses.replace(CONFIG, vocab_size=61, tied=False)
    weights.save_pretrained(qwen2.Qwen2(config, rngs=nnx.Rngs(0)), tmp_path / "model")
    want = safetensors.numpy.load_file(tmp_path / "model" / "model.safetensors")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(7))
    monkeypatch.setattr(parameter_reader, "_TILE_ROWS", 5)
    monkeypatch.setattr(safetensors_file, "_BLOCK_BYTES", 1000)
    _, found = weights.load_decoder_weights(tmp_path / "model")
    np.testing.assert_array_equal(found.embed_VD, want["model.embed_tokens.weight"])
    np.testing.assert_array_equal(found.lm_head_DV, want["lm_head.weight"].T)
    down = want["model.layers.1.mlp.down_proj.weight"]
    np.testing.assert_array_equal(found.layers[1].down_FD, down.T)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_every_number_of_two_bytes_is_finite_or_refused(dtype):
    numbers = np.arange(1 << 16).astype(np.uint16).view(dtype)
    want = np.isfinite(numbers.astype(np.float32))
    found = [safetensors_file._all_finite(number[None]) for number in numbers]
    np.testing.assert_array_equal(found, want)


def test_dtypes_are_cast_when_asked(checkpoint):
    model = weights.load_pretrained(checkpoint, dtype=jnp.bfloat16)
    want = safetensors.numpy.load_file(checkpoint / "model.safetensors")["lm_head.weight"].T
    assert model.lm_head[...].dtype == jnp.bfloat16
    np.testing.assert_array_equal(model.lm_head[...], want.astype(ml_dtypes.bfloat16))


def test_llama_layout_without_bias(tmp_path: pathlib.Path):
    config = qwen2.Qwen2Config(**{**vars(CONFIG), "qkv_bias": False})
    model = qwen2.Qwen2(config, rngs=nnx.Rngs(0))
    weights.save_pretrained(model, tmp_path / "out")
    assert isinstance(
        transformers.AutoConfig.from_pretrained(tmp_path / "out"), transformers.LlamaConfig
    )
    # What old Llama checkpoints also hold.
    edit_tensors(
        tmp_path / "out",
        lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, "f4")}),
    )
    again = weights.load_pretrained(tmp_path / "out")
    assert again.config == config
    np.testing.assert_array_equal(again.layers.q[...], model.layers.q[...])


def test_loading_stays_near_the_size_of_the_checkpoint(tmp_path: pathlib.Path):
    config = {
        **{"model_type": "qwen2", "vocab_size": 4096, "hidden_size": 1024, "num_hidden_layers": 8},
        **{"num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 2560},
        **{"rope_theta": 1e6, "tie_word_embeddings": True},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    parsed = weights.hf_config.parse(config, "test")
    header, size = {}, 0
    for name, shape in weights.expected_shapes(parsed).items():
        end = size + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)  # zeros that take no room on disk
    assert size > 300 << 20
    source = f"""
import re, pathlib, jax, jax.numpy as jnp
from r1ci_jax.model.hf import weights
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) << 10
jnp.zeros(8).block_until_ready()
before = peak()
model = weights.load_pretrained({str(tmp_path)!r})
jax.block_until_ready(model.embed[...])
print(before, peak())
"""
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, peak = map(int, done.stdout.split())
    assert peak < size + (1 << 30)
    # The promise is about any size: no second copy of what was loaded, only a block or two.
    assert peak - before < size + (160 << 20)


def test_full_disk_leaves_nothing(checkpoint, tmp_path: pathlib.Path):
    model = weights.load_pretrained(checkpoint)
    before = sorted(tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the file system gives up early
    try:
        with pytest.raises(UserError, match=r"cannot write .*out: .*nothing was kept"):
            weights.save_pretrained(model, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_directory_cannot_replace_is_refused_before_writing(
    checkpoint, tmp_path, monkeypatch
):
    model = weights.load_pretrained(checkpoint)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    for out, what in ((tmp_path / "link", "is a link"), (".", "is the working directory")):
        with pytest.raises(UserError, match=f"{what}, which cannot be replaced"):
            weights.save_pretrained(model, out)
    assert not any((tmp_path / "empty").iterdir()) and not any(tmp_path.glob(".*"))


def test_too_small_a_disk_is_said_before_writing(checkpoint, tmp_path, monkeypatch):
    model = weights.load_pretrained(checkpoint)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"needs 0\.0 GB, 0\.0 GB are free"):
        weights.save_pretrained(model, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_an_existing_directory_is_not_overwritten(checkpoint):
    model = weights.load_pretrained(checkpoint)
    before = raw_tensors(checkpoint)
    with pytest.raises(UserError, match="not an empty directory"):
        weights.save_pretrained(model, checkpoint)
    assert raw_tensors(checkpoint) == before


def test_an_empty_directory_is_filled(checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    weights.save_pretrained(weights.load_pretrained(checkpoint), tmp_path / "empty")
    assert raw_tensors(tmp_path / "empty") == raw_tensors(checkpoint)


def truncate(size: int) -> Callable[[pathlib.Path], None]:
    return lambda d: os.truncate(d / "model.safetensors", size)


def drop(name: str) -> Callable[[pathlib.Path], None]:
    return lambda d: edit_tensors(d, lambda tensors: tensors.pop(name))


def put(name: str, value: np.ndarray) -> Callable[[pathlib.Path], None]:
    return lambda d: edit_tensors(d, lambda tensors: tensors.update({name: value}))


def config(**changes: object) -> Callable[[pathlib.Path], None]:
    return lambda d: edit_config(d, **changes)


def index_of_absent_file(directory: pathlib.Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def index_of_absent_tensor(directory: pathlib.Path) -> None:
    index = {"weight_map": {"model.other.weight": "model.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def write(name: str, text: str) -> Callable[[pathlib.Path], object]:
    return lambda d: (d / name).write_text(text)


def damaged_header(directory: pathlib.Path) -> None:
    body = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}'
    (directory / "model.safetensors").write_bytes(len(body).to_bytes(8, "little") + body + b"1234")


KINDS_WITH_WINDOW = ["full_attention", "sliding_attention"]
BAD = {
    "config further down": (
        lambda d: ((d / "sub").mkdir(), (d / "config.json").rename(d / "sub/config.json")),
        "has no config.json; name a directory inside it: sub",
    ),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "neither model.safetensors nor"),
    "no config": (lambda d: (d / "config.json").unlink(), "has no config.json"),
    "empty file": (truncate(0), "truncated or no safetensors"),
    "cut in the header": (truncate(500), "truncated or no safetensors"),
    "cut in a tensor": (truncate(30_000), "is truncated: tensor .* ends at byte"),
    "header of nonsense": (damaged_header, "damaged safetensors header"),
    "LFS pointer": (
        write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "Git LFS pointer",
    ),
    "missing tensor": (
        drop("model.layers.1.mlp.up_proj.weight"),
        "lacks tensors .*model.layers.1.mlp.up_proj.weight",
    ),
    "missing layer": (
        config(num_hidden_layers=3),
        r"lacks tensors .*model\.layers\.2.* and 9 more",
    ),
    "wrong shape": (
        put("model.norm.weight", np.ones(31, "f4")),
        r"model.norm.weight has shape \[31\], config.json asks for \[32\]",
    ),
    "surplus tensor": (put("model.layers.0.q_norm.weight", np.ones(8, "f4")), "has no use for"),
    "surplus layer": (config(num_hidden_layers=1), r"has no use for.* and 9 more"),
    "quantised tensor": (put("model.norm.weight", np.ones(32, "i1")), "dtype I8; supported are"),
    "index of an absent file": (
        index_of_absent_file,
        "names files that are not there: model-00001",
    ),
    "index of an absent tensor": (index_of_absent_tensor, "names tensors its files do not hold"),
    "damaged index": (write("model.safetensors.index.json", "{}"), "it has no weight_map"),
    "config of nonsense": (write("config.json", "{"), "is not JSON"),
    "config that is a list": (write("config.json", "[]"), "not a JSON object"),
    "another family": (config(model_type="mistral"), "model_type is 'mistral'; only Qwen-2"),
    "no family": (config(model_type=...), "model_type is None"),
    "missing key": (config(hidden_size=...), "positive integer 'hidden_size', found None"),
    "wrong type": (config(vocab_size="64"), "positive integer 'vocab_size', found '64'"),
    "heads that do not fit": (config(num_key_value_heads=3), "do not fit together"),
    "window": (
        config(use_sliding_window=True, sliding_window=8, max_window_layers=1),
        "sliding window attention is not supported",
    ),
    "window by layer": (config(layer_types=KINDS_WITH_WINDOW), "sliding window attention"),
    "yarn": (
        config(rope_scaling={"type": "yarn", "factor": 4.0}),
        "rope_scaling 'yarn' is not supported",
    ),
    "llama3 rope": (
        config(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5}),
        "rope_scaling 'llama3'",
    ),
    "another activation": (config(hidden_act="gelu"), "hidden_act 'gelu'"),
    "quantisation": (config(quantization_config={"bits": 4}), "quantization_config"),
    "biased Llama": (config(model_type="llama", attention_bias=True), "attention_bias"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(checkpoint, name: str):
    damage, message = BAD[name]
    damage(checkpoint)
    with pytest.raises(UserError) as caught:
        weights.load_pretrained(checkpoint)
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_harmless_settings_load(checkpoint):
    # As in the -1M checkpoints and older exports: a window that no layer uses.
    edit_config(
        checkpoint,
        use_sliding_window=False,
        sliding_window=1010000,
        rope_scaling=None,
        dual_chunk_attention_config={"chunk_size": 262144},
    )
    assert weights.load_pretrained(checkpoint).config == CONFIG
    edit_config(checkpoint, use_sliding_window=True, sliding_window=64, max_window_layers=2)
    assert weights.load_pretrained(checkpoint).config == CONFIG


def test_places_that_are_no_checkpoint(tmp_path: pathlib.Path, checkpoint):
    for place, message in (
        (tmp_path / "absent", "does not exist"),
        ("./absent/too", "does not exist"),
        (checkpoint / "config.json", "is a file"),
        ("nobody/no-such-model", "cannot be downloaded; go online"),
    ):
        with pytest.raises(UserError, match=message):
            weights.load_pretrained(place)


def test_a_directory_that_is_spelled_alike_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    with pytest.raises(UserError, match=r"downloaded; did you mean runs/toy[?] go online") as found:
        weights.load_pretrained("runs/toyy")
    assert found.value.__suppress_context__  # no traceback of the network's libraries


def test_command_import(checkpoint, tmp_path, capsys):
    edit_config(checkpoint, eos_token_id=5)
    (checkpoint / "tokenizer.json").write_text("{}")
    words = ["weights", "import", str(checkpoint), str(tmp_path / "out")]
    assert cli.main([*words, "--dtype", "bfloat16", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["dtype"] == "bfloat16" and facts["layers"] == 2
    assert facts["parameters"] == sum(
        int(np.prod(shape)) for _, shape, _ in raw_tensors(checkpoint).values()
    )
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 5
    assert cli.main([*words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_command_export(tmp_path: pathlib.Path, capsys):
    """A run directory as the stages leave it, without the hours before."""
    run = tmp_path / "run"
    (run / "tokenizer").mkdir(parents=True)
    tokenizer = tokenizers.train_byte_bpe(["one two three"] * 5, 300)
    tokenizer.save(run / "tokenizer")
    source = {"preset": "toy", "checkpoint": "", "tokenizer": ""}
    (run / "config.json").write_text(json.dumps({"experiment": {"model": source}}))
    words = ["weights", "export", str(run), str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "no trained model yet" in capsys.readouterr().err

    model = nnx.jit(lambda: qwen2.Qwen2(presets.get("toy"), rngs=nnx.Rngs(3)))()
    checkpoint_files.save_params(run / "checkpoints" / "sft" / "final", nnx.state(model))
    assert cli.main([*words, "--model", "grpo_uniform"]) == 2
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dtype"] == "float32"
    again = weights.load_pretrained(tmp_path / "out")
    assert again.config == model.config
    np.testing.assert_array_equal(again.layers.down[...], model.layers.down[...])
    described = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert described.eos_token_id == tokenizer.eos_id
    exported = tokenizers.load(str(tmp_path / "out"))
    assert exported.encode("one") == tokenizer.encode("one")
    assert exported.stop_token_ids == tokenizer.stop_token_ids


def test_export_names_the_stop_tokens_of_the_training(tmp_path: pathlib.Path, capsys):
    """The base model's files name one end token, and training taught another."""
    base, run = tmp_path / "base", tmp_path / "run"
    tokenizer = tokenizers.train_byte_bpe(["one two three"] * 5, 300)
    config = qwen2.Qwen2Config(**{**vars(CONFIG), "vocab_size": 300})
    weights.save_pretrained(qwen2.Qwen2(config, rngs=nnx.Rngs(0)), base)
    tokenizer.save(base)
    said = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(said | {"eos_token": tokenizers.PAD}))
    (base / "generation_config.json").write_text(
        json.dumps({"eos_token_id": tokenizer.pad_id, "temperature": 0.7})
    )
    source = {"preset": "", "checkpoint": str(base), "tokenizer": ""}
    (run / "checkpoints").mkdir(parents=True)
    evaluation = {"sampling": {"temperature": 0.5}}
    experiment = {"model": source, "eval": evaluation}
    (run / "config.json").write_text(json.dumps({"experiment": experiment}))
    model = weights.load_pretrained(base)
    checkpoint_files.save_params(run / "checkpoints" / "sft" / "final", nnx.state(model))
    assert cli.main(["weights", "export", str(run), str(tmp_path / "out")]) == 0
    generation = transformers.GenerationConfig.from_pretrained(tmp_path / "out")
    assert generation.eos_token_id == [tokenizer.eos_id, tokenizer.pad_id]
    assert (generation.pad_token_id, generation.temperature) == (tokenizer.pad_id, 0.5)
    described = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert described["eos_token"] == tokenizers.MESSAGE_END
    assert set(described) == set(said)


@pytest.mark.parametrize("value", ["5", [1, 64], -1])
def test_import_refuses_end_tokens_outside_the_vocabulary(checkpoint, tmp_path, capsys, value):
    edit_config(checkpoint, eos_token_id=value)
    assert cli.main(["weights", "import", str(checkpoint), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "eos_token_id" in said
    assert not (tmp_path / "out").exists()
