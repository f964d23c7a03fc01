"""Three ways to attend and four of keeping give one result, gradients included."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import Attention, Remat, TrainConfig
from r1ci_jax.model import qwen2, self_attention

CONFIG = qwen2.Qwen2Config(
    vocab_size=50, width=32, layers=2, query_heads=4, kv_heads=2, head_dim=8, mlp_width=48
)


def rows(length: int) -> tuple[jax.Array, ...]:
    """q, k, v of three rows: one segment, two, and two with padding behind."""
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (
        jax.random.normal(key, (3, length, heads, 8))
        for key, heads in zip(keys, (4, 2, 2), strict=True)
    )
    place = np.arange(length)
    segments = [
        np.ones(length),
        1 + (place >= length // 3),
        np.where(place < length - 5, 1 + (place >= 7), 0),
    ]
    return q, k, v, jnp.asarray(np.stack(segments), jnp.int32)


def mixed_and_gradients(kind: Attention, length: int) -> Any:
    q, k, v, segments_BT = rows(length)
    is_real = (segments_BT > 0)[:, :, None, None]  # what padding gives is read by nobody

    @jax.jit
    def run(q: jax.Array, k: jax.Array, v: jax.Array):
        def total(q: jax.Array, k: jax.Array, v: jax.Array):
            mixed = jnp.where(
                is_real, self_attention.make_attention(kind, segments_BT)(q, k, v), 0.0
            )
            return jnp.sum(jnp.sin(3.0 * mixed)), mixed

        gradients, mixed = jax.grad(total, (0, 1, 2), has_aux=True)(q, k, v)
        return mixed, *gradients

    return run(q, k, v)


@pytest.mark.parametrize("length", [16, 37])
def test_blocks_equal_all_at_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = mixed_and_gradients("dense", length)  # one block
    monkeypatch.setattr(self_attention, "BLOCK", 8)
    monkeypatch.setattr(self_attention, "SMALL_BLOCK", 4)
    blocked, kept = (mixed_and_gradients(kind, length) for kind in ("blocked", "dense"))
    for one, other in zip(dense, kept, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for one, other in zip(dense, blocked, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_kernel_equals_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    # 200: neither a multiple of a block nor of a register's width; heads are padded, too.
    monkeypatch.setattr(self_attention, "INTERPRET", True)
    kernel = mixed_and_gradients("splash", 200)
    for one, other in zip(mixed_and_gradients("dense", 200), kernel, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_auto_is_dense_for_short_rows_and_blocked_for_long_ones() -> None:
    def keeps_all_scores(length: int) -> bool:
        segments_BT = jnp.ones((1, length), jnp.int32)
        shapes = [jax.ShapeDtypeStruct((1, length, heads, 8), jnp.float32) for heads in (4, 2, 2)]
        program = jax.make_jaxpr(self_attention.make_attention("auto", segments_BT))(*shapes)
        return "remat" not in str(program) and "checkpoint" not in str(program)

    assert keeps_all_scores(2 * self_attention.BLOCK)
    assert not keeps_all_scores(2 * self_attention.BLOCK + 1)


@pytest.mark.parametrize(
    ("remat", "kind"), [("dots", "dense"), ("attention", "blocked"), ("layer", "dense")]
)
def test_what_is_kept_changes_no_gradient(remat: Remat, kind: Attention) -> None:
    graphdef, params = nnx.split(qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0)))
    tokens_BT = jax.random.randint(jax.random.key(1), (2, 24), 0, 50)
    segments_BT = jnp.asarray(np.stack([np.ones(24), 1 + (np.arange(24) > 9)]), jnp.int32)

    def gradients(how: TrainConfig) -> Any:
        def total(params: Any) -> jax.Array:
            x_BTD = nnx.merge(graphdef, params).hidden_and_lm_head(
                tokens_BT, None, None, segments_BT, compute=how
            )[0]
            return jnp.mean(jnp.sin(x_BTD))

        return jax.tree.leaves(jax.jit(jax.grad(total))(params))

    plain = TrainConfig(attention=kind, remat="none")
    kept = dataclasses.replace(plain, remat=remat)
    for one, other in zip(gradients(plain), gradients(kept), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_layer_keeps_less_than_none() -> None:
    config = dataclasses.replace(CONFIG, layers=6)
    abstract = nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))
    graphdef, params = nnx.split(abstract)
    tokens_BT = jax.ShapeDtypeStruct((4, 128), jnp.int32)

    def temporary(remat: Remat) -> int:
        how = TrainConfig(remat=remat, attention="dense")

        def total(params: Any, tokens_BT: jax.Array) -> jax.Array:
            return jnp.sum(
                nnx.merge(graphdef, params).hidden_and_lm_head(tokens_BT, compute=how)[0]
            )

        compiled = jax.jit(jax.grad(total)).lower(params, tokens_BT).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    sizes = {remat: temporary(remat) for remat in ("none", "dots", "attention", "layer")}
    assert sizes["layer"] <= sizes["attention"] < sizes["dots"] < sizes["none"], sizes
