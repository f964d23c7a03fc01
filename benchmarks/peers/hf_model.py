"""Hugging Face's Llama at a benchmark's shape, with random float32 weights."""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-torch.

import torch
import transformers
import wire
from shapes import SHAPES

torch.set_num_threads(wire.CORES)
PACKAGES = ("torch", "transformers")


def build(name: str) -> transformers.LlamaForCausalLM:
    """Build `shapes.SHAPES[name]` with scaled-dot-product attention and no end of text."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        rms_norm_eps=shape.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        dtype=torch.float32,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config)
    assert model.config._attn_implementation == "sdpa", "not the attention that is measured"
    return model
