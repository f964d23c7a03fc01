"""Laws of the decoder: causality, padding, packing, and the cache that equals the full pass."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import Quantization
from r1ci_jax.errors import UserError
from r1ci_jax.model import kv_cache, presets, qwen2

TINY = qwen2.Qwen2Config(
    vocab_size=97,
    width=48,
    layers=3,
    query_heads=6,
    kv_heads=2,
    head_dim=8,
    mlp_width=64,
    rope_theta=10000.0,
    tied=False,
)
PARAMETERS = {
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
}


@functools.partial(nnx.jit, static_argnums=(0, 1))
def shaken(config: qwen2.Qwen2Config, seed: int = 0) -> qwen2.Qwen2:
    """A model whose biases and norms are not neutral, and whose attention is far from uniform."""
    model = qwen2.Qwen2(config, rngs=nnx.Rngs(seed))
    leaves, tree = jax.tree.flatten(nnx.state(model))
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    moved = [
        leaf + 0.3 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    nnx.update(model, jax.tree.unflatten(tree, moved))
    return model


@functools.cache
def tiny() -> qwen2.Qwen2:
    return shaken(TINY)


@functools.cache
def forward():
    graphdef, state = nnx.split(tiny())

    @jax.jit
    def hidden(tokens_BT, positions_BT=None, mask_BT=None, segments_BT=None):
        return nnx.merge(graphdef, state).hidden_and_lm_head(
            tokens_BT, positions_BT, mask_BT, segments_BT
        )[0]

    return hidden


@functools.cache
def extend():
    return jax.jit(functools.partial(kv_cache.extend, TINY), donate_argnums=1)


def random_tokens(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.randint(jax.random.key(seed), shape, 0, TINY.vocab_size)


def close(a, b, atol: float = 2e-4):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=atol, rtol=2e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("page_length", [1, 4, 5, 16])
def test_cached_equals_uncached_in_random_chunks_and_pages(seed: int, page_length: int):
    rng = np.random.default_rng(seed)
    rows, tokens, length = 3, 12, 16
    tokens_RT = random_tokens(rows, tokens, seed=seed)
    want_RTD = forward()(tokens_RT)
    pages_per_row = -(-length // page_length)
    num_pages = rows * pages_per_row + 3
    pages_RJ = rng.permutation(num_pages)[: rows * pages_per_row].reshape(rows, pages_per_row)
    # What a page held before must not matter: fill the cache with another sequence's leavings.
    cache = jax.tree.map(
        lambda x: jnp.full(x.shape, 7.0, x.dtype),
        kv_cache.init_cache(TINY, num_pages, page_length, jnp.float32),
    )
    held = qwen2.decoder_weights(tiny(), TINY)
    cuts = [0, *sorted(rng.choice(np.arange(1, tokens), 3, replace=False)), tokens]
    for start, stop in itertools.pairwise(cuts):
        # All pieces come padded to one length; what is padded must write nothing.
        rest = tokens - (stop - start)
        piece_RT = jnp.pad(tokens_RT[:, start:stop], ((0, 0), (0, rest)))
        padding = jnp.full(rest, pages_per_row * page_length)
        columns_T = jnp.concatenate([jnp.arange(start, stop), padding])
        positions_RT = jnp.broadcast_to(columns_T[None], piece_RT.shape)
        x_RTD, cache = extend()(held, cache, piece_RT, positions_RT, jnp.asarray(pages_RJ))
        close(x_RTD[:, : stop - start], want_RTD[:, start:stop])
    for array in map(np.asarray, jax.tree.leaves(cache)):
        in_rows = array[:, pages_RJ].reshape(TINY.kv_heads, rows, -1, TINY.head_dim)
        assert (in_rows[:, :, tokens:] == 7.0).all()
        assert (np.delete(array, pages_RJ.ravel(), axis=1) == 7.0).all()


@pytest.mark.parametrize("storage", ["none", "int8"])
@pytest.mark.parametrize("segments", [(16,), (4, 4, 8), (5, 11), (3, 6, 7)])
def test_whole_rows_in_segments_equal_pages(segments: tuple[int, ...], storage: Quantization):
    # Rows of 13, 2 and 6 tokens, and one without any; each then takes two more, as in a decode.
    tokens_RT, lengths_R1 = random_tokens(4, 13), jnp.asarray([[13], [2], [6], [0]])
    at_RT = jnp.broadcast_to(jnp.arange(13)[None], (4, 13))
    positions_RT = jnp.where(at_RT < lengths_R1, at_RT, 16)
    more_RT = random_tokens(4, 2, seed=1)
    next_RT = jnp.where(lengths_R1 > 0, lengths_R1 + jnp.arange(2)[None], 16)
    held = qwen2.decoder_weights(tiny(), TINY)

    def activations(widths: int | tuple[int, ...], pages_RJ: jax.Array | None) -> list[np.ndarray]:
        num_pages = 4 if pages_RJ is None else pages_RJ.size
        cache = kv_cache.init_cache(TINY, num_pages, widths, jnp.float32, storage)
        cache = jax.tree.map(lambda x: jnp.full(x.shape, 7, x.dtype), cache)
        # A prefill looks its rows up, in any order.
        order_R = jnp.asarray([2, 0, 3, 1])
        own_RJ = jnp.arange(4)[:, None] if pages_RJ is None else pages_RJ
        first_RTD, cache = extend()(
            held, cache, tokens_RT[order_R], positions_RT[order_R], own_RJ[order_R]
        )
        next_RTD, _ = extend()(held, cache, more_RT, next_RT, pages_RJ)
        first_RTD = first_RTD[jnp.argsort(order_R)]
        return [*(np.asarray(first_RTD[r, :n]) for r, (n,) in enumerate(lengths_R1.tolist())),
                np.asarray(next_RTD[:3])]  # fmt: skip

    want = activations(4, kv_cache.contiguous_pages(4, 4))
    for found, wanted in zip(activations(segments, None), want, strict=True):
        close(found, wanted)


def test_no_bit_of_a_whole_row_depends_on_how_long_the_others_are():
    held = qwen2.decoder_weights(tiny(), TINY)
    found = []
    for length in (3, 9, 30):
        tokens_RT = jnp.stack([random_tokens(32, seed=1), random_tokens(32, seed=2)])
        cache = kv_cache.init_cache(TINY, 2, (4, 4, 8, 16), jnp.float32)
        ends_R1 = jnp.asarray([[9], [length]])
        at_RT = jnp.broadcast_to(jnp.arange(32)[None], (2, 32))
        positions_RT = jnp.where(at_RT < ends_R1, at_RT, 32)
        _, cache = extend()(held, cache, tokens_RT, positions_RT, jnp.arange(2)[:, None])
        x_RTD, _ = extend()(held, cache, tokens_RT[:, :1], ends_R1, None)
        found.append(np.asarray(x_RTD[0]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_rows_that_share_a_page_and_rows_without_one():
    # The first page of both rows is page 2; the second row owns nothing at its second page.
    tokens_RT = jnp.tile(random_tokens(1, 4), (2, 1))
    pages_RJ = jnp.asarray([[2, 0], [2, 3]])
    held = qwen2.decoder_weights(tiny(), TINY)
    cache = kv_cache.init_cache(TINY, 3, 4, jnp.float32)
    positions_RT = jnp.broadcast_to(jnp.arange(4)[None], (2, 4))
    shared_RTD, cache = extend()(held, cache, tokens_RT, positions_RT, pages_RJ)
    close(shared_RTD, forward()(tokens_RT))
    before = jax.tree.map(np.asarray, cache)
    more_RT = random_tokens(2, 1, seed=1)
    x_RTD, cache = extend()(held, cache, more_RT, jnp.full((2, 1), 4), pages_RJ)
    want_RTD = forward()(jnp.concatenate([tokens_RT, more_RT], axis=1))
    close(x_RTD[0, 0], want_RTD[0, 4])
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(cache), strict=True):
        np.testing.assert_array_equal(old[:, 1:], np.asarray(new)[:, 1:])


def test_no_bit_depends_on_how_long_the_other_rows_are():
    held = qwen2.decoder_weights(tiny(), TINY)
    found = []
    for length in (3, 9, 30):
        tokens_RT = jnp.stack([random_tokens(32, seed=1), random_tokens(32, seed=2)])
        cache = kv_cache.init_cache(TINY, 16, 4, jnp.float32)
        # The second row is longer, and its padding writes nothing.
        ends_R1 = jnp.asarray([[3], [length]])
        at_RT = jnp.broadcast_to(jnp.arange(32)[None], (2, 32))
        positions_RT = jnp.where(at_RT < ends_R1, at_RT, 32)
        pages_RJ = kv_cache.contiguous_pages(2, 8)
        _, cache = extend()(held, cache, tokens_RT, positions_RT, pages_RJ)
        x_RTD, _ = extend()(held, cache, tokens_RT[:, :1], ends_R1, pages_RJ)
        found.append(np.asarray(x_RTD[0]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_cached_logits_equal_the_model():
    tokens_IT = random_tokens(2, 6)
    held = qwen2.decoder_weights(tiny(), TINY)
    cache, pages_RJ = kv_cache.init_cache(TINY, 4, 4, jnp.float32), kv_cache.contiguous_pages(2, 2)
    positions_IT = jnp.broadcast_to(jnp.arange(6)[None], (2, 6))
    x_RTD, _ = extend()(held, cache, tokens_IT, positions_IT, pages_RJ)
    want_RTV = nnx.jit(qwen2.Qwen2.__call__)(tiny(), tokens_IT)
    close(kv_cache.logits(TINY, held, x_RTD), want_RTV, atol=1e-3)


def test_decoder_weights_come_from_model_state_or_dict_and_in_another_dtype():
    graphdef, state = nnx.split(tiny())
    del graphdef
    from_model = qwen2.decoder_weights(tiny(), TINY)
    for source in (state, nnx.to_pure_dict(state)):
        jax.tree.map(np.testing.assert_array_equal, qwen2.decoder_weights(source, TINY), from_model)
    cast = jax.jit(lambda s: qwen2.decoder_weights(s, TINY, jnp.bfloat16))(state)
    assert {x.dtype for x in jax.tree.leaves(cast)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_bfloat16_runs_cached_and_uncached_alike(dtype):
    model = nnx.jit(lambda: qwen2.Qwen2(TINY, rngs=nnx.Rngs(0), dtype=dtype))()
    tokens_IT = random_tokens(2, 7)
    held = qwen2.decoder_weights(model, TINY)
    cache, pages_RJ = kv_cache.init_cache(TINY, 4, 4, dtype), kv_cache.contiguous_pages(2, 2)
    positions_IT = jnp.broadcast_to(jnp.arange(7)[None], (2, 7))
    _, cache = extend()(held, cache, tokens_IT[:, :6], positions_IT[:, :6], pages_RJ)
    x_RTD, _ = extend()(held, cache, tokens_IT[:, 6:], positions_IT[:, 6:], pages_RJ)
    assert x_RTD.dtype == dtype
    logits_RTV = nnx.jit(qwen2.Qwen2.__call__)(model, tokens_IT)
    assert logits_RTV.dtype == jnp.float32
    tolerance = 1e-5 if dtype == jnp.float32 else 3e-2
    close(kv_cache.logits(TINY, held, x_RTD)[:, 0], logits_RTV[:, -1], atol=tolerance)


def test_no_token_sees_a_later_one():
    tokens_BT = random_tokens(1, 8)
    held = qwen2.decoder_weights(tiny(), TINY)

    def activations(tokens_BT: jax.Array) -> list[np.ndarray]:
        cache, pages_RJ = kv_cache.init_cache(TINY, 3, 4, jnp.float32), jnp.asarray([[2, 0, 1]])
        positions_BT = jnp.arange(8)[None]
        cached_RTD, _ = extend()(held, cache, tokens_BT, positions_BT, pages_RJ)
        return [np.asarray(forward()(tokens_BT)[0]), np.asarray(cached_RTD[0])]

    before = activations(tokens_BT)
    for changed in range(8):
        other_BT = tokens_BT.at[0, changed].add(1)
        for old_TD, new_TD in zip(before, activations(other_BT), strict=True):
            differs_T = (old_TD != new_TD).any(axis=-1)
            assert not differs_T[:changed].any() and differs_T[changed:].all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side: str):
    tokens_BT = random_tokens(2, 7)
    want_BTD = forward()(tokens_BT)
    widths = ((0, 0), (5, 0) if side == "left" else (0, 5))
    padded_BT = jnp.pad(tokens_BT, widths, constant_values=3)
    mask_BT = jnp.pad(jnp.ones((2, 7), dtype=bool), widths)
    got_BTD = forward()(padded_BT, None, mask_BT)
    close(got_BTD[:, 5:] if side == "left" else got_BTD[:, :7], want_BTD)
    assert np.isfinite(np.asarray(got_BTD)).all(), "padding is meaningless, but never NaN"


def test_padding_has_finite_gradients():
    graphdef, state = nnx.split(tiny())
    mask_BT = jnp.array([[False, False, True, True]])

    def loss(state):
        x_BTD = nnx.merge(graphdef, state).hidden_and_lm_head(random_tokens(1, 4), None, mask_BT)[0]
        return jnp.sum(x_BTD**2, where=mask_BT[:, :, None])

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(state)):
        assert np.isfinite(np.asarray(leaf)).all()


def test_packed_segments_equal_separate_rows():
    lengths = (4, 1, 6)
    rows = [random_tokens(1, n, seed=i) for i, n in enumerate(lengths)]
    packed_BT = jnp.concatenate([*rows, random_tokens(1, 3, seed=9)], axis=1)
    ids = np.repeat([1, 2, 3, 0], [*lengths, 3])
    segments_BT = jnp.asarray(ids)[None]
    mask_BT = segments_BT > 0
    got_BTD = forward()(packed_BT, None, mask_BT, segments_BT)
    start = 0
    for row_BT in rows:
        stop = start + row_BT.shape[1]
        close(got_BTD[:, start:stop], forward()(row_BT))
        start = stop
    # The same with positions given, as a packing pipeline gives them.
    positions_BT = jnp.concatenate([jnp.arange(n) for n in (*lengths, 3)])[None]
    given_BTD = forward()(packed_BT, positions_BT, mask_BT, segments_BT)
    close(given_BTD[:, :start], got_BTD[:, :start])


def test_positions_by_hand():
    mask_BT = jnp.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], dtype=bool)
    np.testing.assert_array_equal(
        qwen2.default_positions(mask_BT, None), [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]
    )
    segments_BT = jnp.array([[0, 0, 4, 4, 5], [1, 1, 2, 1, 1]])
    np.testing.assert_array_equal(
        qwen2.default_positions(mask_BT, segments_BT), [[0, 0, 0, 1, 0], [0, 1, 0, 0, 1]]
    )


def test_only_differences_of_positions_matter():
    tokens_BT = random_tokens(1, 6)
    positions_BT = jnp.arange(6)[None]
    close(forward()(tokens_BT, positions_BT + 100), forward()(tokens_BT, positions_BT), atol=1e-3)


def test_without_bias_equals_zero_bias():
    plain = shaken(dataclasses.replace(TINY, qkv_bias=False))
    biased = nnx.jit(lambda: qwen2.Qwen2(TINY, rngs=nnx.Rngs(0)))()
    assert not any("bias" in name for name in nnx.to_pure_dict(nnx.state(plain))["layers"])
    values = nnx.to_pure_dict(nnx.state(plain))
    zeros = {
        n: jnp.zeros_like(biased.layers.__dict__[n][...]) for n in ("q_bias", "k_bias", "v_bias")
    }
    state = nnx.state(biased)
    nnx.replace_by_pure_dict(state, values | {"layers": values["layers"] | zeros})
    nnx.update(biased, state)
    tokens_BT = random_tokens(2, 5)
    close(
        nnx.jit(qwen2.Qwen2.hidden_and_lm_head)(plain, tokens_BT)[0],
        nnx.jit(qwen2.Qwen2.hidden_and_lm_head)(biased, tokens_BT)[0],
    )


@pytest.mark.parametrize("name", PARAMETERS)
def test_presets_have_the_published_number_of_parameters(name: str):
    for variant in (name, f"{name}-instruct"):
        config = presets.get(variant)
        model = nnx.eval_shape(lambda config=config: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))
        assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model))) == PARAMETERS[name]


def test_million_token_presets_differ_where_published():
    for size in ("7b", "14b"):
        config = presets.get(f"qwen2.5-{size}-instruct-1m")
        assert (config.rope_theta, config.norm_eps, config.max_positions) == (1e7, 1e-5, 1010000)


def test_unknown_preset_names_the_choices():
    with pytest.raises(UserError, match=r"unknown model preset 'qwen'.*toy.*qwen2\.5-7b"):
        presets.get("qwen")
