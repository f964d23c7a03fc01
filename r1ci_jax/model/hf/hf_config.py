"""A Hugging Face config.json as Qwen2Config, and back.

A feature that this decoder does not compute is rejected by name, never ignored: a checkpoint that
loads must give the reference's logits.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.model.hf import other_formats
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.runtime import json_reader

MODEL_TYPES = ("qwen2", "llama")

# transformers uses these defaults for keys absent from config.json.
_DEFAULT_THETA = 10000.0
_DEFAULT_EPS = 1e-6
_DEFAULT_WINDOW = 4096
_DEFAULT_FULL_LAYERS = 28
_DEFAULT_KV_HEADS = 32  # of qwen2; a llama without the key has one for each query head
_MOST_LAYERS = 10_000
_HUGE = 1 << 40
"""No size of a model is as large as this; a file that names one is damaged."""
_DEFAULT_POSITIONS = {"qwen2": 32768, "llama": 2048}


def _inside(directory: Path) -> str:
    """Name directories inside that may have been meant."""
    found = sorted(path.parent.name for path in directory.glob("*/config.json"))
    if not found:
        return "is it a Hugging Face checkpoint?"
    more = ", ..." if len(found) > 3 else ""
    return f"name a directory inside it: {', '.join(found[:3])}{more}"


def read_json(directory: Path) -> dict[str, Any]:
    """Parse the config.json of a checkpoint directory."""
    path = directory / "config.json"
    if not path.exists():
        found = other_formats.describe(directory) or _inside(directory)
        raise UserError(f"{directory} has no config.json; {found}")
    raw = json_reader.load_object(path, "download it again")
    if "model_type" not in raw and "experiment" in raw:
        raise UserError(
            f"{directory} is a run directory; `r1ci weights export` writes one of its models as a "
            "checkpoint"
        )
    return raw


def parse(raw: Mapping[str, Any], source: object) -> Qwen2Config:
    """Return the architecture described by a config.json; `source` names it in errors."""
    model_type = raw.get("model_type")
    if model_type not in MODEL_TYPES:
        raise UserError(
            f"{source}: model_type is {model_type!r}; only Qwen-2/2.5 ('qwen2') and plain Llama "
            "('llama') checkpoints can be loaded"
        )
    rope = _rope(raw, source)
    for problem in _unsupported(raw, rope, source):
        raise UserError(f"{source}: {problem} is not supported; use a checkpoint without it")
    width, query_heads = (
        _integer(raw, "hidden_size", source),
        _integer(raw, "num_attention_heads", source),
    )
    kv_heads = query_heads
    if model_type == "qwen2" and "num_key_value_heads" not in raw:
        kv_heads = _DEFAULT_KV_HEADS
    elif raw.get("num_key_value_heads") is not None:
        kv_heads = _integer(raw, "num_key_value_heads", source)
    head_dim = width // query_heads
    if raw.get("head_dim") is not None:
        head_dim = _integer(raw, "head_dim", source)
    if (
        query_heads % kv_heads
        or head_dim % 2
        or (raw.get("head_dim") is None and width % query_heads)
    ):
        raise UserError(
            f"{source}: {query_heads} query heads, {kv_heads} key/value heads and width {width} do "
            "not fit together; config.json is damaged"
        )
    positions = {"max_position_embeddings": _DEFAULT_POSITIONS[model_type], **raw}
    return Qwen2Config(
        vocab_size=_integer(raw, "vocab_size", source),
        width=width,
        layers=_layers(raw, source),
        query_heads=query_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=_integer(raw, "intermediate_size", source),
        rope_theta=_real(rope["rope_theta"], "rope_theta", source),
        norm_eps=_real(raw.get("rms_norm_eps", _DEFAULT_EPS), "rms_norm_eps", source),
        tied=_flag(raw, "tie_word_embeddings", source),
        qkv_bias=model_type == "qwen2",
        max_positions=_integer(positions, "max_position_embeddings", source),
    )


def render(config: Qwen2Config, dtype: np.dtype, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config.json of a checkpoint; `extra` adds keys such as eos_token_id."""
    model_type, architecture = (
        ("qwen2", "Qwen2ForCausalLM") if config.qkv_bias else ("llama", "LlamaForCausalLM")
    )
    described = {
        "architectures": [architecture],
        "model_type": model_type,
        "torch_dtype": str(dtype),
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.query_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.mlp_width,
        "hidden_act": "silu",
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
    }
    if config.qkv_bias:
        described |= {"use_sliding_window": False, "sliding_window": None}
    else:
        described |= {"attention_bias": False, "mlp_bias": False}
    return dict(extra) | described


def _rope(raw: Mapping[str, Any], source: object) -> Mapping[str, Any]:
    """Return the rotary parameters, `rope_theta` among them, from the places where they may be.

    transformers 5 writes rope_parameters, older versions rope_theta and rope_scaling. It reads
    rope_scaling before rope_parameters, and takes from rope_theta what the chosen one lacks.
    """
    theta = {"rope_theta": raw.get("rope_theta", _DEFAULT_THETA)}
    chosen = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(chosen, Mapping):
        raise UserError(
            f"{source}: config.json needs an object as rope_scaling or rope_parameters, found "
            f"{chosen!r}"
        )
    nested = {name: entry for name, entry in chosen.items() if isinstance(entry, Mapping)}
    if not nested:
        return theta | dict(chosen)
    # By layer type. All layers have full attention here, and the other types none of the layers.
    if "full_attention" not in nested or len(nested) < len(chosen):
        raise UserError(
            f"{source}: the rotary parameters {', '.join(chosen)} of config.json are not those of "
            "full_attention alone; use a checkpoint with one set for all layers"
        )
    return theta | dict(nested["full_attention"])


def _unsupported(raw: Mapping[str, Any], rope: Mapping[str, Any], source: object) -> list[str]:
    """List features that would change the logits and that this decoder does not support."""
    found = []
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        found.append(f"rope_scaling {rope_type!r}")
    if _has_window(raw, source):
        found.append("sliding window attention")
    if raw.get("hidden_act", "silu") != "silu":
        found.append(f"hidden_act {raw['hidden_act']!r}")
    # The second is that of MLX, the third names other files than those that are read here.
    found += [
        key for key in ("quantization_config", "quantization", "transformers_weights")
        if raw.get(key)
    ]  # fmt: skip
    if raw["model_type"] == "llama":
        found += [key for key in ("attention_bias", "mlp_bias") if raw.get(key)]
    for place in (raw, rope):
        if place.get("partial_rotary_factor") not in (None, 1.0):
            found.append("partial_rotary_factor")
    return found


def _has_window(raw: Mapping[str, Any], source: object) -> bool:
    """Return True if some layer attends to a window only, by transformers' rules and defaults."""
    kinds = raw.get("layer_types")
    if kinds is not None:
        layers = raw.get("num_hidden_layers")
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise UserError(
                f"{source}: config.json needs one of layer_types for each of its {layers} layers, "
                f"found {kinds!r}"
            )
        return any(kind != "full_attention" for kind in kinds)
    is_used = _flag(raw, "use_sliding_window", source)
    window = raw.get("sliding_window", _DEFAULT_WINDOW)
    first = raw.get("max_window_layers", _DEFAULT_FULL_LAYERS)
    for name, value in (("sliding_window", window), ("max_window_layers", first)):
        is_none = value is None and name == "sliding_window"
        if not is_none and (not isinstance(value, int) or isinstance(value, bool)):
            raise UserError(f"{source}: config.json needs an integer {name!r}, found {value!r}")
    return is_used and window is not None and first < _integer(raw, "num_hidden_layers", source)


def _layers(raw: Mapping[str, Any], source: object) -> int:
    layers = _integer(raw, "num_hidden_layers", source)
    if layers > _MOST_LAYERS:  # each has names of its own
        raise UserError(f"{source}: config.json asks for {layers} layers; it is damaged")
    return layers


def _flag(raw: Mapping[str, Any], key: str, source: object) -> bool:
    value = raw.get(key, False)
    if not isinstance(value, bool):
        raise UserError(f"{source}: config.json needs true or false as {key!r}, found {value!r}")
    return value


def _integer(raw: Mapping[str, Any], key: str, source: object) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _HUGE:
        raise UserError(f"{source}: config.json needs a positive integer {key!r}, found {value!r}")
    return value


def _real(value: Any, key: str, source: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise UserError(f"{source}: config.json needs a positive number {key!r}, found {value!r}")
    return float(value)
