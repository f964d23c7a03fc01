"""A Hugging Face config.json as Qwen2Config, and back.

A feature that this decoder does not compute is rejected by name, never ignored: a checkpoint that
loads must give the reference's logits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r1ci_jax.errors import UserError
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.runtime import json_reader

MODEL_TYPES = ("qwen2", "llama")

# transformers uses these defaults for keys absent from config.json.
_DEFAULT_THETA = 10000.0
_DEFAULT_EPS = 1e-6
_DEFAULT_POSITIONS = {"qwen2": 32768, "llama": 2048}


def read_json(directory: Path) -> dict[str, Any]:
    """Parse the config.json of a checkpoint directory."""
    path = directory / "config.json"
    try:
        return json_reader.read_object(path)
    except FileNotFoundError as error:
        raise UserError(
            f"{directory} has no config.json; is it a Hugging Face checkpoint?"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except json_reader.JsonError as error:
        raise UserError(f"{error}, or download it again") from error


def parse(raw: Mapping[str, Any], source: object) -> Qwen2Config:
    """Return the architecture described by a config.json; `source` names it in errors."""
    model_type = raw.get("model_type")
    if model_type not in MODEL_TYPES:
        raise UserError(
            f"{source}: model_type is {model_type!r}; only Qwen-2/2.5 ('qwen2') and plain Llama "
            "('llama') checkpoints can be loaded"
        )
    for problem in _unsupported(raw):
        raise UserError(f"{source}: {problem} is not supported; use a checkpoint without it")
    width, query_heads = (
        _integer(raw, "hidden_size", source),
        _integer(raw, "num_attention_heads", source),
    )
    kv_heads = query_heads
    if raw.get("num_key_value_heads") is not None:
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
    positions = raw.get("max_position_embeddings", _DEFAULT_POSITIONS[model_type])
    return Qwen2Config(
        vocab_size=_integer(raw, "vocab_size", source),
        width=width,
        layers=_integer(raw, "num_hidden_layers", source),
        query_heads=query_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=_integer(raw, "intermediate_size", source),
        rope_theta=_real(
            _rope(raw).get("rope_theta", raw.get("rope_theta", _DEFAULT_THETA)),
            "rope_theta",
            source,
        ),
        norm_eps=_real(raw.get("rms_norm_eps", _DEFAULT_EPS), "rms_norm_eps", source),
        tied=bool(raw.get("tie_word_embeddings", False)),
        qkv_bias=model_type == "qwen2",
        max_positions=int(_real(positions, "max_position_embeddings", source)),
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


def _rope(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    # transformers 5 writes rope_parameters, older versions rope_theta and rope_scaling.
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    return rope if isinstance(rope, Mapping) else {"rope_type": rope}


def _unsupported(raw: Mapping[str, Any]) -> list[str]:
    """List features that would change the logits and that this decoder does not support."""
    found = []
    rope = _rope(raw)
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        found.append(f"rope_scaling {rope_type!r}")
    layers, first = raw.get("num_hidden_layers", 0), raw.get("max_window_layers", 0)
    kinds = raw.get("layer_types")
    windowed = raw.get("use_sliding_window", False) and raw.get("sliding_window") is not None
    if kinds is not None:
        windowed = any(kind != "full_attention" for kind in kinds)
    elif windowed:
        windowed = first < layers
    if windowed:
        found.append("sliding window attention")
    if raw.get("hidden_act", "silu") != "silu":
        found.append(f"hidden_act {raw['hidden_act']!r}")
    if raw.get("quantization_config"):
        found.append("quantization_config")
    if raw["model_type"] == "llama":
        found += [key for key in ("attention_bias", "mlp_bias") if raw.get(key)]
    if raw.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0)) != 1.0:
        found.append("partial_rotary_factor")
    return found


def _integer(raw: Mapping[str, Any], key: str, source: object) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise UserError(f"{source}: config.json needs a positive integer {key!r}, found {value!r}")
    return value


def _real(value: Any, key: str, source: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise UserError(f"{source}: config.json needs a positive number {key!r}, found {value!r}")
    return float(value)
