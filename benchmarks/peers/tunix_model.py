"""google-tunix's Qwen2 at a benchmark's shape, with random float32 weights.

Qwen2 is the family that this project trains. Its biases cannot be omitted, but its rotary angles
are computed once per step: tunix's Llama takes the same processor time.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-tunix.

import jax
from flax import nnx
from shapes import SHAPES
from tunix.models.qwen2 import model as qwen2

PACKAGES = ("google-tunix", "jax", "flax")


def build(name: str) -> qwen2.Qwen2:
    """Build `shapes.SHAPES[name]` without rematerialization, which is tunix's default."""
    shape = SHAPES[name]
    config = qwen2.ModelConfig(
        num_layers=shape.layers,
        vocab_size=shape.vocab,
        embed_dim=shape.width,
        hidden_dim=shape.mlp_width,
        num_heads=shape.query_heads,
        head_dim=shape.head_dim,
        num_kv_heads=shape.kv_heads,
        rope_theta=int(shape.rope_theta),
        norm_eps=shape.norm_eps,
        use_tied_embedding=True,
    )
    model = qwen2.Qwen2(config, rngs=nnx.Rngs(0))
    # tunix initializes the feed-forward weights to zero and expects a checkpoint.
    state = nnx.state(model, nnx.Param)
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    filled = [
        0.02 * jax.random.normal(key, leaf.shape, leaf.dtype) if leaf.ndim > 1 else leaf
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    nnx.update(model, jax.tree.unflatten(tree, filled))
    return model
