"""top-k, top-p and min-p keep what sorting the probabilities says, each row by its own settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies

from r1ci_jax.config import SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.sampling import filters, token_sampling

VOCAB = 60


def kept(logits_V: np.ndarray, how: SamplingParams) -> np.ndarray:
    """Which tokens may be drawn, by sorting in float64."""
    scaled_V = logits_V.astype(np.float64) / how.temperature
    keep_V = np.ones(len(scaled_V), bool)
    if how.top_k:
        keep_V[np.argsort(-scaled_V, kind="stable")[how.top_k :]] = False
    weights_V = np.where(keep_V, np.exp(scaled_V - scaled_V.max()), 0.0)
    if how.top_p < 1:
        probabilities_V = weights_V / weights_V.sum()
        order = np.argsort(-probabilities_V, kind="stable")
        needed = int(np.searchsorted(np.cumsum(probabilities_V[order]), how.top_p - 1e-6)) + 1
        keep_V[order[needed:]] = False
    return keep_V & (np.exp(scaled_V - scaled_V.max()) >= how.min_p * (1 - 1e-6))


def draws(
    logits_V: np.ndarray, how: SamplingParams, rows: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    keys_S = jax.random.split(jax.random.key(1), rows)
    logits_SV = jnp.tile(jnp.asarray(logits_V, jnp.float32)[None], (rows, 1))
    token_S, logprob_S = jax.jit(token_sampling.sample)(
        logits_SV,
        keys_S,
        jnp.zeros(rows, jnp.int32),
        token_sampling.SamplingArrays.from_params([how] * rows),
    )
    return np.asarray(token_S), np.asarray(logprob_S)


def keep_mask(logits_V: np.ndarray, how: SamplingParams) -> np.ndarray:
    """By bisection; with a small top-k the candidates' way must keep the same."""
    logits_SV = jnp.asarray(logits_V, jnp.float32)[None] / how.temperature
    weights_SV = jnp.exp(logits_SV - logits_SV.max())
    asked = filters.Filters(
        jnp.asarray([True]),
        *(jnp.asarray([value]) for value in (how.top_k, how.top_p, how.min_p)),
    )
    keep_SV = jax.jit(filters.bisect)(logits_SV, weights_SV, asked)
    if 0 < how.top_k <= filters.FEW:
        few_SV = jax.jit(filters.keep_few)(logits_SV, weights_SV, asked)
        np.testing.assert_array_equal(few_SV, keep_SV)
    return np.asarray(keep_SV[0])


@pytest.mark.parametrize(
    "how",
    [
        SamplingParams(top_k=1),
        SamplingParams(top_k=7),
        SamplingParams(top_k=1000),
        SamplingParams(top_p=0.5),
        SamplingParams(top_p=0.001),
        SamplingParams(min_p=0.2),
        SamplingParams(min_p=1.0),
        SamplingParams(temperature=0.6, top_k=20, top_p=0.9, min_p=0.05),
        SamplingParams(temperature=1.8, top_k=5, top_p=0.7),
    ],
    ids=str,
)
def test_draws_and_log_probabilities_are_those_of_what_is_kept(how: SamplingParams) -> None:
    logits_V = np.random.default_rng(0).normal(size=VOCAB) * 2
    keep_V = kept(logits_V, how)
    weights_V = np.where(keep_V, np.exp(logits_V / how.temperature), 0.0)
    token_S, logprob_S = draws(logits_V, how)
    assert set(token_S) <= set(np.flatnonzero(keep_V))
    likely_V = weights_V / weights_V.sum() > 0.05
    assert set(np.flatnonzero(likely_V)) <= set(token_S)
    expected_V = np.log(np.where(keep_V, weights_V, 1.0) / weights_V.sum())
    np.testing.assert_allclose(logprob_S, expected_V[token_S], atol=2e-5)


@given(
    seed=strategies.integers(0, 10_000),
    top_k=strategies.integers(0, VOCAB + 5),
    top_p=strategies.sampled_from([0.01, 0.3, 0.8, 0.95, 1.0]),
    min_p=strategies.sampled_from([0.0, 0.02, 0.5]),
    ties=strategies.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_mask_equals_sorting(
    seed: int, top_k: int, top_p: float, min_p: float, ties: bool
) -> None:
    logits_V = np.random.default_rng(seed).normal(size=VOCAB) * 3
    logits_V = np.round(logits_V if not ties else logits_V.round(), 4).astype(np.float32)
    how = SamplingParams(top_k=top_k, top_p=top_p, min_p=min_p)
    np.testing.assert_array_equal(keep_mask(logits_V, how), kept(logits_V, how))


def test_a_row_is_filtered_alike_whatever_the_others_ask_for() -> None:
    rng = np.random.default_rng(3)
    hows = [
        SamplingParams(top_k=5, top_p=0.8),
        SamplingParams(top_k=filters.FEW + 6, top_p=0.8),
        SamplingParams(),
        SamplingParams(min_p=0.1),
        SamplingParams(top_k=filters.FEW, min_p=0.01),
    ]
    logits_SV = jnp.asarray(rng.normal(size=(len(hows), 200)) * 3, jnp.float32)
    keys_S = jax.random.split(jax.random.key(0), len(hows))
    position_S = jnp.arange(len(hows))

    def sample(rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        at = np.asarray(rows)
        params = token_sampling.SamplingArrays.from_params([hows[row] for row in rows])
        found = jax.jit(token_sampling.sample)(logits_SV[at], keys_S[at], position_S[at], params)
        return np.asarray(found[0]), np.asarray(found[1])

    together = sample([0, 1, 2, 3, 4])
    for row in range(len(hows)):
        for whole, alone in zip(together, sample([row]), strict=True):
            assert whole[row] == alone[0]


HALF_LOG = float(np.log(0.75))


@pytest.mark.parametrize(
    ("logits_V", "how", "expected"),
    [
        ([0.0] * 4, {"top_p": 0.5}, [0, 1]),
        ([0.0] * 4, {"top_p": 0.51}, [0, 1, 2]),
        ([0.0] * 4, {"top_p": 0.01}, [0]),
        ([HALF_LOG, 0.0, HALF_LOG], {"top_p": 0.7}, [0, 1]),  # .3, .4, .3
        ([HALF_LOG, 0.0, HALF_LOG], {"top_p": 0.4}, [1]),
        ([HALF_LOG, 0.0, HALF_LOG], {"top_p": 0.71}, [0, 1, 2]),
        ([0.0] * 4, {"top_k": 3}, [0, 1, 2]),
        ([0.0, 1.0, 0.0, 0.0], {"top_k": 2}, [0, 1]),
        # Three remain of four, and two of these reach half of what remains.
        ([0.0] * 4, {"top_k": 3, "top_p": 0.5}, [0, 1]),
        ([0.0] * 4, {"min_p": 1.0}, [0, 1, 2, 3]),
        ([-np.inf, 0.0, 0.0, -np.inf], {"top_p": 0.9}, [1, 2]),
    ],
)
def test_ties_by_hand(logits_V: list[float], how: dict[str, float], expected: list[int]) -> None:
    sampling = SamplingParams(**how)  # type: ignore[arg-type]  # floats for ints, too
    assert np.flatnonzero(keep_mask(np.asarray(logits_V), sampling)).tolist() == expected
    token_S, logprob_S = draws(np.asarray(logits_V), sampling)
    assert set(token_S) == set(expected)
    weights_V = np.exp(np.asarray(logits_V))[expected]
    logprobs = dict(zip(expected, np.log(weights_V / weights_V.sum()), strict=True))
    np.testing.assert_allclose(logprob_S, [logprobs[token] for token in token_S], atol=2e-6)


def test_rows_keep_their_own_settings_in_one_call() -> None:
    logits_V = np.random.default_rng(3).normal(size=VOCAB)
    hows = [
        SamplingParams(),
        SamplingParams(temperature=0),
        SamplingParams(top_k=3),
        SamplingParams(top_p=0.4),
    ] * 100
    keys_S = jax.random.split(jax.random.key(2), len(hows))
    logits_SV = jnp.tile(jnp.asarray(logits_V, jnp.float32)[None], (len(hows), 1))
    position_S = jnp.arange(len(hows))
    token_S, _ = jax.jit(token_sampling.sample)(
        logits_SV, keys_S, position_S, token_sampling.SamplingArrays.from_params(hows)
    )
    for row, how in enumerate(hows):
        alone, _ = token_sampling.sample(
            logits_SV[row : row + 1], keys_S[row : row + 1], position_S[row : row + 1],
            token_sampling.SamplingArrays.from_params([how]),
        ) if row < 8 else (token_S[row : row + 1], None)  # fmt: skip
        assert alone[0] == token_S[row]
        if how.temperature == 0:
            assert token_S[row] == logits_V.argmax()
        else:
            assert kept(logits_V, how)[token_S[row]]


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": 2.0}]
)
def test_impossible_settings_are_refused_in_one_line(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        SamplingParams(**wrong)  # type: ignore[arg-type]  # floats for ints, too


def test_both_zeros_are_equally_likely() -> None:
    """Of equal logits the smaller ids stay, and -0 equals 0."""
    logits_V = np.array([-5.0, -0.0, 3.0, 0.0, -0.0, 0.0], np.float32)
    for top_k, kept_ids in ((2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 3, 4])):
        keep_V = keep_mask(logits_V, SamplingParams(top_k=top_k))
        assert np.flatnonzero(keep_V).tolist() == kept_ids
