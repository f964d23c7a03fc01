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
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement
from r1ci_jax.train import losses
from r1ci_jax.train import train_state as state
from r1ci_jax.train.lm_head import TokenScores
from r1ci_jax.train.policy import Params, Policy


class Microbatch(NamedTuple):
    """Some trajectories of a step, padded on the right; a row of padding has no sampled token."""

    tokens_BT: jax.Array
    sampled_BT: jax.Array
    """True where the policy chose the token."""
    old_logprobs_BT: jax.Array
    """Log-probabilities that the ratio starts from: recorded while sampling, or computed again."""
    on_policy_BT: jax.Array
    """True where the policy chose the token under the weights of this step."""
    advantages_B: jax.Array


class GradAccumulator(NamedTuple):
    """What micro-batches add up to."""

    gradients: Params
    grpo: losses.GrpoSums
    entropy: jax.Array


class LogprobDiff(NamedTuple):
    """How far trainer and sampler differ on tokens that both saw under the same weights."""

    total: jax.Array
    """Of |trainer - sampler| log-probability."""
    tokens: jax.Array
    max: jax.Array


@jax.jit
def zero_accumulator(params: Params) -> GradAccumulator:
    """The total of no micro-batch at all."""
    zero = jnp.float32(0.0)
    gradients = placement.constrain_like_params(jax.tree.map(jnp.zeros_like, params))
    return GradAccumulator(gradients, losses.GrpoSums(*[zero] * len(losses.GrpoSums._fields)), zero)


@functools.partial(jax.jit, static_argnames=("policy", "config"), donate_argnames=("accumulator",))
def accumulate_gradients(
    accumulator: GradAccumulator,
    params: Params,
    reference: Params,
    batch: Microbatch,
    frozen: Params | None = None,
    *,
    policy: Policy,
    config: GrpoConfig,
) -> tuple[GradAccumulator, LogprobDiff]:
    """The total with one more micro-batch; also the trainer-sampler difference on its tokens.

    With LoRA, `params` are the adapters and `frozen` the weights under them, which are then the
    `reference` as well.
    """
    sampled_BT, old_BT = batch.sampled_BT[:, 1:], batch.old_logprobs_BT[:, 1:]
    token_weights_BT = losses.token_weights(sampled_BT)
    rows = {
        "tokens_BT": batch.tokens_BT,
        "counted_BT": sampled_BT,
        "temperature": config.temperature,
    }
    advantages_BT = jnp.broadcast_to(batch.advantages_B[:, None], old_BT.shape)
    referred_BT = policy.logprobs_and_entropy(reference, **rows).logprobs_BT
    inputs = old_BT, referred_BT, advantages_BT, token_weights_BT
    clip = {"clip_low": config.clip_low, "clip_high": config.clip_high}

    def loss_sum(params: Params) -> tuple[jax.Array, TokenScores]:
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
    added = jax.tree.map(jnp.add, accumulator, GradAccumulator(gradients, sums, entropy))
    return placement.constrain_like_params(added), _logprob_diff(scores, batch)


@functools.partial(jax.jit, static_argnames=("policy", "config"))
def recompute_old_logprobs(
    params: Params,
    batch: Microbatch,
    frozen: Params | None = None,
    *,
    policy: Policy,
    config: GrpoConfig,
) -> tuple[Microbatch, LogprobDiff]:
    """The micro-batch with the trainer's own log-probabilities at fresh tokens; the difference."""
    scores = policy.logprobs_and_entropy(
        params,
        batch.tokens_BT,
        counted_BT=batch.on_policy_BT[:, 1:],
        frozen=frozen,
        temperature=config.temperature,
    )
    again_BT = jnp.pad(scores.logprobs_BT, ((0, 0), (1, 0)))
    old_logprobs_BT = jnp.where(batch.on_policy_BT, again_BT, batch.old_logprobs_BT)
    return batch._replace(old_logprobs_BT=old_logprobs_BT), _logprob_diff(scores, batch)


def _logprob_diff(scores: TokenScores, batch: Microbatch) -> LogprobDiff:
    on_policy_BT = batch.on_policy_BT[:, 1:]
    gap_BT = jnp.where(
        on_policy_BT, jnp.abs(scores.logprobs_BT - batch.old_logprobs_BT[:, 1:]), 0.0
    )
    return LogprobDiff(gap_BT.sum(), on_policy_BT.sum(dtype=jnp.float32), gap_BT.max())


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


def compute_advantages(trajectories: Sequence[Trajectory], config: GrpoConfig) -> np.ndarray:
    """Advantage of each trajectory within its question's group."""
    shape = (-1, config.rollouts_per_prompt)
    rewards_PR = np.asarray([t.reward for t in trajectories], np.float32).reshape(shape)
    valid_PR = np.asarray([t.is_valid for t in trajectories]).reshape(shape)
    return jax.device_get(losses.group_advantages(*placement.replicate((rewards_PR, valid_PR))))


def zero_advantage_fraction(advantages_PR: np.ndarray) -> float:
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
    parts = _split_minibatches(trajectories, advantages_PR, policy, config)
    gaps: list[LogprobDiff] = []
    if config.old_logprobs == "recompute":
        for part in parts:
            for number, batch in enumerate(part):
                part[number], gap = recompute_old_logprobs(
                    train_state.params, batch, frozen, policy=policy, config=config
                )
                gaps.append(gap)
    found = []
    for part in parts * config.num_iterations:
        total = zero_accumulator(train_state.params)
        for batch in part:
            total, gap = accumulate_gradients(
                total, train_state.params, reference, batch, frozen, policy=policy, config=config
            )
            if not found and config.old_logprobs == "rollout":
                gaps.append(gap)  # the weights are still those that sampled
        train_state, norm = apply_step(train_state, total.gradients, total.grpo.sequences, tx=tx)
        sums, entropy, norm = jax.device_get((total.grpo, total.entropy, norm))
        found.append(_step_metrics(sums, entropy, norm, config))
    means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    return train_state, means | _logprob_diff_metrics(jax.device_get(gaps))


def _split_minibatches(
    trajectories: Sequence[Trajectory],
    advantages_PR: np.ndarray,
    policy: Policy,
    config: GrpoConfig,
) -> list[list[Microbatch]]:
    """The micro-batches of each optimiser step of a pass; none for questions that all failed."""
    prompts = len(advantages_PR) // config.num_minibatches
    size = prompts * config.rollouts_per_prompt
    parts = [
        split_microbatches(
            trajectories[number * size : (number + 1) * size],
            advantages_PR[number * prompts : (number + 1) * prompts].reshape(-1),
            policy,
            config,
        )
        for number in range(config.num_minibatches)
    ]
    parts = [part for part in parts if part]
    if not parts:
        raise UserError(
            "the sandbox failed in every trajectory of a step; run `r1ci sandbox doctor`, then the "
            "same command again: it resumes"
        )
    return parts


def _step_metrics(
    sums: losses.GrpoSums, entropy: np.ndarray, norm: np.ndarray, config: GrpoConfig
) -> dict[str, float]:
    means = losses.grpo_metrics(sums, kl_coef=config.kl_coef)
    return {
        **{f"optim/{key}": value for key, value in means.items()},
        "optim/grad_norm": float(norm),
        "optim/entropy": float(entropy) / max(float(sums.tokens), 1.0),
    }


def _logprob_diff_metrics(gaps: Sequence[LogprobDiff]) -> dict[str, float]:
    fresh = float(sum(gap.tokens for gap in gaps))
    if not fresh:
        return {}
    return {
        "check/sampler_trainer_logprob_diff": float(sum(gap.total for gap in gaps)) / fresh,
        "check/sampler_trainer_logprob_diff_max": float(max(gap.max for gap in gaps)),
    }


def warm_up(
    params: Params, reference: Params, frozen: Params | None, policy: Policy, config: GrpoConfig
) -> None:
    """Compile the update for every row length, on rows of padding."""
    for length in config.sequence_lengths:
        batch = _pad(
            [],
            (config.microbatch_rows(length, meshes.num_batch_shards(meshes.current())), length),
            policy,
        )
        if config.old_logprobs == "recompute":
            batch, _ = recompute_old_logprobs(params, batch, frozen, policy=policy, config=config)
        jax.block_until_ready(
            accumulate_gradients(
                zero_accumulator(params),
                params,
                reference,
                batch,
                frozen,
                policy=policy,
                config=config,
            )
        )


def split_microbatches(
    trajectories: Sequence[Trajectory],
    advantages: np.ndarray,
    policy: Policy,
    config: GrpoConfig,
) -> list[Microbatch]:
    """Valid trajectories from the longest down, padded to a configured length.

    Long rows go together, so that most micro-batches are short and have many rows; the loss is a
    sum, so the order does not matter.
    """
    pairs = [pair for pair in zip(trajectories, advantages, strict=True) if pair[0].is_valid]
    pairs.sort(key=lambda pair: (-len(pair[0].tokens), pair[0].rollout_id))
    batches = []
    while pairs:
        longest = len(pairs[0][0].tokens)
        length = next(size for size in config.sequence_lengths if size >= longest)
        rows = config.microbatch_rows(length, meshes.num_batch_shards(meshes.current()))
        batches.append(_pad(pairs[:rows], (rows, length), policy))
        pairs = pairs[rows:]
    return batches


def _pad(
    members: Sequence[tuple[Trajectory, float]], shape: tuple[int, int], policy: Policy
) -> Microbatch:
    tokens_BT = np.full(shape, policy.tokenizer.pad_id, np.int32)
    sampled_BT = np.zeros(shape, bool)
    old_logprobs_BT = np.zeros(shape, np.float32)
    on_policy_BT = np.zeros(shape, bool)
    advantages_B = np.zeros(shape[0], np.float32)
    for number, (trajectory, advantage) in enumerate(members):
        size = len(trajectory.tokens)
        tokens_BT[number, :size] = trajectory.tokens
        sampled_BT[number, :size] = trajectory.sampled
        old_logprobs_BT[number, :size] = trajectory.logprobs
        on_policy_BT[number, trajectory.num_stale_tokens : size] = trajectory.sampled[
            trajectory.num_stale_tokens :
        ]
        advantages_B[number] = advantage
    arrays = placement.shard_batch(
        (tokens_BT, sampled_BT, old_logprobs_BT, on_policy_BT, advantages_B)
    )
    return Microbatch(*arrays)
