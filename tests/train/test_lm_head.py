"""The chunked head against the naive one, and what a tree of logits would have cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.train import lm_head as heads
from r1ci_jax.train import losses
from r1ci_jax.train.objective.aggregation import token_weights
from r1ci_jax.train.objective.loss_settings import LossSettings


def head(tokens: int, *, chunk: int = 1024, temperature: float = 1.0, tied: bool = False):
    return heads.LmHead(is_tied=tied, vocab_size=tokens, chunk_size=chunk, temperature=temperature)


def weighted(logprobs_BT, weights_BT):
    return logprobs_BT * weights_BT


loss = jax.jit(heads.lm_head_loss, static_argnums=(0, 1))
gradients = jax.jit(jax.grad(heads.lm_head_loss, (2, 3), has_aux=True), static_argnums=(0, 1))
scores = jax.jit(heads.token_scores, static_argnums=0)


def everywhere(targets_BT):
    return jnp.ones(targets_BT.shape, bool)


def naive_logprobs(x_BTD, head_DV, targets_BT, temperature):
    scores_BTV = jax.nn.log_softmax(jnp.einsum("btd,dv->btv", x_BTD, head_DV) / temperature)
    return jnp.take_along_axis(scores_BTV, targets_BT[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 12, 10_000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_chunked_head_equals_the_naive_one_with_gradients(chunk, temperature, tied):
    keys = jax.random.split(jax.random.key(0), 4)
    x_BTD = jax.random.normal(keys[0], (3, 7, 8))
    weight_DV = jax.random.normal(keys[1], (8, 13))
    targets_BT = jax.random.randint(keys[2], (3, 7), 0, 11)
    weights_BT = jax.random.normal(keys[3], (3, 7))
    counted_BT = everywhere(targets_BT)
    how = head(11, chunk=chunk, temperature=temperature, tied=tied)  # two rows are no tokens

    def ours(x_BTD, weight_DV):
        weight = weight_DV.T if tied else weight_DV
        return heads.lm_head_loss(
            how, weighted, x_BTD, weight, targets_BT, counted_BT, (weights_BT,)
        )

    def naive(x_BTD, weight_DV):
        logprobs_BT = naive_logprobs(x_BTD, weight_DV[:, :11], targets_BT, temperature)
        return jnp.sum(logprobs_BT * weights_BT), logprobs_BT

    run = [jax.jit(jax.value_and_grad(each, (0, 1), has_aux=True)) for each in (ours, naive)]
    ((got, scored), slopes), ((want, logprobs_BT), wanted) = (
        each(x_BTD, weight_DV) for each in run
    )
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(scored.logprobs_BT, logprobs_BT, atol=1e-5)
    for got_one, want_one in zip(slopes, wanted, strict=True):
        np.testing.assert_allclose(got_one, want_one, atol=1e-5)
    # Without a gradient to be taken, the same numbers.
    plain, again = jax.jit(ours)(x_BTD, weight_DV)
    np.testing.assert_allclose(plain, got, atol=1e-5)
    np.testing.assert_allclose(again.entropy_BT, scored.entropy_BT, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 6, 7, 21])
@pytest.mark.parametrize("tied", [False, True])
def test_only_what_counts_is_looked_at(count, tied):
    keys = jax.random.split(jax.random.key(count), 4)
    targets_BT = jax.random.randint(keys[0], (3, 7), 0, 11)
    places = jax.random.permutation(keys[1], 21)[:count]
    counted_BT = jnp.zeros(21, bool).at[places].set(True).reshape(3, 7)
    x_BTD = jax.random.normal(keys[2], (3, 7, 8))
    weight = jax.random.normal(keys[3], (11, 8) if tied else (8, 11))
    # Whatever touches the other positions is no number any more.
    poisoned_BTD = jnp.where(counted_BT[:, :, None], x_BTD, jnp.nan)
    weights_BT = jnp.where(counted_BT, jnp.arange(1.0, 22.0).reshape(3, 7), 0)
    poisons_BT = jnp.where(counted_BT, weights_BT, jnp.nan)
    how = head(11, chunk=3, tied=tied)

    def naive(x_BTD, weight):
        head_DV = weight.T if tied else weight
        logprobs_BT = naive_logprobs(x_BTD, head_DV, targets_BT, 1.0)
        return jnp.sum(logprobs_BT * weights_BT), logprobs_BT

    run = functools.partial(jax.value_and_grad, argnums=(2, 3), has_aux=True)
    (got, scored), slopes = jax.jit(run(heads.lm_head_loss), static_argnums=(0, 1))(
        how, weighted, poisoned_BTD, weight, targets_BT, counted_BT, (poisons_BT,)
    )
    (want, logprobs_BT), wanted = jax.value_and_grad(naive, (0, 1), has_aux=True)(x_BTD, weight)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scored.logprobs_BT, jnp.where(counted_BT, logprobs_BT, 0), atol=1e-5)
    for got_one, want_one in zip(slopes, wanted, strict=True):
        np.testing.assert_allclose(got_one, want_one, rtol=1e-4, atol=1e-4)
    again = scores(how, poisoned_BTD, weight, targets_BT, counted_BT)
    np.testing.assert_array_equal(again.logprobs_BT, scored.logprobs_BT)


def test_entropy_of_a_uniform_and_of_a_certain_distribution():
    x_BTD = jnp.array([[[0.0], [1.0]]])
    head_DV = jnp.array([[100.0, 0.0, 0.0, 0.0]])
    targets_BT = jnp.array([[2, 0]])
    logprobs_BT, entropy_BT = scores(head(4), x_BTD, head_DV, targets_BT, everywhere(targets_BT))
    np.testing.assert_allclose(entropy_BT, [[np.log(4), 0.0]], atol=1e-6)
    np.testing.assert_allclose(logprobs_BT, [[-np.log(4), 0.0]], atol=1e-6)


def test_the_scores_are_measurements_without_gradient():
    x_BTD, head_DV = jnp.ones((1, 3, 2)), jnp.arange(8.0).reshape(2, 4)
    targets_BT = jnp.zeros((1, 3), jnp.int32)
    rows = targets_BT, everywhere(targets_BT), (jnp.ones((1, 3)),)

    def both(x_BTD, scale):
        total, scored = heads.lm_head_loss(head(4), weighted, x_BTD, head_DV, *rows)
        return total + scale * sum(x.sum() for x in scored)

    with_scores, without = (jax.grad(both)(x_BTD, scale) for scale in (1.0, 0.0))
    np.testing.assert_array_equal(with_scores, without)


def test_no_array_of_all_logits_exists():
    rows, length, width, vocab = 4, 64, 8, 1000
    shape = jax.ShapeDtypeStruct
    targets_BT, mask_BT = shape((rows, length), jnp.int32), shape((rows, length), jnp.bool_)
    lowered = gradients.lower(
        head(vocab, chunk=16),
        losses.sft_token_loss,
        shape((rows, length, width), jnp.float32),
        shape((width, vocab), jnp.float32),
        targets_BT,
        mask_BT,
        (mask_BT,),
    )
    temporary = lowered.compile().memory_analysis().temp_size_in_bytes
    assert temporary < rows * length * vocab * 4 / 3


def test_bfloat16_activations_give_float32_results_and_head_gradients():
    x_BTD = jax.random.normal(jax.random.key(0), (2, 33, 16)).astype(jnp.bfloat16)
    head_DV = jax.random.normal(jax.random.key(1), (16, 40)) / 4
    targets_BT = jax.random.randint(jax.random.key(2), (2, 33), 0, 40)
    rows = targets_BT, everywhere(targets_BT), (jnp.ones((2, 33)),)

    def slopes(chunk):
        (by_x, by_head), _ = gradients(head(40, chunk=chunk), weighted, x_BTD, head_DV, *rows)
        return by_x, by_head

    (by_x, few), (_, many) = slopes(1000), slopes(4)
    assert by_x.dtype == jnp.bfloat16 and few.dtype == many.dtype == jnp.float32
    # Summed over 33 chunks in bfloat16 the error would be 0.06.
    np.testing.assert_allclose(few, many, atol=3e-2)


def test_gradient_reaches_the_activations_only_through_sampled_tokens():
    keys = jax.random.split(jax.random.key(0), 3)
    x_BTD, head_DV = jax.random.normal(keys[0], (2, 5, 4)), jax.random.normal(keys[1], (4, 9))
    targets_BT = jax.random.randint(keys[2], (2, 5), 0, 9)
    mask_BT = jnp.array([[True, False, True, False, False], [False, False, True, True, False]])
    how = head(9, chunk=3)
    old_BT, _ = scores(how, x_BTD, head_DV, targets_BT, mask_BT)
    settings = LossSettings(clip_low=0.2, clip_high=0.28, kl_coef=0.01)
    grpo = functools.partial(losses.grpo_token_loss, settings=settings)
    advantages_BT = jnp.broadcast_to(jnp.array([[1.0], [-1.0]]), (2, 5))
    inputs = old_BT, old_BT - 0.1, advantages_BT, token_weights(mask_BT)
    (gradient, _), _ = jax.grad(heads.lm_head_loss, (2, 3), has_aux=True)(
        how, grpo, x_BTD, head_DV, targets_BT, mask_BT, inputs
    )
    assert not gradient[~mask_BT].any()
    assert jnp.abs(gradient[mask_BT]).min() > 0


def test_one_device_reads_a_tied_embedding_where_it_lies():
    """An embedding of 151,936 tokens was copied twice a step: to gather it from one device."""
    x_BTD, embed_VD, targets_BT = jnp.ones((2, 8, 16)), jnp.ones((96, 16)), jnp.ones((2, 8), int)
    how = head(90, chunk=4, tied=True)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def step(x_BTD, embed_VD):
        mask_BT = everywhere(targets_BT)
        return heads.lm_head_loss(
            how, weighted, x_BTD, embed_VD, targets_BT, mask_BT, (x_BTD[..., 0],)
        )

    program = str(step.lower(x_BTD, embed_VD).compile().as_text())
    made = [line for line in program.splitlines() if "= f32[96,16]" in line]
    assert made and "all-gather" not in program
    assert all("parameter(" in line or "get-tuple-element(" in line for line in made), made
