"""Measurements of a trajectory's tokens by the trainer: entropy, KL, clipped and masked tokens.

The trainer sums them by row of a microbatch, on devices; here they are put back in the order of the
step's batch, so that they can be averaged over any part of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np


class RowSums(NamedTuple):
    """Sums over the tokens with a loss of each row of a microbatch."""

    index_B: jax.Array | None
    """Position of the row's trajectory in the step's batch; -1 in a row of padding."""
    tokens_B: jax.Array
    """Number of tokens with a loss."""
    entropy_B: jax.Array
    clipped_B: jax.Array
    """Number of tokens whose gradient the clip removed."""
    kl_B: jax.Array | None
    """Sum of the estimates of KL(policy || reference); None without a reference."""


class TokenSums(NamedTuple):
    """The same by trajectory, in the order of the step's batch, added up over iterations."""

    iterations: int
    """Number of times that the update went over the batch."""
    tokens: np.ndarray
    entropy: np.ndarray
    clipped: np.ndarray
    kl: np.ndarray | None


def gather(rows: Sequence[RowSums], num_trajectories: int) -> TokenSums:
    """Add up the rows of each trajectory, on the host; those that were in no row get zeros."""
    visits = np.zeros(num_trajectories, np.int64)
    added = {
        name: np.zeros(num_trajectories) for name in ("tokens_B", "entropy_B", "clipped_B", "kl_B")
    }
    for row in rows:
        assert row.index_B is not None, "the microbatch did not say whose rows it has"
        index_B = np.asarray(row.index_B)
        is_real_B = index_B >= 0
        np.add.at(visits, index_B[is_real_B], 1)
        for name, sums in added.items():
            if (values_B := getattr(row, name)) is not None:
                np.add.at(sums, index_B[is_real_B], np.asarray(values_B)[is_real_B])
    has_kl = any(row.kl_B is not None for row in rows)
    return TokenSums(
        iterations=int(visits.max(initial=0)),
        tokens=added["tokens_B"],
        entropy=added["entropy_B"],
        clipped=added["clipped_B"],
        kl=added["kl_B"] if has_kl else None,
    )


def measure(
    sums: TokenSums, num_sampled: Sequence[int], members: Sequence[int]
) -> dict[str, float]:
    """Average over a part of the batch, under the names of docs/metrics.md.

    Entropy and the fractions are means over tokens, KL is the mean over trajectories of their
    tokens' mean, as in the paper's loss. A part without a loss has its mask fraction alone, and one
    that the step did not train on nothing.

    Args:
        sums: Result of `gather` for the whole batch.
        num_sampled: Number of sampled tokens of each trajectory of the batch.
        members: Positions of the part's valid trajectories.
    """
    sampled = sum(num_sampled[member] for member in members) * sums.iterations
    at = np.asarray(members, np.int64)
    tokens = float(sums.tokens[at].sum())
    found = {"optim/mask_fraction": 1 - tokens / sampled} if sampled else {}
    if tokens:
        found["optim/entropy"] = float(sums.entropy[at].sum()) / tokens
        found["optim/clip_fraction"] = float(sums.clipped[at].sum()) / tokens
        if sums.kl is not None:
            trained = at[sums.tokens[at] > 0]
            found["optim/kl"] = float(np.mean(sums.kl[trained] / sums.tokens[trained]))
    return found
