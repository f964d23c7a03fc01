"""The language-model head and the loss on it, a few positions at a time.

With 151,936 tokens the logits are by far the largest array of a training step. No more than a chunk
of them ever exists: a chunk's logits give its log-probabilities, the loss's slope at each, and from
that the chunk's part of both gradients, before the next chunk is begun. Nothing is computed twice:
three products of the head's size make forward and backward together.

    loss, scores = lm_head_loss(head, token_loss, x_BTD, weight, targets_BT, counted_BT, (mask_BT,))

Only positions that count are multiplied: prompts, what the interpreter wrote and padding cost the
head nothing. On a mesh each device goes through its own rows. The head is gathered along fsdp once
for all chunks, its gradient is summed over devices once, behind the last; what tensor cuts stays
cut.

Axes beside the usual: P positions of a device, C of a chunk.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from r1ci_jax.model.attention import einsum_float32
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules

type TokenLoss = Callable[..., jax.Array]
"""(log-probabilities, *what belongs to each) -> each position's share of the summed loss."""

MASKED_LOGIT = -1e30
"""Logit of a row of the table that is no token; finite, so that zero times it is zero."""


BLOCK = 8192
"""Tokens whose part of the head's gradient is computed at a time."""


class TokenScores(NamedTuple):
    """How each target was judged, float32 [B, T]; 0 where it does not count. Without gradient."""

    logprobs_BT: jax.Array
    entropy_BT: jax.Array
    """Of the distribution that the target was drawn from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LmHead:
    """How the head is applied."""

    is_tied: bool
    """Its weight is the embedding [V, D], not a head [D, V]."""
    vocab_size: int
    """Ids below this are tokens; checkpoints have a few more embeddings."""
    temperature: float = 1.0
    """Divides the logits."""
    chunk_size: int = 1024
    """Positions of a device at a time."""


def token_scores(
    lm_head: LmHead,
    x_BTD: jax.Array,
    weight: jax.Array,
    targets_BT: jax.Array,
    counted_BT: jax.Array,
) -> TokenScores:
    """Log-probability of each target and entropy of its distribution.

    Args:
        head: How the weight is applied.
        x_BTD: Output of the final norm at the position before each target.
        weight: The head, or the embedding where it is tied.
        targets_BT: Token ids.
        counted_BT: True at each position that is asked for.
    """
    return _sharded(lm_head, None, x_BTD, weight, targets_BT, counted_BT, ())[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def lm_head_loss(
    head: LmHead,
    token_loss: TokenLoss,
    x_BTD: jax.Array,
    weight: jax.Array,
    targets_BT: jax.Array,
    counted_BT: jax.Array,
    inputs: tuple[jax.Array, ...],
) -> tuple[jax.Array, TokenScores]:
    """Sum of `token_loss(logprobs, *inputs)` over the positions that count, and their scores.

    Pass the float32 parameters even when `x_BTD` is bfloat16: products run in the type of `x_BTD`,
    the gradient of the head is summed and returned in float32.

    Args:
        head: How the weight is applied.
        token_loss: Acts on each position by itself; 0 where all its inputs are 0.
        x_BTD: Output of the final norm at the position before each target.
        weight: The head, or the embedding where it is tied.
        targets_BT: Token ids.
        counted_BT: True at each position that counts.
        inputs: Arrays [B, T] for `token_loss`; they get no gradient.
    """
    scores = token_scores(head, x_BTD, weight, targets_BT, counted_BT)
    token_weights_BT = token_loss(scores.logprobs_BT, *inputs)
    return jnp.sum(token_weights_BT, where=counted_BT), scores


def _forward(head: LmHead, token_loss: TokenLoss, *arrays):
    loss, scores, slopes = _sharded(head, token_loss, *arrays)
    return (loss, scores), slopes


def _backward(head: LmHead, token_loss: TokenLoss, saved_gradients, cotangents):
    slope, _ = cotangents  # of the loss; the scores are measurements
    by_x_BTD, by_weight = jax.tree.map(
        lambda leaf: (leaf * slope).astype(leaf.dtype), saved_gradients
    )
    return by_x_BTD, by_weight, None, None, None


lm_head_loss.defvjp(_forward, _backward)


class _Axes(NamedTuple):
    """Mesh axes over which the arrays of `_local` are sharded."""

    rows: tuple[str, ...]
    width: tuple[str, ...]
    vocab: tuple[str, ...]


def _sharded(head: LmHead, token_loss: TokenLoss | None, *arrays):
    """`_local` on every device, each with its part."""
    rows = rules.spec("batch")
    table = rules.spec(*(("vocab", "width") if head.is_tied else ("width", "vocab")))
    slopes = None if token_loss is None else (rows, table)
    return jax.shard_map(
        functools.partial(
            _local, head, token_loss, _Axes(*map(rules.mesh_axes, ("batch", "width", "vocab")))
        ),
        mesh=meshes.current_in_jit(),
        in_specs=(rows, table, rows, rows, rows),
        out_specs=(jax.P(), rows, slopes),
        check_vma=False,
    )(*arrays)


def _local(
    head: LmHead,
    token_loss: TokenLoss | None,
    axes: _Axes,
    x_BTD,
    weight,
    targets_BT,
    counted_BT,
    inputs,
):
    """Summed loss, scores, and the loss's slopes by `x_BTD` and `weight` (or None)."""
    counted = _CountedPositions.of(counted_BT, head.chunk_size)
    whole = weight.astype(x_BTD.dtype)
    if axes.width:
        whole = jax.lax.all_gather(whole, axes.width, axis=int(head.is_tied), tiled=True)
    one_chunk = functools.partial(_chunk, head, token_loss, axes.vocab, whole)

    def step(number: jax.Array, sums):
        loss, by_weight, found = sums
        x_CD, *others = jax.tree.map(
            functools.partial(counted.gather, number), (x_BTD, targets_BT, inputs)
        )
        more, slope_CV, new = one_chunk(x_CD, *others)
        if slope_CV is not None:
            by_weight = _add_lm_head_gradient(head, by_weight, x_CD, slope_CV)
        found = jax.tree.map(lambda all_QC, new_C: all_QC.at[number].set(new_C), found, new)
        return loss + more, by_weight, found

    nothing = TokenScores(counted.zeros(jnp.float32), counted.zeros(jnp.float32))
    by_weight, by_x = None, None
    if token_loss is not None:
        by_weight = jnp.zeros(whole.shape, jnp.float32)
        by_x = counted.zeros(x_BTD.dtype, x_BTD.shape[2])
    # Devices that meet in sums go through as many chunks as each other.
    chunks = -(-counted.total // counted.chunk)
    chunks = jax.lax.pmax(chunks, axes.rows) if axes.rows else chunks
    start = jnp.float32(0.0), by_weight, (nothing, by_x)
    loss, by_weight, found = jax.lax.fori_loop(0, chunks, step, start)
    loss, (scores, by_x_BTD) = _sum(loss, axes.rows), jax.tree.map(counted.scatter, found)
    if by_weight is None:
        return loss, scores, None
    if axes.width:
        # fsdp cuts the rows as well: every device has a part of each share's sum.
        by_weight = jax.lax.psum_scatter(
            by_weight, axes.width, scatter_dimension=int(head.is_tied), tiled=True
        )
    by_weight = _sum(by_weight, tuple(axis for axis in axes.rows if axis not in axes.width))
    return loss, scores, (by_x_BTD, by_weight)


class _CountedPositions(NamedTuple):
    """The positions of a device that count, one behind the other in chunks.

    Q chunks would hold all positions; those behind the last that counts are never looked at.
    """

    positions_QC: jax.Array
    """Position at each place; behind the last, one that no array has."""
    counted_BT: jax.Array

    @classmethod
    def of(cls, counted_BT: jax.Array, chunk: int) -> "_CountedPositions":
        """In chunks of this size, or of fewer if there are not as many positions."""
        positions = counted_BT.size
        chunk = min(chunk, positions)
        places = -(-positions // chunk) * chunk
        (places_Q,) = jnp.nonzero(counted_BT.reshape(-1), size=places, fill_value=positions)
        return cls(places_Q.reshape(-1, chunk), counted_BT)

    @property
    def chunk(self) -> int:
        """Places of a chunk."""
        return self.positions_QC.shape[1]

    @property
    def total(self) -> jax.Array:
        """How many count."""
        return self.counted_BT.sum()

    def gather(self, number: jax.Array, x_BT: jax.Array) -> jax.Array:
        """What a chunk has of an array [B, T, ...]: [C, ...], zeros behind the last."""
        x_P = x_BT.reshape(-1, *x_BT.shape[2:])
        return x_P.at[self.positions_QC[number]].get(mode="fill", fill_value=0)

    def zeros(self, dtype: Any, *shape: int) -> jax.Array:
        """Zeros [Q, C, ...] at every place."""
        return jnp.zeros((*self.positions_QC.shape, *shape), dtype)

    def scatter(self, x_QC: jax.Array) -> jax.Array:
        """What lies at each place back where it came from: [B, T, ...], else zeros."""
        counted_P = self.counted_BT.reshape(-1)
        place_P = jnp.maximum(jnp.cumsum(counted_P) - 1, 0)
        x_P = x_QC.reshape(-1, *x_QC.shape[2:])[place_P]
        x_P = jnp.where(counted_P.reshape(-1, *[1] * (x_P.ndim - 1)), x_P, 0)
        return x_P.reshape(*self.counted_BT.shape, *x_P.shape[1:])


def _chunk(
    head: LmHead,
    token_loss: TokenLoss | None,
    vocab: tuple[str, ...],
    lm_head_full,
    x_CD,
    targets_C,
    inputs,
):
    """Loss of one chunk, its slope by the logits; scores and the slope by `x_CD` (or None).

    `whole` has this device's part of the vocabulary.
    """
    equation = "CD,VD->CV" if head.is_tied else "CD,DV->CV"
    logits_CV = einsum_float32(equation, x_CD, lm_head_full) / head.temperature
    size = logits_CV.shape[1]
    first = jax.lax.axis_index(vocab) * size if vocab else 0
    ids_V = first + jnp.arange(size)
    logits_CV = jnp.where(ids_V[None, :] < head.vocab_size, logits_CV, MASKED_LOGIT)

    highest_C = logits_CV.max(axis=1)
    highest_C = jax.lax.pmax(highest_C, vocab) if vocab else highest_C
    weights_CV = jnp.exp(logits_CV - highest_C[:, None])
    weight_C = _sum(weights_CV.sum(axis=1), vocab)
    log_sum_C = highest_C + jnp.log(weight_C)
    place_C = jnp.clip(targets_C - first, 0, size - 1)
    chosen_C = jnp.take_along_axis(logits_CV, place_C[:, None], axis=1)[:, 0]
    chosen_C = _sum(jnp.where(ids_V[place_C] == targets_C, chosen_C, 0.0), vocab)
    mean_C = _sum(jnp.sum(weights_CV * logits_CV, axis=1), vocab) / weight_C
    scores = TokenScores(chosen_C - log_sum_C, log_sum_C - mean_C)
    if token_loss is None:
        return jnp.float32(0.0), None, (scores, None)

    loss, slope_C = jax.value_and_grad(lambda logprobs_C: token_loss(logprobs_C, *inputs).sum())(
        scores.logprobs_BT
    )
    is_target_CV = ids_V[None, :] == targets_C[:, None]
    slope_CV = (is_target_CV - weights_CV / weight_C[:, None]) * slope_C[:, None]
    slope_CV = (slope_CV / head.temperature).astype(x_CD.dtype)
    by_x_CD = einsum_float32("CV,VD->CD" if head.is_tied else "CV,DV->CD", slope_CV, lm_head_full)
    return loss, slope_CV, (scores, _sum(by_x_CD, vocab).astype(x_CD.dtype))


def _add_lm_head_gradient(
    head: LmHead, total: jax.Array, x_CD: jax.Array, slope_CV: jax.Array
) -> jax.Array:
    """The head's gradient with one chunk's part, in place, so that no second one exists."""
    size, axis = slope_CV.shape[1], 0 if head.is_tied else 1
    for first in range(0, size, BLOCK):
        part_CV = slope_CV[:, first : first + BLOCK]
        if head.is_tied:
            more = einsum_float32("CV,CD->VD", part_CV, x_CD)
        else:
            more = einsum_float32("CD,CV->DV", x_CD, part_CV)
        more += jax.lax.dynamic_slice_in_dim(total, first, part_CV.shape[1], axis)
        # Not `total.at[...].add`: XLA's compiler of JAX 0.11 crashes on that scatter.
        total = jax.lax.dynamic_update_slice_in_dim(total, more, first, axis)
    return total


def _sum(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return jax.lax.psum(x, axes) if axes else x
