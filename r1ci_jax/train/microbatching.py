"""Microbatches: the trajectories of a step, sorted by length and padded to a few row lengths.

Rows whose gradient is zero, because their advantage is and the loss has no other term, go to
microbatches of their own: these are measured by a forward pass alone, a third of the work. They
count in every denominator, so the update is the same.
"""

import collections
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from r1ci_jax.config import GrpoConfig
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import sandbox_faults
from r1ci_jax.rollout.trajectory import Trajectory, with_learned_observations
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement
from r1ci_jax.train.objective.loss_settings import LossSettings


class Microbatch(NamedTuple):
    """Some trajectories of a step, padded on the right; a row of padding has no sampled token."""

    tokens_BT: jax.Array
    sampled_BT: jax.Array
    """True where the policy chose the token."""
    old_logprobs_BT: jax.Array
    """Log-probabilities in the ratio's denominator: recorded while sampling, or recomputed."""
    on_policy_BT: jax.Array
    """True where the policy chose the token under the weights of this step."""
    advantages_B: jax.Array | None
    """Advantage of each row at all of its tokens; None where the gradient of every row is zero."""
    index_B: jax.Array | None = None
    """Position of the row's trajectory in the step's batch, -1 in a row of padding; None where
    nothing is measured by trajectory."""
    ref_logprobs_BT: jax.Array | None = None
    """Log-probabilities under the reference; None where the loss has no KL term."""
    sampler_logprobs_BT: jax.Array | None = None
    """Log-probabilities recorded while sampling; None without importance weights."""
    prompt_tokens_B: jax.Array | None = None
    """Sampled tokens of all rows of the row's question in the minibatch; None unless the loss is a
    mean over questions."""
    advantages_BT: jax.Array | None = None
    """Advantage of each token, in place of `advantages_B`; None without a critic."""

    @property
    def has_gradient(self) -> bool:
        """False where the rows are only measured."""
        return self.advantages_B is not None


class _Member(NamedTuple):
    """A trajectory of a step that carries loss."""

    trajectory: Trajectory
    advantage: float
    index: int
    """Position in the step's batch."""


def empty_microbatches(config: GrpoConfig, pad_id: int) -> list[Microbatch]:
    """Make a microbatch of padding of every row length and kind, to compile for."""
    shards = meshes.num_batch_shards(meshes.current())
    counts = _count_prompt_tokens([], config)
    kinds = (True,) if _always_has_gradient(config) else (True, False)
    return [
        _pad([], (config.microbatch_rows(length, shards), length), pad_id, counts, has_gradient)
        for length in config.sequence_lengths
        for has_gradient in kinds
    ]


def make_minibatches(
    trajectories: Sequence[Trajectory],
    advantages_PR: np.ndarray,
    config: GrpoConfig,
    pad_id: int,
) -> list[list[Microbatch]]:
    """Split a batch into the microbatches of each optimizer step of an iteration.

    Minibatches without a trajectory that carries loss are left out. A batch with fewer groups than
    a step wants is split as evenly as it can be.

    Raises:
        UserError: The batch has trajectories, and none is valid.
    """
    sandbox_faults.require_any_valid(trajectories)
    members, count = config.rollouts_per_prompt, config.num_minibatches
    bounds = [len(advantages_PR) * number // count for number in range(count + 1)]
    minibatches = [
        split_microbatches(
            trajectories[start * members : stop * members],
            advantages_PR[start:stop].reshape(-1),
            config,
            pad_id,
            first_index=start * members,
        )
        for start, stop in itertools.pairwise(bounds)
    ]
    return [minibatch for minibatch in minibatches if minibatch]


def split_microbatches(
    trajectories: Sequence[Trajectory],
    advantages: np.ndarray,
    config: GrpoConfig,
    pad_id: int,
    *,
    first_index: int = 0,
) -> list[Microbatch]:
    """Sort those that carry loss from the longest down and pad them to a configured length.

    Long rows go together, so that most microbatches are short and have many rows; the loss is a
    sum, so the order does not matter. Rows without a gradient come last, in microbatches of their
    own. `first_index` is the position of the first trajectory in the step's batch.
    """
    if config.learn_observations:
        trajectories = [with_learned_observations(each) for each in trajectories]
    numbered = enumerate(zip(trajectories, advantages, strict=True), start=first_index)
    members = [_Member(one, advantage, n) for n, (one, advantage) in numbered if one.carries_loss]
    members.sort(key=lambda member: (-len(member.trajectory.tokens), member.trajectory.rollout_id))
    prompt_tokens = _count_prompt_tokens([member.trajectory for member in members], config)
    always = _always_has_gradient(config)
    batches = []
    for has_gradient in (True, False):
        left = [one for one in members if (always or one.advantage != 0) == has_gradient]
        while left:
            longest = len(left[0].trajectory.tokens)
            length = next((size for size in config.sequence_lengths if size >= longest), None)
            if length is None:  # replayed from a run with a longer cache
                raise UserError(
                    f"a trajectory has {longest} tokens, more than the last of "
                    f"grpo.sequence_lengths = {config.sequence_lengths}; raise that"
                )
            rows = config.microbatch_rows(length, meshes.num_batch_shards(meshes.current()))
            shape = rows, length
            batches.append(_pad(left[:rows], shape, pad_id, prompt_tokens, has_gradient))
            left = left[rows:]
    return batches


def _always_has_gradient(config: GrpoConfig) -> bool:
    """Return True if a row without an advantage has a gradient all the same.

    A KL term pulls at every row, and a critic finds the advantages of tokens later.
    """
    return config.has_critic or LossSettings.of(config).kl_coef > 0


def _count_prompt_tokens(
    trajectories: Sequence[Trajectory], config: GrpoConfig
) -> Mapping[int, int] | None:
    """Count the sampled tokens of each group of a minibatch; None where no mean is over groups."""
    if config.objective.aggregation != "prompt_mean":
        return None
    counts: collections.Counter[int] = collections.Counter()
    for trajectory in trajectories:
        counts[trajectory.rollout_id.group_id] += sum(trajectory.trained[1:])
    return counts


def _pad(
    members: Sequence[_Member],
    shape: tuple[int, int],
    pad_id: int,
    prompt_tokens: Mapping[int, int] | None,
    has_gradient: bool,
) -> Microbatch:
    tokens_BT = np.full(shape, pad_id, np.int32)
    sampled_BT = np.zeros(shape, bool)
    old_logprobs_BT = np.zeros(shape, np.float32)
    on_policy_BT = np.zeros(shape, bool)
    advantages_B = np.zeros(shape[0], np.float32) if has_gradient else None
    index_B = np.full(shape[0], -1, np.int32)
    prompt_tokens_B = None if prompt_tokens is None else np.zeros(shape[0], np.float32)
    for row, (trajectory, advantage, index) in enumerate(members):
        size, stale = len(trajectory.tokens), trajectory.num_stale_tokens
        tokens_BT[row, :size] = trajectory.tokens
        trained = trajectory.trained
        sampled_BT[row, :size] = trained
        old_logprobs_BT[row, :size] = trajectory.logprobs
        on_policy_BT[row, stale:size] = trained[stale:]
        if advantages_B is not None:
            advantages_B[row] = advantage
        index_B[row] = index
        if prompt_tokens is not None and prompt_tokens_B is not None:
            prompt_tokens_B[row] = prompt_tokens[trajectory.rollout_id.group_id]
    rows = tokens_BT, sampled_BT, old_logprobs_BT, on_policy_BT, advantages_B, index_B
    *arrays, counts = placement.shard_batch((*rows, prompt_tokens_B))
    return Microbatch(*arrays, prompt_tokens_B=counts)
