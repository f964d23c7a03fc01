"""One step of GRPO on a batch of trajectories: log-probabilities, gradients, optimizer steps.

Microbatches are counted in tokens and their gradients are summed before anything is divided, so
neither their size nor their order changes an update. A batch may give several updates: one for
each of `num_minibatches` parts of its prompts, `num_iterations` times.

Jitted functions here take a policy, plain numbers and `LossSettings` as static arguments, never a
whole config: a setting that does not change the program does not compile it again.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.config import GrpoConfig
from r1ci_jax.rollout import group_selection
from r1ci_jax.rollout.diagnostics.token_sums import RowSums
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.sharding import placement
from r1ci_jax.train import losses
from r1ci_jax.train import train_state as state
from r1ci_jax.train.lm_head import TokenScores
from r1ci_jax.train.microbatching import Microbatch
from r1ci_jax.train.objective import aggregation, logprob_diff
from r1ci_jax.train.objective.advantages import group_advantages
from r1ci_jax.train.objective.logprob_diff import LogprobDiff
from r1ci_jax.train.objective.loss_settings import LossSettings
from r1ci_jax.train.policy import Params, Policy, Weights


class GradAccumulator(NamedTuple):
    """Sums over microbatches."""

    gradients: Params
    sums: losses.GrpoSums
    entropy: jax.Array


class MicrobatchStats(NamedTuple):
    """Measurements of one microbatch that are not added up on the device."""

    diff: LogprobDiff
    rows: RowSums


class UpdateStats(NamedTuple):
    """Measurements of one optimizer step, on devices until they are fetched."""

    sums: losses.GrpoSums
    entropy: jax.Array
    grad_norm: jax.Array
    rows: list[RowSums]
    """One per microbatch."""


@functools.partial(jax.jit, static_argnames=("settings",))
def zero_accumulator(params: Params, settings: LossSettings) -> GradAccumulator:
    """Start a sum over microbatches."""
    zero = jnp.float32(0.0)
    gradients = placement.constrain_like_params(jax.tree.map(jnp.zeros_like, params))
    return GradAccumulator(gradients, losses.GrpoSums.filled(zero, settings), zero)


@functools.partial(
    jax.jit,
    static_argnames=("policy", "temperature", "settings"),
    donate_argnames=("accumulator",),
)
def accumulate_gradients(
    accumulator: GradAccumulator,
    weights: Weights,
    batch: Microbatch,
    *,
    policy: Policy,
    temperature: float,
    settings: LossSettings,
) -> tuple[GradAccumulator, MicrobatchStats]:
    """Add one microbatch; also measure the trainer-sampler difference on its tokens, and rows.

    One without a gradient adds to the sums alone, and costs no backward pass.
    """
    inputs = _token_inputs(batch, settings)
    complete_inputs = None
    if settings.surrogate == "gspo":
        complete_inputs = functools.partial(losses.add_sequence_ratio, inputs)

    def loss_sum(trainable: Params) -> tuple[jax.Array, TokenScores]:
        return policy.loss(
            functools.partial(losses.grpo_token_loss, settings=settings),
            Weights(trainable, weights.base),
            batch.tokens_BT,
            mask_BT=batch.sampled_BT[:, 1:],
            inputs=inputs,
            complete_inputs=complete_inputs,
            temperature=temperature,
        )

    if batch.has_gradient:
        gradients, scores = jax.grad(loss_sum, has_aux=True)(weights.trainable)
        gradients = jax.tree.map(jnp.add, accumulator.gradients, gradients)
    else:
        gradients = accumulator.gradients
        scores = policy.logprobs_and_entropy(
            weights,
            batch.tokens_BT,
            mask_BT=batch.sampled_BT[:, 1:],
            temperature=temperature,
        )
    if complete_inputs is not None:
        inputs = complete_inputs(scores.logprobs_BT)
    sums = losses.grpo_sums(scores.logprobs_BT, *inputs, settings=settings)
    entropy = jnp.sum(scores.entropy_BT)
    added = GradAccumulator(
        gradients, jax.tree.map(jnp.add, accumulator.sums, sums), accumulator.entropy + entropy
    )
    rows = losses.grpo_row_sums(
        batch.index_B, scores.entropy_BT, scores.logprobs_BT, inputs, settings
    )
    stats = MicrobatchStats(_logprob_diff(scores, batch), placement.constrain_replicated(rows))
    return placement.constrain_like_params(added), stats


def _token_inputs(batch: Microbatch, settings: LossSettings) -> losses.TokenInputs:
    """Make what the loss reads at every token but the first."""
    sampled_BT, old_BT = batch.sampled_BT[:, 1:], batch.old_logprobs_BT[:, 1:]
    ref_BT = None if batch.ref_logprobs_BT is None else batch.ref_logprobs_BT[:, 1:]
    token_weights_BT = aggregation.token_weights(
        sampled_BT,
        settings.aggregation,
        constant_tokens=settings.constant_tokens,
        prompt_tokens_B=batch.prompt_tokens_B,
    )
    if batch.advantages_BT is not None:
        advantages_BT = batch.advantages_BT[:, 1:]
    elif batch.advantages_B is not None:
        advantages_BT = jnp.broadcast_to(batch.advantages_B[:, None], old_BT.shape)
    else:
        advantages_BT = jnp.zeros_like(old_BT)
    inputs = losses.TokenInputs(old_BT, ref_BT, advantages_BT, token_weights_BT)
    if not settings.has_importance:
        return inputs
    assert batch.sampler_logprobs_BT is not None, "importance weights need the sampler's"
    return losses.add_importance(inputs, batch.sampler_logprobs_BT[:, 1:], settings)


@functools.partial(jax.jit, static_argnames=("policy", "temperature"))
def compute_ref_logprobs(
    reference: Weights, batch: Microbatch, *, policy: Policy, temperature: float
) -> Microbatch:
    """Add the reference's log-probabilities of the sampled tokens to a microbatch."""
    scores = policy.logprobs_and_entropy(
        reference, batch.tokens_BT, mask_BT=batch.sampled_BT[:, 1:], temperature=temperature
    )
    return batch._replace(ref_logprobs_BT=_pad_first(scores.logprobs_BT))


@functools.partial(
    jax.jit, static_argnames=("policy", "temperature", "of_stale_tokens", "has_importance")
)
def recompute_old_logprobs(
    weights: Weights,
    batch: Microbatch,
    *,
    policy: Policy,
    temperature: float,
    of_stale_tokens: bool = False,
    has_importance: bool = False,
) -> tuple[Microbatch, LogprobDiff]:
    """Replace the sampler's log-probabilities of on-policy tokens by the trainer's own.

    Stale tokens keep what the sampler recorded, as the weights that sampled them are gone; unless
    `of_stale_tokens`, for the decoupled objective. With `has_importance` what the sampler recorded
    is kept as well.
    """
    replaced_BT = batch.sampled_BT if of_stale_tokens else batch.on_policy_BT
    scores = policy.logprobs_and_entropy(
        weights, batch.tokens_BT, mask_BT=replaced_BT[:, 1:], temperature=temperature
    )
    recomputed_BT = _pad_first(scores.logprobs_BT)
    completed = batch._replace(
        old_logprobs_BT=jnp.where(replaced_BT, recomputed_BT, batch.old_logprobs_BT),
        sampler_logprobs_BT=batch.old_logprobs_BT if has_importance else None,
    )
    return completed, _logprob_diff(scores, batch)


def _pad_first(logprobs_BT: jax.Array) -> jax.Array:
    """Align [B, T-1] values of all tokens but the first with the tokens."""
    return jnp.pad(logprobs_BT, ((0, 0), (1, 0)))


def _logprob_diff(scores: TokenScores, batch: Microbatch) -> LogprobDiff:
    recorded_BT, on_policy_BT = batch.old_logprobs_BT[:, 1:], batch.on_policy_BT[:, 1:]
    return logprob_diff.measure(scores.logprobs_BT, recorded_BT, on_policy_BT)


@functools.partial(jax.jit, static_argnames=("tx",), donate_argnames=("train_state",))
def apply_step(
    train_state: state.TrainState,
    gradients: Params,
    denominator: jax.Array,
    *,
    tx: optax.GradientTransformation,
) -> tuple[state.TrainState, jax.Array]:
    """Divide summed gradients by `losses.denominator` and apply them; return their norm."""
    gradients = jax.tree.map(lambda gradient: gradient / jnp.maximum(denominator, 1.0), gradients)
    return state.apply_gradients(train_state, gradients, tx), optax.tree.norm(gradients)


def compute_advantages(
    trajectories: Sequence[Trajectory], config: GrpoConfig, kl: np.ndarray | None = None
) -> np.ndarray:
    """Compute the advantage of each trajectory within its group; 0 where it carries no loss.

    `kl`, a result of `kl_reward.compute_kl`, is subtracted from the rewards with weight `kl_coef`.
    Fewer groups than a step wants are filled up with void ones, so that no other shape is compiled.
    """
    count, members = len(trajectories), config.rollouts_per_prompt
    shape = (max(count // members, config.prompts_per_step), members)
    rewards_PR, valid_PR = np.zeros(shape, np.float32), np.zeros(shape, bool)
    rewards_PR.flat[:count] = [t.reward for t in trajectories]
    valid_PR.flat[:count] = [
        group_selection.counts_in_baseline(t, config.signal) for t in trajectories
    ]
    if kl is not None:
        rewards_PR.flat[:count] -= np.float32(config.kl_coef) * kl
    advantages_PR = group_advantages(
        *placement.replicate((rewards_PR, valid_PR)),
        scale=config.objective.advantage_scale,
        leave_one_out=config.objective.leave_one_out,
    )
    carries_loss_PR = np.asarray([t.carries_loss for t in trajectories], bool).reshape(-1, members)
    return np.where(carries_loss_PR, jax.device_get(advantages_PR)[: count // members], 0.0)


def zero_advantage_fraction(advantages_PR: np.ndarray) -> float:
    """Return the fraction of groups without a gradient: rewards all equal, or no valid member."""
    return float((advantages_PR == 0).all(axis=1).mean())


def update(
    train_state: state.TrainState,
    base: Params | None,
    reference: Weights | None,
    minibatches: Sequence[Sequence[Microbatch]],
    policy: Policy,
    config: GrpoConfig,
    tx: optax.GradientTransformation,
) -> tuple[state.TrainState, dict[str, float], list[RowSums]]:
    """Make the optimizer steps of one batch: every minibatch, `num_iterations` times.

    Metrics are means over these steps; trainer and sampler are compared before the first. They
    and the sums of every row, one `RowSums` per microbatch and step, are fetched once, after all
    steps are dispatched. A batch without a minibatch changes nothing.

    Args:
        train_state: The state before; it is donated.
        base: Frozen weights under LoRA adapters, or None.
        reference: Weights of the reference policy; None without a KL term.
        minibatches: Result of `microbatching.make_minibatches`.
        policy: Static part of the policy.
        config: Settings of GRPO.
        tx: Optimizer.
    """
    if not minibatches:
        return train_state, {}, []
    # The weights of this point are those that sampled: both sets of log-probabilities are computed
    # here, once, and serve all iterations.
    minibatches, diffs = _add_logprobs(
        minibatches, Weights(train_state.params, base), reference, policy, config
    )
    settings, dispatched = LossSettings.of(config), []
    for minibatch in [*minibatches] * config.num_iterations:
        train_state, stats, found = _optimizer_step(
            train_state, base, minibatch, policy, config, tx
        )
        if not dispatched and config.old_logprobs == "rollout":
            diffs += found
        dispatched.append(stats)
    fetched, diffs = jax.device_get((dispatched, diffs))
    steps = [_step_metrics(stats, settings) for stats in fetched]
    means = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
    rows = [each for stats in fetched for each in stats.rows]
    return train_state, means | logprob_diff.metrics(diffs), rows


def _optimizer_step(
    train_state: state.TrainState,
    base: Params | None,
    minibatch: Sequence[Microbatch],
    policy: Policy,
    config: GrpoConfig,
    tx: optax.GradientTransformation,
) -> tuple[state.TrainState, UpdateStats, list[LogprobDiff]]:
    """Make one optimizer step; the sum of the gradients is freed when it returns."""
    settings = LossSettings.of(config)
    total, diffs, rows = zero_accumulator(train_state.params, settings), [], []
    for batch in minibatch:
        weights = Weights(train_state.params, base)
        total, stats = accumulate_gradients(
            total, weights, batch, policy=policy, temperature=config.temperature, settings=settings
        )
        diffs.append(stats.diff)
        rows.append(stats.rows)
    denominator = losses.denominator(total.sums, settings)
    train_state, norm = apply_step(train_state, total.gradients, denominator, tx=tx)
    return train_state, UpdateStats(total.sums, total.entropy, norm, rows), diffs


def _add_logprobs(
    minibatches: Sequence[Sequence[Microbatch]],
    weights: Weights,
    reference: Weights | None,
    policy: Policy,
    config: GrpoConfig,
) -> tuple[list[list[Microbatch]], list[LogprobDiff]]:
    """Complete microbatches by the log-probabilities that the loss compares the policy with."""
    settings: dict[str, Any] = {"policy": policy, "temperature": config.temperature}
    wanted = LossSettings.of(config)
    is_decoupled = config.old_logprobs == "decoupled"
    recomputed = {"of_stale_tokens": is_decoupled, "has_importance": wanted.has_importance}
    recomputed |= settings
    completed = [list(minibatch) for minibatch in minibatches]
    diffs: list[LogprobDiff] = []
    for minibatch in completed:
        for number, batch in enumerate(minibatch):
            if reference is not None and wanted.kl_coef:
                batch = compute_ref_logprobs(reference, batch, **settings)
            if config.old_logprobs != "rollout":
                batch, diff = recompute_old_logprobs(weights, batch, **recomputed)
                diffs.append(diff)
            minibatch[number] = batch
    return completed, diffs


def _step_metrics(stats: UpdateStats, settings: LossSettings) -> dict[str, float]:
    means = losses.grpo_metrics(stats.sums, settings)
    return {
        **{f"optim/{key}": value for key, value in means.items()},
        "optim/grad_norm": float(stats.grad_norm),
        "optim/entropy": float(stats.entropy) / max(float(stats.sums.tokens), 1.0),
    }


def warm_up(
    weights: Weights,
    reference: Weights | None,
    policy: Policy,
    config: GrpoConfig,
    batches: Sequence[Microbatch],
) -> None:
    """Compile the update for every row length, on `batches` of padding."""
    settings = LossSettings.of(config)
    how: dict[str, Any] = {"temperature": config.temperature, "settings": settings}
    for empty in batches:
        [[batch]], _ = _add_logprobs([[empty]], weights, reference, policy, config)
        total = zero_accumulator(weights.trainable, settings)
        jax.block_until_ready(accumulate_gradients(total, weights, batch, policy=policy, **how))
