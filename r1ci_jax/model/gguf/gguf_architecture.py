"""The architecture of a GGUF file, and its tensors under Hugging Face's names.

Metadata that this decoder does not know are rejected by name, never ignored: a model that is
imported must give the reference's logits. Names and the order of rotary rows are those of
llama.cpp's convert_hf_to_gguf.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.model.gguf import gguf_tensors
from r1ci_jax.model.gguf.gguf_file import GgufFile, GgufTensor
from r1ci_jax.model.gguf.gguf_tensors import WidenedTensor
from r1ci_jax.model.hf import hf_config, safetensors_file
from r1ci_jax.model.qwen2 import Qwen2Config

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"
_DEFAULT_THETA = 10000.0  # llama.cpp's, for a file without the key
_MOST = 1 << 31
_INFORMATION = frozenset(
    (
        *("vocab_size", "tensor_data_layout"),
        *("rope.scaling.original_context_length", "rope.scaling.finetuned"),
    )
)
"""Metadata of the architecture that change no logit where `_NEUTRAL` holds."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scale_linear": (0.0, 1.0),
    "rope.scaling.factor": (0.0, 1.0),
    "rope.scaling.type": ("none", "linear"),
    "use_parallel_residual": (True,),  # of GPT-NeoX; old converters wrote it everywhere
}
"""Features that this decoder lacks, with the values that mean none of it."""


class _Place(NamedTuple):
    """A parameter in both layouts."""

    theirs: str
    ours: str
    shape: tuple[int, ...]
    rotary_head: int = 0


def parse(file: GgufFile) -> Qwen2Config:
    """Return the architecture.

    Raises:
        UserError: It is another one, has an unknown feature, or the metadata are damaged.
    """
    kind = file.fields.get("general.architecture")
    if kind not in hf_config.MODEL_TYPES:
        raise UserError(
            f"{file.path}: general.architecture is {kind!r}; only 'qwen2' and 'llama' can be "
            "imported"
        )
    known = _Known(file, kind)
    width = known.integer("embedding_length")
    heads = known.integer("attention.head_count")
    kv_heads = known.integer("attention.head_count_kv", heads)
    head_dim = known.integer("attention.key_length", max(1, width // heads))
    if heads % kv_heads or head_dim % 2:
        raise UserError(
            f"{file.path}: {heads} query heads, {kv_heads} key/value heads and heads of {head_dim} "
            "do not fit together; the file is damaged"
        )
    if known.integer("attention.value_length", head_dim) != head_dim:
        raise known.unsupported("attention.value_length")
    if known.integer("rope.dimension_count", head_dim) != head_dim:
        raise known.unsupported("rope.dimension_count")
    raw = {
        "model_type": kind,
        "vocab_size": _vocab_size(file),
        "hidden_size": width,
        "num_hidden_layers": known.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": known.integer("feed_forward_length"),
        "max_position_embeddings": known.integer("context_length"),
        "rope_theta": known.real("rope.freq_base", _DEFAULT_THETA),
        "rms_norm_eps": known.real("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": HEAD not in file.tensors,
    }
    known.require_no_others()
    return hf_config.parse(raw, file.path)


class _Known:
    """The metadata of one architecture; it remembers which were used."""

    def __init__(self, file: GgufFile, kind: str) -> None:
        self._path = file.path
        self._kind = kind
        self._values = {
            key.removeprefix(f"{kind}."): value
            for key, value in file.fields.items()
            if key.startswith(f"{kind}.")
        }
        self._used: set[str] = set()

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MOST:
            raise self._not("a positive integer", key, value)
        return value

    def real(self, key: str, default: float | None = None) -> float:
        value = self._take(key, default)
        if not isinstance(value, float) or not 0 < value < np.finfo(np.float32).max:
            raise self._not("a positive number", key, value)
        return float(str(np.float32(value)))  # 1e-5, not 9.99999974e-06: the float32 is the same

    def unsupported(self, key: str) -> UserError:
        return UserError(
            f"{self._path}: {self._kind}.{key} is {self._values[key]!r}, which this decoder does "
            "not support; use a model without it"
        )

    def require_no_others(self) -> None:
        for key, value in self._values.items():
            if key in _NEUTRAL and value not in _NEUTRAL[key]:
                raise self.unsupported(key)
            if key not in self._used and key not in _INFORMATION and key not in _NEUTRAL:
                raise self.unsupported(key)

    def _take(self, key: str, default: Any) -> Any:
        self._used.add(key)
        return self._values.get(key, default)

    def _not(self, wanted: str, key: str, value: Any) -> UserError:
        found = "nothing" if value is None else repr(value)[:60]
        return UserError(
            f"{self._path}: {self._kind}.{key} must be {wanted}, found {found}; the file is "
            "damaged or of an unknown kind"
        )


def _vocab_size(file: GgufFile) -> int:
    if EMBEDDING not in file.tensors:
        raise UserError(f"{file.path} lacks the tensor {EMBEDDING}; it holds no whole model")
    return file.tensors[EMBEDDING].shape[0]


def outgoing(file: GgufFile, config: Qwen2Config, dtype: np.dtype) -> dict[str, WidenedTensor]:
    """Return the tensors to write by Hugging Face's names, in the order of a checkpoint.

    Raises:
        UserError: A tensor is missing, has another shape or an unreadable number format, or has no
            use here.
    """
    places = list(_places(config))
    _require_all(file, places)
    found = {}
    for place in places:
        source = file.tensors[place.theirs]
        if source.shape != place.shape:
            raise UserError(
                f"{file.path}: {place.theirs} has shape {list(source.shape)}, its metadata ask for "
                f"{list(place.shape)}; the file is damaged"
            )
        _require_readable(source)
        found[place.ours] = WidenedTensor(source, place.shape, dtype, place.rotary_head)
    return found


def _places(config: Qwen2Config) -> Iterator[_Place]:
    width = config.width
    yield _Place(EMBEDDING, "model.embed_tokens.weight", (config.vocab_size, width))
    for layer in range(config.layers):
        for place in (*_attention(config), *_feed_forward(config)):
            theirs, ours = f"blk.{layer}.{place.theirs}", f"model.layers.{layer}.{place.ours}"
            yield place._replace(theirs=theirs, ours=ours)
    yield _Place("output_norm.weight", "model.norm.weight", (width,))
    if not config.tied:
        yield _Place(HEAD, "lm_head.weight", (config.vocab_size, width))


def _attention(config: Qwen2Config) -> Iterator[_Place]:
    """Yield the parameters of one layer's attention, without the layer's name."""
    width, head_dim = config.width, config.head_dim
    turned = 0 if config.qkv_bias else head_dim  # llama.cpp reorders those of plain Llama only
    yield _Place("attn_norm.weight", "input_layernorm.weight", (width,))
    for letter, heads, rotary_head in (
        ("q", config.query_heads, turned),
        ("k", config.kv_heads, turned),
        ("v", config.kv_heads, 0),
    ):
        theirs, ours = f"attn_{letter}", f"self_attn.{letter}_proj"
        shape = (heads * head_dim, width)
        yield _Place(f"{theirs}.weight", f"{ours}.weight", shape, rotary_head)
        if config.qkv_bias:
            yield _Place(f"{theirs}.bias", f"{ours}.bias", shape[:1])
    shape = (width, config.query_heads * head_dim)
    yield _Place("attn_output.weight", "self_attn.o_proj.weight", shape)


def _feed_forward(config: Qwen2Config) -> Iterator[_Place]:
    yield _Place("ffn_norm.weight", "post_attention_layernorm.weight", (config.width,))
    shape = (config.mlp_width, config.width)
    for name, own in (("gate", shape), ("up", shape), ("down", shape[::-1])):
        yield _Place(f"ffn_{name}.weight", f"mlp.{name}_proj.weight", own)


def _require_all(file: GgufFile, places: list[_Place]) -> None:
    wanted = {place.theirs for place in places}
    missing = [place.theirs for place in places if place.theirs not in file.tensors]
    if missing:
        raise UserError(
            f"{file.path} lacks tensors that its metadata ask for: "
            f"{safetensors_file.short_list(missing)}; download the whole file"
        )
    surplus = [name for name in file.tensors if name not in wanted]
    if "rope_freqs.weight" in surplus:
        raise UserError(
            f"{file.path}: rope_freqs.weight scales the rotary frequencies, as Llama 3.1 does, "
            "which this decoder does not support; use a model without it"
        )
    if surplus:
        raise UserError(
            f"{file.path} holds tensors that this decoder has no use for: "
            f"{safetensors_file.short_list(surplus)}; use a plain Qwen-2 or Llama model"
        )


def _require_readable(tensor: GgufTensor) -> None:
    if not gguf_tensors.is_readable(tensor.number_format):
        raise UserError(
            f"{tensor.path}: tensor {tensor.name} has the number format "
            f"{tensor.number_format.name}, which the package gguf cannot widen; use another "
            "quantization"
        )
