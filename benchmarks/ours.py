"""Our side of the benchmarks: a model of a shape, with random float32 weights."""

import jax
from flax import nnx
from peers.shapes import SHAPES

from r1ci_jax.config import TrainConfig
from r1ci_jax.model import qwen2
from r1ci_jax.train.policy import Params, Policy


def model(name: str) -> qwen2.Qwen2:
    """Build the model of `SHAPES[name]`."""
    shape = SHAPES[name]
    config = qwen2.Qwen2Config(
        vocab_size=shape.vocab,
        width=shape.width,
        layers=shape.layers,
        query_heads=shape.query_heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        mlp_width=shape.mlp_width,
        rope_theta=shape.rope_theta,
        norm_eps=shape.norm_eps,
        tied=True,
        qkv_bias=False,
    )
    return nnx.jit(lambda key: qwen2.Qwen2(config, rngs=nnx.Rngs(key)))(jax.random.key(0))


COMPUTE = TrainConfig(logits_chunk=256)
"""Suits two cores: the logits of a chunk are about twice a processor's cache."""


def policy(name: str) -> tuple[Policy, Params]:
    """Build the policy and its parameters; every embedding is a token."""
    built = model(name)
    graphdef, params = nnx.split(built)
    return Policy(built.config, graphdef, SHAPES[name].vocab, COMPUTE), params
