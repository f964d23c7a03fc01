"""The KL divergence from the reference as a part of the reward, for `grpo.objective.kl_in`.

It is the sum over a trajectory's sampled tokens, because the objective (paper section 5) is
E[reward] - kl_coef KL(policy || reference) of whole trajectories, and with k1 the sum is
log policy(y) / reference(y): a mean would let long trajectories drift further for nothing. The
policy is the one that sampled, by the log-probabilities recorded then, however old. Groups are
compared after the subtraction.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from r1ci_jax.config import GrpoConfig
from r1ci_jax.grpo_config import KlEstimator
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.train import grpo_step, microbatching
from r1ci_jax.train.objective.divergence import estimate_kl
from r1ci_jax.train.policy import Policy, Weights


def compute_kl(
    trajectories: Sequence[Trajectory],
    reference: Weights | None,
    policy: Policy,
    config: GrpoConfig,
    pad_id: int,
) -> np.ndarray | None:
    """Estimate the divergence of each trajectory of a step, in nats.

    Returns:
        One number per trajectory, 0 for those that are not valid; None unless the KL is in the
        reward, where the loss has it or nothing does.
    """
    if reference is None or config.objective.kl_in != "reward":
        return None
    # Nobody chose the tokens of an observation: they come with the same probability whatever the
    # policy is, and add nothing to the divergence, also where they are learned.
    config = dataclasses.replace(config, learn_observations=False)
    # A masked one may count in the baseline, and is then compared like the others.
    trajectories = [dataclasses.replace(each, is_masked=False) for each in trajectories]
    found = np.zeros(len(trajectories), np.float32)
    no_advantages = np.zeros(len(trajectories), np.float32)
    batches = microbatching.split_microbatches(trajectories, no_advantages, config, pad_id)
    dispatched = [_score_rows(batch, reference, policy, config) for batch in batches]
    for index_B, kl_B in jax.device_get(dispatched):
        is_row_B = index_B >= 0
        found[index_B[is_row_B]] = kl_B[is_row_B]
    return found


def warm_up(reference: Weights | None, policy: Policy, config: GrpoConfig, pad_id: int) -> None:
    """Compile it for every row length, on rows of padding."""
    if reference is None or config.objective.kl_in != "reward":
        return
    empty = microbatching.empty_microbatches(config, pad_id)
    for batch in (each for each in empty if not each.has_gradient):  # as above: no advantages
        jax.block_until_ready(_score_rows(batch, reference, policy, config))


def _score_rows(
    batch: microbatching.Microbatch, reference: Weights, policy: Policy, config: GrpoConfig
) -> tuple[jax.Array | None, jax.Array]:
    scored = grpo_step.compute_ref_logprobs(
        reference, batch, policy=policy, temperature=config.temperature
    )
    return _row_kl(scored, estimator=config.objective.kl_estimator)


@functools.partial(jax.jit, static_argnames=("estimator",))
def _row_kl(
    batch: microbatching.Microbatch, *, estimator: KlEstimator
) -> tuple[jax.Array | None, jax.Array]:
    """Return each row's place in the step and its sum over sampled tokens; on every host."""
    assert batch.ref_logprobs_BT is not None
    difference_BT = batch.ref_logprobs_BT - batch.old_logprobs_BT
    kl_BT = estimate_kl(jnp.where(batch.sampled_BT, difference_BT, 0.0), estimator)
    return meshes.constrain((batch.index_B, kl_BT.sum(axis=1)), lambda _: jax.P())


def kl_metrics(trajectories: Sequence[Trajectory], kl: np.ndarray | None) -> dict[str, float]:
    """Average `kl` over the valid trajectories; empty without any."""
    if kl is None or not trajectories:
        return {}
    valid = [each.is_valid for each in trajectories]
    return {"reward/kl": float(np.mean(kl, where=valid))}
