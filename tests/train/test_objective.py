"""Every form of the GRPO loss: values and gradients against the published formulas, by hand.

The formulas are written out token by token, with a branch for each side of a clip, in plain
Python: they share nothing with the code under test but the notation.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.train import losses
from r1ci_jax.train.objective.aggregation import token_weights
from r1ci_jax.train.objective.loss_settings import LossSettings


class Case(NamedTuple):
    """Probabilities of each token under four policies, and what the rows are trained by."""

    new: np.ndarray
    old: np.ndarray
    sampler: np.ndarray
    reference: np.ndarray
    advantages: np.ndarray
    sampled: np.ndarray


OLD = np.array([[0.3, 0.6, 0.02, 0.5], [0.9, 0.5, 0.1, 0.4], [0.2, 0.3, 0.4, 0.5]])
NEW = np.array([[0.9, 0.66, 0.08, 0.4], [0.3, 0.25, 0.07, 0.9], [0.22, 0.27, 0.42, 0.52]])
# Weights old / sampler on both sides of [0.5, 2], and inside.
SAMPLER = OLD / np.array([[1.0, 3.0, 0.9, 0.3], [1.5, 0.4, 2.5, 1.1], [1.0, 0.8, 1.2, 1.9]])
REFERENCE = OLD * np.array([[0.9, 1.1, 1.5, 0.7], [1.05, 0.8, 1.2, 1.0], [1.3, 1.0, 0.6, 1.4]])
ADVANTAGES = np.array([2.0, -1.0, 0.5])
EVERY = np.ones((3, 4), bool)
SOME = np.array([[True, True, True, True], [False, True, False, True], [False] * 4])
CASES = {
    "on_policy": Case(OLD, OLD, OLD, REFERENCE, ADVANTAGES, EVERY),
    "off_policy": Case(NEW, OLD, SAMPLER, REFERENCE, ADVANTAGES, EVERY),
    "unequal_lengths": Case(NEW, OLD, SAMPLER, REFERENCE, ADVANTAGES, SOME),
}
SURROGATES: dict[str, dict[str, Any]] = {
    "clip": {"clip_low": 0.2, "clip_high": 0.28},
    "dual_clip": {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 2.0},
    "gspo": {"surrogate": "gspo", "clip_low": 0.2, "clip_high": 0.28},
    "gspo_dual_clip": {"surrogate": "gspo", "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 1.1},
    "cispo": {"surrogate": "cispo", "clip_high": 1.5},
    "dppo": {"surrogate": "dppo", "dppo_max_change": 0.2},
}
IMPORTANCE: dict[str, dict[str, Any]] = {
    "no_weights": {},
    "weights": {"has_importance": True},
    "truncate": {"has_importance": True, "importance": "truncate", "importance_high": 2.0},
    "mask": {
        "has_importance": True,
        "importance": "mask",
        "importance_low": 0.7,
        "importance_high": 1.12,
    },
}


# --- the formulas --------------------------------------------------------------------------------


def clip_by_hand(ratio: float, advantage: float, how: LossSettings) -> tuple[float, float, bool]:
    """Value, derivative by the log of the ratio, and if the clip acted."""
    if advantage < 0 and how.dual_clip and ratio > how.dual_clip:
        return how.dual_clip * advantage, 0.0, False
    if advantage > 0 and ratio > 1 + how.clip_high:
        return (1 + how.clip_high) * advantage, 0.0, True
    if advantage < 0 and ratio < 1 - how.clip_low:
        return (1 - how.clip_low) * advantage, 0.0, True
    return ratio * advantage, ratio * advantage, False


def token_by_hand(
    new: float, old: float, advantage: float, how: LossSettings
) -> tuple[float, float, bool]:
    """Value of a token's objective, derivative by its log-probability, and if a bound acted."""
    ratio = new / old
    if how.surrogate == "clip":
        return clip_by_hand(ratio, advantage, how)
    if how.surrogate == "cispo":
        weight = min(ratio, 1 + how.clip_high)
        return weight * advantage * math.log(new), weight * advantage, ratio > 1 + how.clip_high
    assert how.surrogate == "dppo"
    left = new - old if advantage > 0 else old - new
    if left > how.dppo_max_change:
        return 0.0, 0.0, True
    return ratio * advantage, ratio * advantage, False


def weight_by_hand(ratio: float, how: LossSettings) -> float:
    if how.importance == "truncate":
        return min(ratio, how.importance_high)
    if how.importance == "mask" and not how.importance_low <= ratio <= how.importance_high:
        return 0.0
    return ratio


def kl_by_hand(new: float, reference: float, how: LossSettings) -> tuple[float, float]:
    """Value of the estimate, and derivative by the log-probability."""
    d = math.log(reference / new)
    return {
        "k1": (-d, 1.0),
        "k2": (d * d / 2, -d),
        "k3": (reference / new - 1 - d, 1 - reference / new),
    }[how.kl_estimator]


def loss_by_hand(case: Case, how: LossSettings) -> tuple[float, np.ndarray, dict[str, float]]:
    """Summed loss of the paper's mean over sequences, its gradient, and counts."""
    loss, gradient = 0.0, np.zeros(case.new.shape)
    counts = {"clipped": 0.0, "importance": 0.0, "importance_limited": 0.0}
    for row, advantage in enumerate(case.advantages):
        tokens = [t for t in range(4) if case.sampled[row, t]]
        size = len(tokens)

        def mean(values: np.ndarray, row: int = row, tokens: list[int] = tokens) -> float:
            return math.prod(float(values[row, t]) for t in tokens) ** (1 / len(tokens))

        for t in tokens:
            new, old, sampler = case.new[row, t], case.old[row, t], case.sampler[row, t]
            if how.surrogate == "gspo":
                # Of the sequence; each of its |y| tokens has 1/|y| of value and derivative.
                value, slope, acted = clip_by_hand(mean(case.new / case.old), advantage, how)
            else:
                value, slope, acted = token_by_hand(new, old, advantage, how)
            counts["clipped"] += acted
            if how.has_importance:
                ratio = mean(case.old / case.sampler) if how.surrogate == "gspo" else old / sampler
                weight = weight_by_hand(ratio, how)
                counts["importance"] += ratio
                counts["importance_limited"] += weight != ratio
                value, slope = weight * value, weight * slope
            kl, kl_slope = 0.0, 0.0
            if how.kl_coef:
                kl, kl_slope = kl_by_hand(new, case.reference[row, t], how)
            loss += (how.kl_coef * kl - value) / size
            gradient[row, t] = (how.kl_coef * kl_slope - slope) / size
    return loss, gradient, counts


# --- the code ------------------------------------------------------------------------------------


def loss_and_gradient(
    arrays: dict[str, jax.Array], *, how: LossSettings
) -> tuple[jax.Array, jax.Array, losses.GrpoSums]:
    weights_BT = token_weights(
        arrays["sampled"],
        how.aggregation,
        constant_tokens=how.constant_tokens,
        prompt_tokens_B=arrays.get("prompt_tokens"),
    )
    advantages_BT = jnp.broadcast_to(arrays["advantages"][:, None], weights_BT.shape)
    reference = arrays["reference"] if how.kl_coef else None
    inputs = losses.TokenInputs(arrays["old"], reference, advantages_BT, weights_BT)
    if how.has_importance:
        inputs = losses.add_importance(inputs, arrays["sampler"], how)
    if how.surrogate == "gspo":
        inputs = losses.add_sequence_ratio(inputs, arrays["new"])

    def loss(logprobs_BT: jax.Array) -> jax.Array:
        return losses.grpo_token_loss(logprobs_BT, *inputs, settings=how).sum()

    value, gradient = jax.value_and_grad(loss)(arrays["new"])
    return value, gradient, losses.grpo_sums(arrays["new"], *inputs, settings=how)


def to_arrays(case: Case) -> dict[str, jax.Array]:
    """Log-probabilities as the trainer has them; anything may stand where nothing was sampled."""
    arrays = {name: np.log(getattr(case, name)) for name in ("new", "old", "sampler", "reference")}
    for name, value in arrays.items():
        value[~case.sampled] = -77.0 if name == "new" else np.inf
    arrays |= {"advantages": case.advantages}
    return {name: jnp.asarray(value, jnp.float32) for name, value in arrays.items()} | {
        "sampled": jnp.asarray(case.sampled)
    }


ALL_FORMS = [
    pytest.param(LossSettings(**surrogate, **weights), id=f"{name}-{other}")
    for (name, surrogate), (other, weights) in itertools.product(
        SURROGATES.items(), IMPORTANCE.items()
    )
]


@pytest.mark.parametrize("how", ALL_FORMS)
def test_values_and_gradients_are_those_of_the_formula(how: LossSettings) -> None:
    for case in CASES.values():
        wanted, slopes, counts = loss_by_hand(case, how)
        loss, gradient, sums = loss_and_gradient(to_arrays(case), how=how)
        assert float(loss) == pytest.approx(wanted, rel=1e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-6)
        assert not np.asarray(gradient)[~case.sampled].any()
        assert float(sums.surrogate) == pytest.approx(-wanted, rel=1e-5)
        assert float(sums.clipped) == counts["clipped"]
        if how.has_importance:
            assert sums.importance is not None and sums.importance_limited is not None
            assert float(sums.importance) == pytest.approx(counts["importance"], rel=1e-5)
            assert float(sums.importance_limited) == counts["importance_limited"]


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_kl_term_is_that_of_the_formula(estimator: Any) -> None:
    how = LossSettings(kl_coef=0.3, kl_estimator=estimator)
    for case in CASES.values():
        wanted, slopes, _ = loss_by_hand(case, how)
        loss, gradient, sums = loss_and_gradient(to_arrays(case), how=how)
        assert float(loss) == pytest.approx(wanted, rel=1e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-6)
        assert 0.3 * float(sums.kl) - float(sums.surrogate) == pytest.approx(wanted, rel=1e-5)


def test_the_cases_have_what_they_are_for() -> None:
    """Numbers that were worked out on paper, for the formulas above as much as for the code."""
    row = [token_by_hand(n, o, 2.0, LossSettings(clip_high=0.28))
           for n, o in zip(NEW[0], OLD[0], strict=True)]  # fmt: skip
    # Ratios 3, 1.1, 4, 0.8 of a good row: the large ones count 1.28 and have no gradient.
    assert row == [
        (2.56, 0.0, True),
        (pytest.approx(2.2), pytest.approx(2.2), False),
        (2.56, 0.0, True),
        (pytest.approx(1.6), pytest.approx(1.6), False),
    ]
    # Ratios 1/3, 1/2, 0.7, 2.25 of a bad row: the small ones count 0.8, the last is unbounded.
    assert token_by_hand(0.3, 0.9, -1.0, LossSettings()) == (-0.8, 0.0, True)
    assert token_by_hand(0.9, 0.4, -1.0, LossSettings())[1] == pytest.approx(-2.25)
    assert token_by_hand(0.9, 0.4, -1.0, LossSettings(dual_clip=2.0)) == (-2.0, 0.0, False)
    # 3 x 1.1 x 4 x 0.8 = 10.56: the ratio of the sequence is its fourth root, 1.803.
    _, gradient, sums = loss_and_gradient(
        to_arrays(CASES["off_policy"]), how=LossSettings(**SURROGATES["gspo"])
    )
    assert not np.asarray(gradient)[:2].any() and float(sums.clipped) == 8
    # DPPO: 0.3 -> 0.9 of a good row left by 0.6; 0.02 -> 0.08 is four times as likely, and stays.
    dppo = LossSettings(**SURROGATES["dppo"])
    assert token_by_hand(0.9, 0.3, 2.0, dppo) == (0.0, 0.0, True)
    assert token_by_hand(0.08, 0.02, 2.0, dppo)[1] == pytest.approx(8.0)


@pytest.mark.parametrize("how", ALL_FORMS)
def test_where_trainer_and_sampler_agree_all_are_the_policy_gradient(how: LossSettings) -> None:
    case = CASES["on_policy"]._replace(sampled=SOME)
    _, gradient, sums = loss_and_gradient(to_arrays(case), how=how)
    length_B1 = np.maximum(SOME.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(gradient, -ADVANTAGES[:, None] * SOME / length_B1, rtol=1e-6)
    metrics = losses.grpo_metrics(sums, how)
    assert metrics["ratio_mean"] == 1.0 and metrics["clip_fraction"] == 0.0
    assert metrics.get("importance_mean", 1.0) == 1.0
    fractions = [value for name, value in metrics.items() if name.endswith("_fraction")]
    assert fractions and not any(fractions)


@pytest.mark.parametrize("how", ALL_FORMS)
def test_no_advantage_is_no_gradient_at_all(how: LossSettings) -> None:
    for case in CASES.values():
        equal = case._replace(advantages=np.zeros(3))
        loss, gradient, _ = loss_and_gradient(to_arrays(equal), how=how)
        assert float(loss) == 0.0 and not np.asarray(gradient).any()


def test_metrics_of_a_form_are_there_with_it() -> None:
    arrays = to_arrays(CASES["off_policy"])

    def metrics(**form: Any) -> dict[str, float]:
        how = LossSettings(**form)
        return losses.grpo_metrics(loss_and_gradient(arrays, how=how)[2], how)

    plain = metrics()
    assert not {name for name in plain if name.startswith(("importance", "dual", "kl"))}
    assert metrics(dual_clip=2.0)["dual_clip_fraction"] == pytest.approx(1 / 12)
    truncated = metrics(**IMPORTANCE["truncate"])
    # 3.0 and 2.5 are above 2.
    assert truncated["importance_truncated_fraction"] == pytest.approx(2 / 12)
    assert truncated["importance_mean"] == pytest.approx(15.6 / 12)
    masked = metrics(**IMPORTANCE["mask"])
    # 3, 0.3, 1.5, 0.4, 2.5, 1.2 and 1.9 are outside 0.7 to 1.12.
    assert masked["importance_masked_fraction"] == pytest.approx(7 / 12)
    assert masked.keys() - plain.keys() == {"importance_mean", "importance_masked_fraction"}


# --- aggregation ---------------------------------------------------------------------------------

# Rows 0 and 1 answer one question with 4 and 2 tokens, row 2 another with 1; row 3 is padding.
LENGTHS = np.array([4, 2, 1, 0])
RAGGED = np.arange(4) < LENGTHS[:, None]
PROMPT_TOKENS = np.array([6.0, 6.0, 1.0, 0.0])
AGGREGATIONS: dict[str, tuple[dict[str, Any], list[float], float]] = {
    "sequence_mean": ({}, [1 / 4, 1 / 2, 1], 3),
    "token_mean": ({}, [1, 1, 1], 7),
    "prompt_mean": ({}, [1 / 6, 1 / 6, 1], 2),
    "constant": ({"constant_tokens": 5}, [1 / 5, 1 / 5, 1 / 5], 3),
}


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("surrogate", ["clip", "gspo"])
def test_aggregations_by_hand(name: Any, surrogate: Any) -> None:
    settings, weights, divisor = AGGREGATIONS[name]
    how = LossSettings(surrogate=surrogate, aggregation=name, **settings)
    probabilities = np.full((4, 4), 0.5)
    advantages = np.array([1.0, -2.0, 3.0, 9.0])
    case = Case(*[probabilities] * 4, advantages, RAGGED)
    arrays = to_arrays(case) | {"prompt_tokens": jnp.asarray(PROMPT_TOKENS, jnp.float32)}
    _, gradient, sums = loss_and_gradient(arrays, how=how)
    wanted = -np.array([*weights, 0.0])[:, None] * advantages[:, None] * RAGGED
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6)
    assert float(losses.denominator(sums, how)) == pytest.approx(divisor)
    # On-policy: the objective is the mean advantage, each row with its weight.
    mean = sum(w * n * a for w, n, a in zip(weights, LENGTHS, advantages, strict=False)) / divisor
    assert losses.grpo_metrics(sums, how)["surrogate"] == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_sums_of_parts_are_those_of_the_whole(name: Any) -> None:
    how = LossSettings(aggregation=name, kl_coef=0.1, **AGGREGATIONS[name][0])
    rng = np.random.default_rng(0)
    case = Case(*rng.uniform(0.1, 0.9, (4, 4, 4)), rng.normal(size=4), RAGGED)
    arrays = to_arrays(case) | {"prompt_tokens": jnp.asarray(PROMPT_TOKENS, jnp.float32)}
    _, gradient, sums = loss_and_gradient(arrays, how=how)
    for size in (2, 1):
        parts = [
            loss_and_gradient({name: x[i : i + size] for name, x in arrays.items()}, how=how)
            for i in range(0, 4, size)
        ]
        joined = jnp.concatenate([part[1] for part in parts])
        np.testing.assert_allclose(joined, gradient, rtol=1e-6)
        added = jax.tree.map(lambda *values: sum(values), *[part[2] for part in parts])
        for one, other in zip(jax.tree.leaves(added), jax.tree.leaves(sums), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
