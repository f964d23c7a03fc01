"""Tiny GGUF files, written by the package `gguf` as llama.cpp's converter writes them."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Format
from gguf import quants

from r1ci_jax.model import qwen2

CONFIG = qwen2.Qwen2Config(
    vocab_size=320, width=64, layers=2, query_heads=4, kv_heads=2, head_dim=16, mlp_width=256,
    rope_theta=1e5, norm_eps=1e-5, tied=False, max_positions=128,
)  # fmt: skip
LLAMA = dataclasses.replace(CONFIG, qkv_bias=False, tied=True)

_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ALPHABET = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))] + [
    chr(0x100 + rank) for rank in range(68)
]
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def random_weights(config: qwen2.Qwen2Config, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw every weight of a checkpoint, by Hugging Face's names."""
    draw = np.random.default_rng(seed)
    width, kv_width = config.width, config.kv_heads * config.head_dim
    query_width = config.query_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (width,),
        "self_attn.q_proj.weight": (query_width, width),
        "self_attn.k_proj.weight": (kv_width, width),
        "self_attn.v_proj.weight": (kv_width, width),
        "self_attn.o_proj.weight": (width, query_width),
        "post_attention_layernorm.weight": (width,),
        "mlp.gate_proj.weight": (config.mlp_width, width),
        "mlp.up_proj.weight": (config.mlp_width, width),
        "mlp.down_proj.weight": (width, config.mlp_width),
    }
    if config.qkv_bias:
        layer |= {
            "self_attn.q_proj.bias": (query_width,),
            "self_attn.k_proj.bias": (kv_width,),
            "self_attn.v_proj.bias": (kv_width,),
        }
    shapes = {"model.embed_tokens.weight": (config.vocab_size, width)}
    for number in range(config.layers):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (width,)
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    return {name: draw.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def gguf_name(name: str) -> str:
    """Rename a tensor as llama.cpp's converter does."""
    if name in _NAMES:
        return _NAMES[name]
    _, _, layer, *part, kind = name.split(".")
    return f"blk.{layer}.{_NAMES['.'.join(part)]}.{kind}"


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """Reorder rows as `LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def architecture(config: qwen2.Qwen2Config) -> dict[str, Any]:
    """Return the metadata of an architecture."""
    kind = "qwen2" if config.qkv_bias else "llama"
    sizes = {
        "block_count": config.layers,
        "context_length": config.max_positions,
        "embedding_length": config.width,
        "feed_forward_length": config.mlp_width,
        "attention.head_count": config.query_heads,
        "attention.head_count_kv": config.kv_heads,
        "rope.freq_base": float(config.rope_theta),
        "attention.layer_norm_rms_epsilon": float(config.norm_eps),
    }
    if not config.qkv_bias:
        sizes |= {"vocab_size": config.vocab_size, "rope.dimension_count": config.head_dim}
    return {"general.architecture": kind} | {f"{kind}.{key}": size for key, size in sizes.items()}


def metadata(
    config: qwen2.Qwen2Config, changes: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return all metadata of a file; a change to `...` leaves one out."""
    found = architecture(config) | plain_tokenizer() | changes
    return {key: value for key, value in found.items() if value is not ...}


def plain_tokenizer(pre: str = "qwen2") -> dict[str, Any]:
    """Return the metadata of a tokenizer of bytes, three merges, three marks and padding."""
    merged = [("1", "2"), ("12", "3"), ("Ġ", "a")]
    tokens = [*ALPHABET, *("".join(pair) for pair in merged), *MARKS]
    kinds = [1] * (len(tokens) - 3) + [3] * 3
    padding = CONFIG.vocab_size - len(tokens)
    return tokenizer_fields(
        [*tokens, *(f"[PAD{number}]" for number in range(padding))],
        kinds + [5] * padding,
        [" ".join(pair) for pair in merged],
        pre,
    )


def tokenizer_fields(
    tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str], pre: str
) -> dict[str, Any]:
    """Return the metadata of a tokenizer with ChatML's marks."""
    prefix = "tokenizer.ggml."
    return {
        f"{prefix}model": "gpt2",
        f"{prefix}pre": pre,
        f"{prefix}tokens": list(tokens),
        f"{prefix}token_type": list(kinds),
        f"{prefix}merges": list(merges),
        f"{prefix}eos_token_id": tokens.index("<|im_end|>"),
        f"{prefix}padding_token_id": tokens.index("<|endoftext|>"),
        f"{prefix}add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def write(
    path: pathlib.Path,
    fields: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    format_of: Callable[[str], Format] = lambda name: Format.F32,
) -> None:
    """Write a file; `format_of` chooses each matrix's number format, vectors are F32."""
    writer = gguf.GGUFWriter(path, str(fields["general.architecture"]))
    for key, value in fields.items():
        if key != "general.architecture":
            add_field(writer, key, value)
    for name, tensor in tensors.items():
        number_format = format_of(name) if tensor.ndim > 1 else Format.F32
        data = quants.quantize(tensor, number_format)
        writer.add_tensor(name, data, raw_dtype=number_format)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_field(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case int() if key == "general.alignment" and value & (value - 1) == 0:
            writer.add_custom_alignment(value)
        case bool():
            writer.add_bool(key, value)
        case int():
            (writer.add_uint32 if value >= 0 else writer.add_int32)(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)
        case _:
            raise TypeError(key)


def as_gguf(config: qwen2.Qwen2Config, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors under llama.cpp's names, in its order of rows."""
    found = {}
    for name, tensor in weights.items():
        own = gguf_name(name)
        if not config.qkv_bias and (own.endswith("attn_q.weight") or own.endswith("attn_k.weight")):
            heads = config.query_heads if "attn_q" in own else config.kv_heads
            tensor = permuted(tensor, heads)
        found[own] = tensor
    return found


def from_definition(directory: pathlib.Path, pre: str) -> dict[str, Any]:
    """Return the metadata of the tokenizer in a Hugging Face directory."""
    definition = json.loads((directory / "tokenizer.json").read_text())
    vocab = definition["model"]["vocab"]
    added = {entry["id"]: entry for entry in definition["added_tokens"]}
    tokens = sorted(vocab, key=vocab.__getitem__)
    tokens += [added[index]["content"] for index in sorted(added)]
    kinds = [1] * len(vocab) + [3 if added[index]["special"] else 4 for index in sorted(added)]
    merges = definition["model"]["merges"]
    texts = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return tokenizer_fields(tokens, kinds, texts, pre)
