"""One token from a row of logits: the right distribution, the right log-probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.config import SamplingParams
from r1ci_jax.sampling import decode
from r1ci_jax.sampling import token_sampling as drawing

pytestmark = pytest.mark.optimized

DRAWS = 200_000


def draw(weights_V: np.ndarray, uniform_S: np.ndarray) -> np.ndarray:
    """Indices drawn from one row of weights, a uniform number each."""
    weights_SV = jnp.broadcast_to(jnp.asarray(weights_V)[None, :], (1, len(weights_V)))
    # The weights are an argument: XLA would spend minutes on folding a constant row.
    one = jax.jit(jax.vmap(lambda row_SV, u: drawing.inverse_cdf(row_SV, u[None])[0][0], (None, 0)))
    return np.asarray(one(weights_SV, jnp.asarray(uniform_S, jnp.float32)))


def uniforms(count: int, seed: int = 0) -> np.ndarray:
    return np.asarray(jax.random.uniform(jax.random.key(seed), (count,)))


def sample(
    logits_V: np.ndarray, *, rows: int, temperature: float, position: int = 3, seed: int = 0
):
    keys_S = jax.random.split(jax.random.key(seed), rows)
    logits_SV = jnp.broadcast_to(jnp.asarray(logits_V, jnp.float32)[None, :], (rows, len(logits_V)))
    position_S = jnp.full((rows,), position, jnp.int32)
    settings = drawing.SamplingArrays.from_params([SamplingParams(temperature=temperature)] * rows)
    token_S, logprob_S = jax.jit(drawing.sample)(logits_SV, keys_S, position_S, settings)
    return np.asarray(token_S), np.asarray(logprob_S)


def log_softmax(logits_V: np.ndarray) -> np.ndarray:
    logits_V = logits_V.astype(np.float64)
    return logits_V - logits_V.max() - np.log(np.exp(logits_V - logits_V.max()).sum())


@pytest.mark.parametrize("vocab", [5, 256, 700, 1000])
def test_frequencies_match_the_probabilities(vocab: int) -> None:
    rng = np.random.default_rng(vocab)
    probabilities = rng.dirichlet(np.full(vocab, 0.5)) * 0.5 + 0.5 / vocab
    counts = np.bincount(draw(probabilities, uniforms(DRAWS)), minlength=vocab)
    assert len(counts) == vocab  # never an index behind the vocabulary
    expected = DRAWS * probabilities
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # Mean and deviation of chi square are df and sqrt(2 df); the seed is fixed.
    degrees = vocab - 1
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_impossible_tokens_are_never_drawn(scale: float) -> None:
    rng = np.random.default_rng(1)
    weights = np.zeros(700)
    possible = [0, 3, 255, 256, 400, 511, 650]
    weights[possible] = rng.random(len(possible)) * scale
    edges = np.array([0.0, 2.0**-24, 0.5, 1 - 2.0**-24, 1 - 2.0**-23])
    drawn = draw(weights, np.concatenate([edges, uniforms(50_000)]))
    assert set(drawn) == set(possible)


def test_the_only_possible_token_is_always_drawn() -> None:
    for only in (0, 255, 256, 699):
        weights = np.zeros(700)
        weights[only] = 0.3
        assert (draw(weights, uniforms(1000)) == only).all()


def test_greedy_is_argmax_and_reports_its_log_probability() -> None:
    logits = np.random.default_rng(2).normal(size=700) * 3
    tokens, logprobs = sample(logits, rows=8, temperature=0.0)
    assert (tokens == logits.argmax()).all()
    np.testing.assert_allclose(logprobs, log_softmax(logits).max(), atol=1e-5)


@pytest.mark.parametrize("temperature", [1e-44, 1e-38, 3e-38, 1e-36, 1e-9])
def test_the_smallest_temperatures_take_the_largest_logit(temperature: float) -> None:
    logits = np.array([3.0, 30.0, -80.0, 29.0])
    tokens, logprobs = sample(logits, rows=8, temperature=temperature)
    assert (tokens == 1).all() and np.isfinite(logprobs).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_temperature_shapes_draws_and_log_probabilities(temperature: float) -> None:
    logits = np.random.default_rng(3).normal(size=40) * 2
    tokens, logprobs = sample(logits, rows=50_000, temperature=temperature)
    expected = log_softmax(logits / temperature)
    np.testing.assert_allclose(logprobs, expected[tokens], atol=1e-5)
    frequencies = np.bincount(tokens, minlength=40) / len(tokens)
    np.testing.assert_allclose(frequencies, np.exp(expected), atol=0.01)


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(4)
    logits_SV = jnp.asarray(rng.normal(size=(6, 300)), jnp.float32)
    key_S = jax.random.split(jax.random.key(0), 6)
    position_S = jnp.arange(6)
    rows = drawing.SamplingArrays.from_params(
        [SamplingParams(temperature=t) for t in (0.0, 1.0, 0.5, 1.0, 0.0, 2.0)]
    )
    token_S, _ = jax.jit(drawing.sample)(logits_SV, key_S, position_S, rows)
    order = np.array([3, 1, 5, 0, 4, 2])
    shuffled_S, _ = jax.jit(drawing.sample)(
        logits_SV[order],
        key_S[order],
        position_S[order],
        jax.tree.map(lambda column_S: column_S[order], rows),
    )
    assert (np.asarray(token_S)[order] == np.asarray(shuffled_S)).all()


def test_random_numbers_differ_by_position_and_by_key() -> None:
    logits = np.zeros(1000)
    draws = [
        sample(logits, rows=64, temperature=1.0, position=position, seed=seed)[0].tolist()
        for position, seed in ((3, 0), (4, 0), (3, 1))
    ]
    assert draws[0] == sample(logits, rows=64, temperature=1.0)[0].tolist()
    assert len({tuple(tokens) for tokens in draws}) == 3
    assert len(set(draws[0])) > 50


def test_trajectory_keys_are_distinct_and_know_no_order() -> None:
    run_key = jax.random.key(5)
    ids = [(rollout, member) for rollout in range(20) for member in range(20)]
    keys = np.asarray(jax.random.key_data(decode.trajectory_keys(run_key, jnp.asarray(ids))))
    assert len({tuple(key) for key in keys}) == len(ids)
    reverse = decode.trajectory_keys(run_key, jnp.asarray(ids[::-1]))
    assert (np.asarray(jax.random.key_data(reverse))[::-1] == keys).all()
    others = decode.trajectory_keys(jax.random.key(6), jnp.asarray(ids))
    assert not (np.asarray(jax.random.key_data(others)) == keys).all(axis=1).any()
