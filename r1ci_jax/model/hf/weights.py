"""Weights in Hugging Face safetensors, in and out.

`parameter_table.TABLE` names every parameter in both layouts. In Hugging Face files each parameter
is a matrix or a vector; here, layers are stacked on a leading axis and heads have separate axes.

Loading fills one buffer per parameter, block by block from the file, and passes it to JAX, which on
a CPU adopts it without a copy: the peak is the model plus a block for each thread. A number is cast
once, on its way from the block to the buffer. With a mesh set (`jax.set_mesh`), each device's shard
is read separately.
"""

import dataclasses
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from r1ci_jax.errors import UserError
from r1ci_jax.model import sampler_weights
from r1ci_jax.model.hf import (
    checkpoint_writer,
    hf_config,
    hub,
    other_formats,
    parameter_reader,
    safetensors_file,
)
from r1ci_jax.model.hf.parameter_table import BY_PATH, TABLE, Rule
from r1ci_jax.model.qwen2 import (
    LAYER_NAMES,
    DecoderWeights,
    LayerWeights,
    Qwen2,
    Qwen2Config,
)
from r1ci_jax.sharding import mesh as meshes

_HEAD = "lm_head.weight"


class Checkpoint(NamedTuple):
    """A checkpoint's description, checked against its files, before any weight is read."""

    directory: Path
    config: Qwen2Config
    entries: Mapping[str, safetensors_file.Entry]
    """Places of the tensors in the files."""


def open_checkpoint(path_or_hub_id: str | Path) -> Checkpoint:
    """Read what a checkpoint holds.

    Raises:
        UserError: The checkpoint is missing, damaged or unsupported.
    """
    directory = hub.resolve(path_or_hub_id)
    other_formats.require_no_adapter(directory)
    config = hf_config.parse(hf_config.read_json(directory), directory)
    entries = find_tensors(directory)
    _check(config, entries, directory)
    if config.tied and _HEAD in entries:
        _require_equal(entries[_HEAD], entries[TABLE[0].theirs], directory)
    return Checkpoint(directory, config, entries)


def load_pretrained(path_or_hub_id: str | Path, dtype: DTypeLike | None = jnp.float32) -> Qwen2:
    """Read a Qwen-2/2.5 (or plain Llama) checkpoint.

    Args:
        path_or_hub_id: A directory with config.json and safetensors, or a Hugging Face hub id.
        dtype: Dtype of the parameters; None keeps the checkpoint's dtype.

    Raises:
        UserError: The checkpoint is missing, damaged or unsupported.
    """
    directory, config, entries = open_checkpoint(path_or_hub_id)
    graphdef, state = nnx.split(_abstract_model(config, _chosen_dtype(config, entries, dtype)))
    mesh = meshes.current()

    def load(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = parameter_path(path)
        sharding = meshes.parameter_sharding(mesh, name, leaf.shape)
        sources = [entries[theirs] for theirs in hf_names(config, name)]
        is_stacked = name.startswith("layers/")
        return parameter_reader.load_array(
            BY_PATH[name], leaf, sharding, sources, is_stacked=is_stacked
        )

    with safetensors_file.reading(directory):
        return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(load, state))


def load_decoder_weights(
    path_or_hub_id: str | Path, dtype: DTypeLike | None = jnp.float32
) -> tuple[Qwen2Config, DecoderWeights]:
    """Read a checkpoint into the sampler's layout, without a trainer's parameters in between.

    Raises:
        UserError: The checkpoint is missing, damaged or unsupported.
    """
    directory, config, entries = open_checkpoint(path_or_hub_id)
    mesh = meshes.current()
    assert sampler_weights.with_replicated_kv_heads(mesh, config) == config, (
        "the mesh repeats key/value heads; use load_pretrained"
    )
    model = _abstract_model(config, _chosen_dtype(config, entries, dtype))
    shapes = sampler_weights.weight_shapes(model, config)
    shardings = sampler_weights.shardings(mesh, shapes)

    def load(ours: str, leaf: Any, sharding: Any, layer: int = 0) -> jax.Array | None:
        if leaf is None:
            return None
        source = entries[hf_names(config, ours)[layer]]
        return parameter_reader.load_array(BY_PATH[ours], leaf, sharding, [source])

    def load_of_layer(place: tuple[int, int]) -> jax.Array | None:
        layer, field = place
        leaf, sharding = shapes.layers[layer][field], shardings.layers[layer][field]
        return load(f"layers/{LAYER_NAMES[field]}", leaf, sharding, layer)

    fields = range(len(LAYER_NAMES))
    with safetensors_file.reading(directory):
        embed_VD = load("embed", shapes.embed_VD, shardings.embed_VD)
        lm_head_DV = load("lm_head", shapes.lm_head_DV, shardings.lm_head_DV)
        norm_D = load("norm", shapes.norm_D, shardings.norm_D)
        places = [(layer, field) for layer in range(config.layers) for field in fields]
        arrays = dict(zip(places, parameter_reader.in_parallel(load_of_layer, places), strict=True))
    assert embed_VD is not None and norm_D is not None, "every model has both"
    layers = tuple(
        LayerWeights(*(arrays[layer, field] for field in fields)) for layer in range(config.layers)
    )
    return config, DecoderWeights(embed_VD, layers, norm_D, lm_head_DV)


def _abstract_model(config: Qwen2Config, dtype: DTypeLike) -> Qwen2:
    return nnx.eval_shape(lambda: Qwen2(config, rngs=nnx.Rngs(0), dtype=dtype))


def _chosen_dtype(
    config: Qwen2Config,
    entries: Mapping[str, safetensors_file.Entry],
    dtype: DTypeLike | None,
) -> np.dtype:
    """Return `dtype`, or for None the checkpoint's."""
    own = {entries[name].dtype for name in expected_shapes(config)}
    widest = own.pop() if len(own) == 1 else np.float32  # no number of a mixed one is rounded
    return np.dtype(widest if dtype is None else dtype)


def save_pretrained(
    model: Qwen2,
    out_dir: str | Path,
    *,
    extra_config: Mapping[str, Any] | None = None,
    companions: Iterable[Path] = (),
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write `out_dir` in Hugging Face layout, completely or not at all.

    Args:
        model: Model to write, in its own dtype. A tied head is not written.
        out_dir: Output directory; it must not exist or must be empty.
        extra_config: Further keys of config.json, such as eos_token_id.
        companions: Further files to copy, such as the tokenizer's.
        texts: Contents of further files by name; they replace companions.
    """
    out = Path(out_dir)
    checkpoint_writer.require_new(out)
    tensors = _outgoing(model)
    total = sum(safetensors_file.nbytes(tensor) for tensor in tensors.values())
    dtype = np.dtype(model.embed[...].dtype)
    config_json = hf_config.render(model.config, dtype, extra_config or {})
    partial: Path | None = None
    try:
        checkpoint_writer.require_space(out, total)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        partial.chmod(0o755)  # mkdtemp's directories are private
        checkpoint_writer.write(partial, tensors, config_json)
        for file in companions:
            shutil.copyfile(file, partial / file.name)
        for name, text in (texts or {}).items():
            (partial / name).write_text(text, encoding="utf-8")
        os.rename(partial, out)
    except BaseException as error:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {out}: {error.strerror}; nothing was kept") from error
        raise


def find_tensors(directory: Path) -> dict[str, safetensors_file.Entry]:
    """Find every tensor of a checkpoint directory, from its index or its single file.

    Raises:
        UserError: There are no weights, or more than one set of them.
    """
    index, single = directory / checkpoint_writer.INDEX, directory / checkpoint_writer.SINGLE
    if not index.is_file() and not single.is_file():
        found = other_formats.describe(directory) or "download the safetensors weights"
        raise UserError(f"{directory} has neither {single.name} nor {index.name}; {found}")
    if index.is_file():
        entries = safetensors_file.read_index(index)
    else:
        entries = safetensors_file.read_header(single)
    used = {entry.path.name for entry in entries.values()}
    others = sorted({path.name for path in directory.glob("model*.safetensors")} - used)
    if others:
        raise UserError(
            f"{directory} holds two sets of weights, {safetensors_file.short_list(sorted(used))} "
            f"and {safetensors_file.short_list(others)}; keep the files of one"
        )
    return entries


def _require_equal(
    head: safetensors_file.Entry, embedding: safetensors_file.Entry, directory: Path
) -> None:
    """Refuse a tied checkpoint that has another head: the reference would not tie it."""
    is_equal = (head.shape, head.dtype) == (embedding.shape, embedding.dtype)
    if is_equal:
        with safetensors_file.reading(directory):
            pairs = zip(
                safetensors_file.read_rows(head, 0, head.shape[0]),
                safetensors_file.read_rows(embedding, 0, embedding.shape[0]),
                strict=True,
            )
            is_equal = all(np.array_equal(left, right) for (_, left), (_, right) in pairs)
    if not is_equal:
        raise UserError(
            f"{directory}: config.json ties the head to the embedding, and {_HEAD} is another "
            "matrix; set tie_word_embeddings to false, or remove that tensor"
        )


def parameter_path(path: tuple) -> str:
    """Return the slash-separated path of a leaf in the model's state."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")


def hf_names(config: Qwen2Config, path: str) -> list[str]:
    """Return the Hugging Face names of one parameter: one per layer, or a single name."""
    theirs = BY_PATH[path].theirs
    layers = range(config.layers) if path.startswith("layers/") else range(1)
    return [theirs.format(layer=layer) for layer in layers]


def _matrix_shape(rule: Rule, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the file's shape of a parameter that has `shape` here, without the layer axis."""
    if rule.inputs:
        return math.prod(shape[rule.inputs :]), math.prod(shape[: rule.inputs])
    return shape if rule.ours == "embed" else (math.prod(shape),)


def expected_shapes(config: Qwen2Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a checkpoint of this architecture must hold."""
    model = nnx.eval_shape(lambda: Qwen2(config, rngs=nnx.Rngs(0)))
    shapes = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(nnx.state(model))[0]:
        name = parameter_path(path)
        own = leaf.shape[1:] if name.startswith("layers/") else leaf.shape
        shape = _matrix_shape(BY_PATH[name], own)
        shapes |= dict.fromkeys(hf_names(config, name), shape)
    return shapes


def _check(
    config: Qwen2Config, entries: Mapping[str, safetensors_file.Entry], directory: Path
) -> None:
    expected = expected_shapes(config)
    missing = [name for name in expected if name not in entries]
    if missing:
        raise UserError(
            f"{directory} lacks tensors that config.json asks for: "
            f"{safetensors_file.short_list(missing)}; download the whole checkpoint"
        )
    for name, shape in expected.items():
        if entries[name].shape != shape:
            raise UserError(
                f"{directory}: {name} has shape {list(entries[name].shape)}, config.json asks for "
                f"{list(shape)}; the files do not belong together"
            )
    # Tied checkpoints may have a copy of the head; old Llama ones have rotary frequencies.
    known = {"lm_head.weight"} if config.tied else set()
    surplus = [
        name
        for name in entries
        if name not in expected and name not in known and not name.endswith("rotary_emb.inv_freq")
    ]
    if surplus:
        raise UserError(
            f"{directory} holds tensors that its config.json has no use for: "
            f"{safetensors_file.short_list(surplus)}; the files do not belong together"
        )


@dataclasses.dataclass(frozen=True)
class _Outgoing:
    """An outgoing tensor of the file is taken from its parameter only when it is written."""

    rule: Rule
    parameter: jax.Array
    layer: int | None
    shape: tuple[int, ...]
    dtype: np.dtype

    def blocks(self) -> Iterator[np.ndarray]:
        own = self.parameter if self.layer is None else self.parameter[self.layer]
        rows, *columns = self.shape
        host = np.asarray(own)
        matrix = host.reshape(*columns, rows).T if self.rule.inputs else host.reshape(self.shape)
        yield from safetensors_file.row_blocks(matrix)


def _outgoing(model: Qwen2) -> dict[str, _Outgoing]:
    """Return the tensors of a checkpoint in the order of TABLE, layer by layer."""
    found = {}
    leaves = jax.tree_util.tree_flatten_with_path(nnx.state(model, nnx.Param))[0]
    for path, parameter in leaves:
        name = parameter_path(path)
        rule, stacked = BY_PATH[name], name.startswith("layers/")
        shape = _matrix_shape(rule, parameter.shape[1:] if stacked else parameter.shape)
        for layer, theirs in enumerate(hf_names(model.config, name)):
            index = layer if stacked else None
            found[theirs] = _Outgoing(rule, parameter, index, shape, parameter.dtype)
    order = [name for name in _file_order(model.config) if name in found]
    assert len(order) == len(found), "a parameter is missing in the table"
    return {name: found[name] for name in order}


def _file_order(config: Qwen2Config) -> Iterator[str]:
    stacked = [rule for rule in TABLE if rule.ours.startswith("layers/")]
    yield TABLE[0].theirs
    for layer in range(config.layers):
        yield from (rule.theirs.format(layer=layer) for rule in stacked)
    yield from (rule.theirs for rule in TABLE[1:] if rule not in stacked)
