"""Files that disagree are read as the reference reads them, or refused in one line."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import transformers
from flax import nnx

from r1ci_jax.cli import main as cli
from r1ci_jax.errors import UserError
from r1ci_jax.model import qwen2
from r1ci_jax.model.hf import hf_config, weights

BASE: dict[str, Any] = {
    "model_type": "qwen2", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
}  # fmt: skip
SIZES = qwen2.Qwen2Config(
    vocab_size=64, width=32, layers=2, query_heads=4, kv_heads=2, head_dim=8, mlp_width=48,
    tied=True,
)  # fmt: skip
PLAIN = {"rope_type": "default", "rope_theta": 1e6}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}
WINDOW = {"use_sliding_window": True}

# --- config.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rope_theta": 5e5},
        {"rope_theta": 5e5, "rope_parameters": PLAIN},
        {"rope_theta": 5e5, "rope_parameters": {"rope_type": "default"}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "default"}},
        {"rope_scaling": {"type": "default", "rope_theta": 3e5}, "rope_theta": 5e5},
        # rope_scaling wins, also where it names no theta.
        {"rope_parameters": PLAIN, "rope_scaling": {"type": "default"}},
        {"rope_parameters": PLAIN, "rope_scaling": None},
        {"rope_parameters": PLAIN, "rope_scaling": {}},
        {"rope_parameters": {"rope_type": "default", "type": "yarn", "rope_theta": 3e5}},
        {"rope_parameters": {"full_attention": PLAIN}},
        {"rope_parameters": {"full_attention": {"rope_type": "default"}}, "rope_theta": 5e5},
        {"rope_parameters": {"full_attention": PLAIN, "sliding_attention": YARN}},
        {**WINDOW},
        {**WINDOW, "sliding_window": None, "max_window_layers": 1},
        {**WINDOW, "max_window_layers": 2},
        {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0},
        {"layer_types": ["full_attention"] * 2, **WINDOW, "max_window_layers": 0},
        {"num_key_value_heads": None},
        {"tie_word_embeddings": True},
        {"rms_norm_eps": 1e-5},
        {"partial_rotary_factor": None},
    ],
)
def test_a_config_is_read_as_the_reference_reads_it(changes: dict[str, Any]) -> None:
    ours = hf_config.parse(BASE | changes, "c")
    theirs = transformers.Qwen2Config.from_dict(json.loads(json.dumps(BASE | changes)))
    rope: Any = theirs.rope_parameters
    rope = rope.get("full_attention", rope)
    assert rope["rope_type"] == "default" and set(theirs.layer_types or ()) == {"full_attention"}
    assert ours.rope_theta == rope["rope_theta"]
    assert (ours.norm_eps, ours.tied) == (theirs.rms_norm_eps, theirs.tie_word_embeddings)
    assert (ours.kv_heads, ours.max_positions) == (
        theirs.num_key_value_heads,
        theirs.max_position_embeddings,
    )


BAD_CONFIG = [
    ({"rope_parameters": PLAIN, "rope_scaling": {"type": "yarn", "factor": 4.0}}, "'yarn'"),
    ({"rope_parameters": YARN, "rope_theta": 1e6}, "'yarn'"),
    ({"rope_parameters": {"full_attention": YARN}}, "'yarn'"),
    ({"rope_scaling": {"full_attention": {"type": "linear", "factor": 2.0}}}, "'linear'"),
    ({"rope_parameters": {"sliding_attention": PLAIN}}, "sliding_attention"),
    ({"rope_parameters": {"full_attention": PLAIN, "rope_theta": 1e4}}, "one set for all layers"),
    ({"rope_parameters": {"full_attention": {**PLAIN, "partial_rotary_factor": 0.5}}}, "partial"),
    ({"rope_scaling": "yarn"}, "needs an object as rope_scaling"),
    ({"rope_scaling": [1]}, "needs an object as rope_scaling"),
    ({"rope_parameters": {"rope_type": None}}, "rope_scaling None"),
    ({"rope_theta": None}, "'rope_theta', found None"),
    ({"rope_theta": float("nan")}, "'rope_theta', found nan"),
    ({"rms_norm_eps": float("inf")}, "'rms_norm_eps', found inf"),
    ({**WINDOW, "max_window_layers": 1}, "sliding window attention"),
    ({**WINDOW, "sliding_window": 8, "max_window_layers": 0}, "sliding window attention"),
    ({**WINDOW, "max_window_layers": -1}, "sliding window attention"),
    ({**WINDOW, "max_window_layers": None}, "integer 'max_window_layers', found None"),
    ({"max_window_layers": None}, "integer 'max_window_layers', found None"),
    ({**WINDOW, "max_window_layers": 1.0}, "integer 'max_window_layers', found 1.0"),
    ({**WINDOW, "sliding_window": "8"}, "integer 'sliding_window', found '8'"),
    ({"use_sliding_window": "true"}, "true or false as 'use_sliding_window'"),
    ({"use_sliding_window": None}, "true or false as 'use_sliding_window'"),
    ({"layer_types": ["full_attention"]}, "one of layer_types for each of its 2 layers"),
    ({"layer_types": "full_attention"}, "one of layer_types for each"),
    ({"tie_word_embeddings": "false"}, "true or false as 'tie_word_embeddings'"),
    ({"tie_word_embeddings": None}, "true or false as 'tie_word_embeddings'"),
    ({"num_hidden_layers": 10**9}, "asks for 1000000000 layers"),
    ({"vocab_size": 10**30}, "positive integer 'vocab_size'"),
    ({"max_position_embeddings": 0.5}, "positive integer 'max_position_embeddings'"),
    ({"hidden_act": None}, "hidden_act None"),
    ({"quantization": {"bits": 4}}, "quantization is not supported"),
    ({"transformers_weights": "other.safetensors"}, "transformers_weights"),
    # Without the key the reference takes 32 key/value heads.
    ({"num_key_value_heads": ...}, "32 key/value heads"),
]


@pytest.mark.parametrize(("changes", "said"), BAD_CONFIG)
def test_another_config_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    raw = {key: value for key, value in (BASE | changes).items() if value is not ...}
    with pytest.raises(UserError) as caught:
        hf_config.parse(raw, "c")
    assert said in str(caught.value) and "\n" not in str(caught.value)


# --- weights -------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: pathlib.Path) -> pathlib.Path:
    """A small good checkpoint with a tied head."""
    directory = tmp_path / "good"
    weights.save_pretrained(qwen2.Qwen2(SIZES, rngs=nnx.Rngs(0)), directory)
    return directory


def edit(directory: pathlib.Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    path = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)


def refusal(directory: pathlib.Path) -> str:
    with pytest.raises(UserError) as caught:
        weights.load_pretrained(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tied_head_must_be_the_embedding(checkpoint: pathlib.Path) -> None:
    embed = "model.embed_tokens.weight"
    edit(checkpoint, lambda t: t.update({"lm_head.weight": t[embed]}))
    assert weights.load_pretrained(checkpoint).lm_head is None

    def differ(tensors: dict[str, np.ndarray]) -> None:
        tensors["lm_head.weight"] = tensors[embed].copy()
        tensors["lm_head.weight"][63, 31] += 1e-3

    edit(checkpoint, differ)
    assert "lm_head.weight is another matrix; set tie_word_embeddings to false" in refusal(
        checkpoint
    )
    config = checkpoint / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": False}))
    assert weights.load_pretrained(checkpoint).lm_head is not None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name",
    ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_weights_that_are_not_finite_are_named(
    checkpoint: pathlib.Path, name: str, value: float, dtype: Any
) -> None:
    def damage(tensors: dict[str, np.ndarray]) -> None:
        tensors[name] = tensors[name].astype(dtype)
        tensors[name].reshape(-1)[-1] = value

    edit(checkpoint, damage)
    assert f"tensor {name} holds NaN or infinite values" in refusal(checkpoint)


def test_values_that_the_wanted_dtype_cannot_hold_are_refused(checkpoint: pathlib.Path) -> None:
    largest = np.float32(np.finfo(np.float32).max)
    edit(checkpoint, lambda t: t.update({"model.norm.weight": np.full(32, largest)}))
    weights.load_pretrained(checkpoint)
    with pytest.raises(UserError, match=r"norm.weight has values too large for bfloat16"):
        weights.load_pretrained(checkpoint, "bfloat16")


def test_import_refuses_them(
    checkpoint: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(checkpoint, lambda t: t["model.norm.weight"].put(3, np.nan))
    assert cli.main(["weights", "import", str(checkpoint), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "tensor model.norm.weight holds NaN" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_numbers_of_a_mixed_checkpoint_are_not_rounded(
    checkpoint: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    embed = "model.embed_tokens.weight"
    edit(checkpoint, lambda t: t.update({embed: t[embed].astype(ml_dtypes.bfloat16)}))
    model = weights.load_pretrained(checkpoint, None)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(nnx.state(model))} == {"float32"}


# --- directories ---------------------------------------------------------------------------------


def add_index(directory: pathlib.Path) -> None:
    """A second set, in two shards."""
    tensors = safetensors.numpy.load_file(directory / "model.safetensors")
    names = sorted(tensors)
    files = {
        name: f"model-0000{1 + (number % 2)}-of-00002.safetensors"
        for number, name in enumerate(names)
    }
    for file in set(files.values()):
        part = {name: tensors[name] for name in names if files[name] == file}
        safetensors.numpy.save_file(part, directory / file)
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))


def test_two_sets_of_weights_are_refused(checkpoint: pathlib.Path) -> None:
    add_index(checkpoint)
    said = refusal(checkpoint)
    assert "two sets of weights" in said and "model.safetensors; keep the files of one" in said
    (checkpoint / "model.safetensors.index.json").unlink()
    assert "two sets of weights, model.safetensors and model-00001-of-00002" in refusal(checkpoint)


def test_one_set_in_shards_or_beside_other_formats_loads(checkpoint: pathlib.Path) -> None:
    # The reference takes safetensors where there are both.
    (checkpoint / "pytorch_model.bin").write_bytes(b"older")
    weights.load_pretrained(checkpoint)
    add_index(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    weights.load_pretrained(checkpoint)


def only(*names: str) -> Callable[[pathlib.Path], None]:
    def change(directory: pathlib.Path) -> None:
        for path in directory.iterdir():
            path.unlink()
        for name in names:
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text("{}")

    return change


def weights_as(name: str) -> Callable[[pathlib.Path], None]:
    def change(directory: pathlib.Path) -> None:
        (directory / "model.safetensors").rename(directory / name)

    return change


def overlap(directory: pathlib.Path) -> None:
    header = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
    }
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + b"\0" * 12
    (directory / "model.safetensors").write_bytes(data)


def adapter_beside_a_model(directory: pathlib.Path) -> None:
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "a/b"}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (only("adapter_config.json", "adapter_model.safetensors"), "holds a LoRA adapter"),
        (adapter_beside_a_model, "merge it into its base model a/b"),
        (only("m-q4.gguf", "README.md"), "it holds m-q4.gguf: give the GGUF file itself"),
        (only("config.json", "m-q4.gguf"), "model_type is None"),
        (weights_as("m-q4.gguf"), "it holds m-q4.gguf: give the GGUF file itself"),
        (weights_as("pytorch_model.bin"), "PyTorch's own weight files: load them with"),
        (weights_as("consolidated.00.pth"), "the original form of Llama"),
        (weights_as("model.onnx"), "an ONNX program"),
        (only("snapshots/x"), "give one of those in its snapshots/"),
        (only("model_index.json"), "pipeline of several models"),
        (only("notes.txt"), "is it a Hugging Face checkpoint?"),
        (lambda d: (d / "config.json").write_text('{"experiment": {}}'), "is a run directory"),
        (lambda d: (d / "config.json").write_text("[" * 100_000), "nested more than 100 levels"),
        (overlap, "damaged safetensors header"),
    ],
)
def test_another_directory_says_what_it_is_and_what_to_do(
    checkpoint: pathlib.Path, change: Callable[[pathlib.Path], object], said: str
) -> None:
    change(checkpoint)
    assert said in refusal(checkpoint)
