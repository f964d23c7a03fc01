"""One step of GRPO on a batch of trajectories: micro-batches, gradients, optimiser steps.

Micro-batches are counted in tokens, and what they give is summed before anything is divided, so
that neither their size nor their order changes an update. A batch may give several updates: each of
`minibatches` parts of its questions, `passes` times.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.config import GrpoConfig
from r1ci_jax.errors import UserError
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.train import losses
from r1ci_jax.train import train_state as state
from r1ci_jax.train.lm_head import Scores
from r1ci_jax.train.policy import Params, Policy


class MicroBatch(NamedTuple):
    """Some trajectories of a step, padded on the right; a row of padding has no sampled token."""

    tokens_BT: jax.Array
    sampled_BT: jax.Array
    """True where the policy chose the token."""
    behaviour_BT: jax.Array
    """Log-probabilities that the ratio starts from: recorded while sampling, or computed again."""
    fresh_BT: jax.Array
    """True where the policy chose the token under the weights of this step."""
    advantages_B: jax.Array


class Total(NamedTuple):
    """What micro-batches add up to."""

    gradients: Params
    grpo: losses.GrpoSums
    entropy: jax.Array


class Gap(NamedTuple):
    """How far trainer and sampler differ on tokens that both saw under the same weights."""

    total: jax.Array
    """Of |trainer - sampler| log-probability."""
    tokens: jax.Array
    largest: jax.Array


@jax.jit
def nothing(params: Params) -> Total:
    """The total of no micro-batch at all."""
    zero = jnp.float32(0.0)
    gradients = state.like_parameters(jax.tree.map(jnp.zeros_like, params))
    return Total(gradients, losses.GrpoSums(*[zero] * len(losses.GrpoSums._fields)), zero)


@functools.partial(jax.jit, static_argnames=("policy", "config"), donate_argnames=("total",))
def add_gradients(
    total: Total,
    params: Params,
    reference: Params,
    batch: MicroBatch,
    frozen: Params | None = None,
    *,
    policy: Policy,
    config: GrpoConfig,
) -> tuple[Total, Gap]:
    """The total with one more micro-batch; also the trainer-sampler difference on its tokens.

    With LoRA, `params` are the adapters and `frozen` the weights under them, which are then the
    `reference` as well.
    """
    sampled_BT, old_BT = batch.sampled_BT[:, 1:], batch.behaviour_BT[:, 1:]
    shares_BT = losses.shares(sampled_BT)
    rows = {
        "tokens_BT": batch.tokens_BT,
        "counted_BT": sampled_BT,
        "temperature": config.temperature,
    }
    advantages_BT = jnp.broadcast_to(batch.advantages_B[:, None], old_BT.shape)
    referred_BT = policy.scores(reference, **rows).logprobs_BT
    inputs = old_BT, referred_BT, advantages_BT, shares_BT
    clip = {"clip_low": config.clip_low, "clip_high": config.clip_high}

    def loss_sum(params: Params) -> tuple[jax.Array, Scores]:
        return policy.loss(
            functools.partial(losses.grpo_token_loss, kl_coef=config.kl_coef, **clip),
            params,
            **rows,
            inputs=inputs,
            frozen=frozen,
        )

    gradients, scores = jax.grad(loss_sum, has_aux=True)(params)
    sums = losses.grpo_sums(scores.logprobs_BT, *inputs, **clip)
    entropy = jnp.sum(scores.entropy_BT)
    added = jax.tree.map(jnp.add, total, Total(gradients, sums, entropy))
    return state.like_parameters(added), _gap(scores, batch)


@functools.partial(jax.jit, static_argnames=("policy", "config"))
def score_again(
    params: Params,
    batch: MicroBatch,
    frozen: Params | None = None,
    *,
    policy: Policy,
    config: GrpoConfig,
) -> tuple[MicroBatch, Gap]:
    """The micro-batch with the trainer's own log-probabilities at fresh tokens; the difference."""
    scores = policy.scores(
        params,
        batch.tokens_BT,
        counted_BT=batch.fresh_BT[:, 1:],
        frozen=frozen,
        temperature=config.temperature,
    )
    again_BT = jnp.pad(scores.logprobs_BT, ((0, 0), (1, 0)))
    behaviour_BT = jnp.where(batch.fresh_BT, again_BT, batch.behaviour_BT)
    return batch._replace(behaviour_BT=behaviour_BT), _gap(scores, batch)


def _gap(scores: Scores, batch: MicroBatch) -> Gap:
    fresh_BT = batch.fresh_BT[:, 1:]
    gap_BT = jnp.where(fresh_BT, jnp.abs(scores.logprobs_BT - batch.behaviour_BT[:, 1:]), 0.0)
    return Gap(gap_BT.sum(), fresh_BT.sum(dtype=jnp.float32), gap_BT.max())


@functools.partial(jax.jit, static_argnames=("tx",), donate_argnames=("train_state",))
def apply_step(
    train_state: state.TrainState,
    gradients: Params,
    sequences: jax.Array,
    *,
    tx: optax.GradientTransformation,
) -> tuple[state.TrainState, jax.Array]:
    """Divide the summed gradients by the number of trajectories and move; also their norm."""
    gradients = jax.tree.map(lambda gradient: gradient / jnp.maximum(sequences, 1.0), gradients)
    return state.apply_gradients(train_state, gradients, tx), optax.tree.norm(gradients)


def relative_advantages(trajectories: Sequence[Trajectory], config: GrpoConfig) -> np.ndarray:
    """Advantage of each trajectory within its question's group."""
    shape = (-1, config.rollouts_per_prompt)
    rewards_PR = np.asarray([t.reward for t in trajectories], np.float32).reshape(shape)
    valid_PR = np.asarray([t.is_valid for t in trajectories]).reshape(shape)
    return jax.device_get(losses.group_advantages(*state.place_whole((rewards_PR, valid_PR))))


def flat_fraction(advantages_PR: np.ndarray) -> float:
    """Share of the questions whose answers teach nothing: all equally good, or none valid."""
    return float((advantages_PR == 0).all(axis=1).mean())


def update(
    train_state: state.TrainState,
    reference: Params,
    trajectories: Sequence[Trajectory],
    advantages_PR: np.ndarray,
    policy: Policy,
    config: GrpoConfig,
    tx: optax.GradientTransformation,
    frozen: Params | None = None,
) -> tuple[state.TrainState, dict[str, float]]:
    """The optimiser steps that one batch of trajectories gives: `minibatches` x `passes`.

    Returns means over these steps; what sampler and trainer differ by is measured before the first.
    """
    parts = _minibatches(trajectories, advantages_PR, policy, config)
    gaps: list[Gap] = []
    if config.behaviour == "recomputed":
        for part in parts:
            for number, batch in enumerate(part):
                part[number], gap = score_again(
                    train_state.params, batch, frozen, policy=policy, config=config
                )
                gaps.append(gap)
    found = []
    for part in parts * config.passes:
        total = nothing(train_state.params)
        for batch in part:
            total, gap = add_gradients(
                total, train_state.params, reference, batch, frozen, policy=policy, config=config
            )
            if not found and config.behaviour == "sampled":
                gaps.append(gap)  # the weights are still those that sampled
        train_state, norm = apply_step(train_state, total.gradients, total.grpo.sequences, tx=tx)
        sums, entropy, norm = jax.device_get((total.grpo, total.entropy, norm))
        found.append(_step_values(sums, entropy, norm, config))
    means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    return train_state, means | _gap_values(jax.device_get(gaps))


def _minibatches(
    trajectories: Sequence[Trajectory],
    advantages_PR: np.ndarray,
    policy: Policy,
    config: GrpoConfig,
) -> list[list[MicroBatch]]:
    """The micro-batches of each optimiser step of a pass; none for questions that all failed."""
    prompts = len(advantages_PR) // config.minibatches
    size = prompts * config.rollouts_per_prompt
    parts = [
        micro_batches(
            trajectories[number * size : (number + 1) * size],
            advantages_PR[number * prompts : (number + 1) * prompts].reshape(-1),
            policy,
            config,
        )
        for number in range(config.minibatches)
    ]
    parts = [part for part in parts if part]
    if not parts:
        raise UserError(
            "the sandbox failed in every trajectory of a step; run `r1ci sandbox doctor`, then the "
            "same command again: it resumes"
        )
    return parts


def _step_values(
    sums: losses.GrpoSums, entropy: np.ndarray, norm: np.ndarray, config: GrpoConfig
) -> dict[str, float]:
    means = losses.grpo_metrics(sums, kl_coef=config.kl_coef)
    return {
        **{f"optim/{key}": value for key, value in means.items()},
        "optim/grad_norm": float(norm),
        "optim/entropy": float(entropy) / max(float(sums.tokens), 1.0),
    }


def _gap_values(gaps: Sequence[Gap]) -> dict[str, float]:
    fresh = float(sum(gap.tokens for gap in gaps))
    if not fresh:
        return {}
    return {
        "check/sampler_trainer_logprob_diff": float(sum(gap.total for gap in gaps)) / fresh,
        "check/sampler_trainer_logprob_diff_max": float(max(gap.largest for gap in gaps)),
    }


def warm_up(
    params: Params, reference: Params, frozen: Params | None, policy: Policy, config: GrpoConfig
) -> None:
    """Compile the update for every row length, on rows of padding."""
    for length in config.sequence_lengths:
        batch = _pad([], (config.rows(length, state.batch_parts()), length), policy)
        if config.behaviour == "recomputed":
            batch, _ = score_again(params, batch, frozen, policy=policy, config=config)
        jax.block_until_ready(
            add_gradients(
                nothing(params), params, reference, batch, frozen, policy=policy, config=config
            )
        )


def micro_batches(
    trajectories: Sequence[Trajectory],
    advantages: np.ndarray,
    policy: Policy,
    config: GrpoConfig,
) -> list[MicroBatch]:
    """Valid trajectories from the longest down, padded to a configured length.

    Long rows go together, so that most micro-batches are short and have many rows; the loss is a
    sum, so the order does not matter.
    """
    pairs = [pair for pair in zip(trajectories, advantages, strict=True) if pair[0].is_valid]
    pairs.sort(key=lambda pair: (-len(pair[0].tokens), pair[0].rollout))
    batches = []
    while pairs:
        longest = len(pairs[0][0].tokens)
        length = next(size for size in config.sequence_lengths if size >= longest)
        rows = config.rows(length, state.batch_parts())
        batches.append(_pad(pairs[:rows], (rows, length), policy))
        pairs = pairs[rows:]
    return batches


def _pad(
    members: Sequence[tuple[Trajectory, float]], shape: tuple[int, int], policy: Policy
) -> MicroBatch:
    tokens_BT = np.full(shape, policy.tokenizer.pad_id, np.int32)
    sampled_BT = np.zeros(shape, bool)
    behaviour_BT = np.zeros(shape, np.float32)
    fresh_BT = np.zeros(shape, bool)
    advantages_B = np.zeros(shape[0], np.float32)
    for number, (trajectory, advantage) in enumerate(members):
        size = len(trajectory.tokens)
        tokens_BT[number, :size] = trajectory.tokens
        sampled_BT[number, :size] = trajectory.sampled
        behaviour_BT[number, :size] = trajectory.logprobs
        fresh_BT[number, trajectory.stale : size] = trajectory.sampled[trajectory.stale :]
        advantages_B[number] = advantage
    arrays = state.place_batch((tokens_BT, sampled_BT, behaviour_BT, fresh_BT, advantages_B))
    return MicroBatch(*arrays)
