"""The language-model head and the loss on it, computed in chunks of positions.

With 151,936 tokens the logits are by far the largest array of a training step. Only one chunk of
them exists at a time: its logits give its log-probabilities, the loss's gradient with respect to
each, and the chunk's part of both gradients, before the next chunk starts. Nothing is computed
twice: three matmuls of the LM head's size make forward and backward together.

    loss, scores = lm_head_loss(lm_head, token_loss, x_BTD, weight, targets_BT, mask_BT, inputs)

Only masked-in positions are multiplied: prompts, interpreter output and padding cost the LM head
nothing. On a mesh each device computes its own rows. The weight is gathered along fsdp once for all
chunks, and its gradient is summed over devices once, after the last; what tensor shards stays
sharded.

Axes of this file: X positions of a chunk, M chunks (blocks) of a device.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from r1ci_jax.model.attention import einsum_float32
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import rules

type TokenLoss = Callable[..., jax.Array]
"""(log-probabilities, *inputs) -> loss of each position."""

MASKED_LOGIT = -1e30
"""Logit of an embedding row that is no token; finite, so that zero times it is zero."""

VOCAB_BLOCK = 8192
"""Tokens of the vocabulary whose weight gradient is computed at a time."""


class TokenScores(NamedTuple):
    """Log-probability and entropy of each target, float32 [B, T]; 0 where masked. No gradient."""

    logprobs_BT: jax.Array
    entropy_BT: jax.Array
    """Entropy of the distribution that the target was sampled from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LmHead:
    """Settings of the LM lm_head."""

    is_tied: bool
    """True if the weight is the embedding [V, D], not a separate [D, V]."""
    vocab_size: int
    """Ids below this are tokens; checkpoints have a few more embedding rows."""
    temperature: float = 1.0
    """Divides the logits."""
    chunk_size: int = 1024
    """Positions per chunk per device."""


def token_scores(
    lm_head: LmHead,
    x_BTD: jax.Array,
    weight: jax.Array,
    targets_BT: jax.Array,
    mask_BT: jax.Array,
) -> TokenScores:
    """Compute log-probability of each target and entropy of its distribution.

    Args:
        lm_head: Settings.
        x_BTD: Output of the final norm at the position before each target.
        weight: Weight of the LM lm_head, or the embedding where the two are tied.
        targets_BT: Token ids.
        mask_BT: True at each position to compute; the others are 0.
    """
    return _sharded(lm_head, None, x_BTD, weight, targets_BT, mask_BT, ())[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def lm_head_loss(
    lm_head: LmHead,
    token_loss: TokenLoss,
    x_BTD: jax.Array,
    weight: jax.Array,
    targets_BT: jax.Array,
    mask_BT: jax.Array,
    inputs: tuple[jax.Array | None, ...],
) -> tuple[jax.Array, TokenScores]:
    """Sum `token_loss(logprobs, *inputs)` over the positions in `mask_BT`; also their scores.

    Pass the float32 parameters even when `x_BTD` is bfloat16: matmuls run in the dtype of `x_BTD`,
    the gradient of the weight is summed and returned in float32.

    Args:
        lm_head: Settings.
        token_loss: Acts on each position by itself; 0 where all its inputs are 0.
        x_BTD: Output of the final norm at the position before each target.
        weight: Weight of the LM lm_head, or the embedding where the two are tied.
        targets_BT: Token ids.
        mask_BT: True at each position that has a loss.
        inputs: Arrays [B, T] (or None) for `token_loss`; they get no gradient.
    """
    scores = token_scores(lm_head, x_BTD, weight, targets_BT, mask_BT)
    token_loss_BT = token_loss(scores.logprobs_BT, *inputs)
    return jnp.sum(token_loss_BT, where=mask_BT), scores


def _forward(lm_head: LmHead, token_loss: TokenLoss, *arrays):
    loss, scores, gradients = _sharded(lm_head, token_loss, *arrays)
    return (loss, scores), gradients


def _backward(lm_head: LmHead, token_loss: TokenLoss, saved_gradients, cotangents):
    d_loss, _ = cotangents  # the scores are measurements
    d_x_BTD, d_weight = jax.tree.map(
        lambda leaf: (leaf * d_loss).astype(leaf.dtype), saved_gradients
    )
    return d_x_BTD, d_weight, None, None, None


lm_head_loss.defvjp(_forward, _backward)


class _Axes(NamedTuple):
    """Mesh axes over which the arrays of `_local` are sharded."""

    rows: tuple[str, ...]
    width: tuple[str, ...]
    vocab: tuple[str, ...]

    @classmethod
    def of_several_devices(cls, mesh: Mesh | AbstractMesh) -> "_Axes":
        """Leave out axes of one device: gathering an embedding from it would copy it twice."""

        def axes_of(name: str) -> tuple[str, ...]:
            return tuple(axis for axis in rules.mesh_axes(name) if mesh.shape[axis] > 1)

        return cls(*map(axes_of, ("batch", "width", "vocab")))


def _sharded(lm_head: LmHead, token_loss: TokenLoss | None, *arrays):
    """Run `_local` on every device, each on its shard."""
    mesh = meshes.current_in_jit()
    rows = rules.spec("batch")
    table = rules.spec(*(("vocab", "width") if lm_head.is_tied else ("width", "vocab")))
    gradients = None if token_loss is None else (rows, table)
    return jax.shard_map(
        functools.partial(_local, lm_head, token_loss, _Axes.of_several_devices(mesh)),
        mesh=mesh,
        in_specs=(rows, table, rows, rows, rows),
        out_specs=(jax.P(), rows, gradients),
        check_vma=False,
    )(*arrays)


def _local(
    lm_head: LmHead,
    token_loss: TokenLoss | None,
    axes: _Axes,
    x_BTD,
    weight,
    targets_BT,
    mask_BT,
    inputs,
):
    """Return summed loss, scores, and gradients for `x_BTD` and `weight` (or None)."""
    positions = _MaskedPositions.from_mask(mask_BT, lm_head.chunk_size)
    lm_head_full = weight.astype(x_BTD.dtype)
    if axes.width:
        lm_head_full = jax.lax.all_gather(
            lm_head_full, axes.width, axis=int(lm_head.is_tied), tiled=True
        )
    one_chunk = functools.partial(_chunk, lm_head, token_loss, axes.vocab, lm_head_full)

    def step(number: jax.Array, sums):
        loss, d_weight, found = sums
        x_XD, *others = jax.tree.map(
            functools.partial(positions.gather, number), (x_BTD, targets_BT, inputs)
        )
        more, dlogits_XV, new = one_chunk(x_XD, *others)
        if dlogits_XV is not None:
            d_weight = _add_lm_head_gradient(lm_head, d_weight, x_XD, dlogits_XV)
        found = jax.tree.map(lambda all_MX, new_X: all_MX.at[number].set(new_X), found, new)
        return loss + more, d_weight, found

    zero_scores = TokenScores(positions.zeros(jnp.float32), positions.zeros(jnp.float32))
    d_weight, d_x = None, None
    if token_loss is not None:
        d_weight = jnp.zeros(lm_head_full.shape, jnp.float32)
        d_x = positions.zeros(x_BTD.dtype, x_BTD.shape[2])
    # Devices that sum with each other compute the same number of chunks.
    chunks = -(-positions.total // positions.chunk)
    chunks = jax.lax.pmax(chunks, axes.rows) if axes.rows else chunks
    start = jnp.float32(0.0), d_weight, (zero_scores, d_x)
    loss, d_weight, found = jax.lax.fori_loop(0, chunks, step, start)
    loss, (scores, d_x_BTD) = _sum(loss, axes.rows), jax.tree.map(positions.scatter, found)
    if d_weight is None:
        return loss, scores, None
    if axes.width:
        # fsdp shards the rows as well: every device has a part of each shard's sum.
        d_weight = jax.lax.psum_scatter(
            d_weight, axes.width, scatter_dimension=int(lm_head.is_tied), tiled=True
        )
    d_weight = _sum(d_weight, tuple(axis for axis in axes.rows if axis not in axes.width))
    return loss, scores, (d_x_BTD, d_weight)


class _MaskedPositions(NamedTuple):
    """The masked-in positions of a device, densely packed into chunks.

    M chunks would hold all positions; those after the last one in the mask are never computed.
    """

    indices_MX: jax.Array
    """Flat index into [B, T]; after the last position, an index out of bounds."""
    mask_BT: jax.Array

    @classmethod
    def from_mask(cls, mask_BT: jax.Array, chunk: int) -> "_MaskedPositions":
        """Pack in chunks of this size, or of fewer positions if there are not as many."""
        num_positions = mask_BT.size
        chunk = min(chunk, num_positions)
        padded = -(-num_positions // chunk) * chunk
        (indices,) = jnp.nonzero(mask_BT.reshape(-1), size=padded, fill_value=num_positions)
        return cls(indices.reshape(-1, chunk), mask_BT)

    @property
    def chunk(self) -> int:
        """Positions per chunk."""
        return self.indices_MX.shape[1]

    @property
    def total(self) -> jax.Array:
        """Number of positions in the mask."""
        return self.mask_BT.sum()

    def gather(self, number: jax.Array, x_BT: jax.Array) -> jax.Array:
        """Take a chunk of an array [B, T, ...]: [X, ...], zeros after the last position."""
        flat = x_BT.reshape(-1, *x_BT.shape[2:])
        return flat.at[self.indices_MX[number]].get(mode="fill", fill_value=0)

    def zeros(self, dtype: Any, *shape: int) -> jax.Array:
        """Make zeros [M, X, ...]."""
        return jnp.zeros((*self.indices_MX.shape, *shape), dtype)

    def scatter(self, x_MX: jax.Array) -> jax.Array:
        """Undo `gather` of all chunks: [B, T, ...], zeros outside the mask."""
        flat_mask = self.mask_BT.reshape(-1)
        index = jnp.maximum(jnp.cumsum(flat_mask) - 1, 0)
        flat = x_MX.reshape(-1, *x_MX.shape[2:])[index]
        flat = jnp.where(flat_mask.reshape(-1, *[1] * (flat.ndim - 1)), flat, 0)
        return flat.reshape(*self.mask_BT.shape, *flat.shape[1:])


def _chunk(
    lm_head: LmHead,
    token_loss: TokenLoss | None,
    vocab: tuple[str, ...],
    lm_head_full,
    x_XD,
    targets_X,
    inputs,
):
    """Return loss of one chunk, gradient of its logits; scores and gradient of `x_XD` (or None).

    `lm_head_full` has this device's shard of the vocabulary.
    """
    equation = "XD,VD->XV" if lm_head.is_tied else "XD,DV->XV"
    logits_XV = einsum_float32(equation, x_XD, lm_head_full) / lm_head.temperature
    size = logits_XV.shape[1]
    first = jax.lax.axis_index(vocab) * size if vocab else 0
    ids_V = first + jnp.arange(size)
    logits_XV = jnp.where(ids_V[None, :] < lm_head.vocab_size, logits_XV, MASKED_LOGIT)

    max_X = logits_XV.max(axis=1)
    max_X = jax.lax.pmax(max_X, vocab) if vocab else max_X
    exp_logits_XV = jnp.exp(logits_XV - max_X[:, None])
    sum_exp_X = _sum(exp_logits_XV.sum(axis=1), vocab)
    logsumexp_X = max_X + jnp.log(sum_exp_X)
    index_X = jnp.clip(targets_X - first, 0, size - 1)
    target_logit_X = jnp.take_along_axis(logits_XV, index_X[:, None], axis=1)[:, 0]
    target_logit_X = _sum(jnp.where(ids_V[index_X] == targets_X, target_logit_X, 0.0), vocab)
    mean_logit_X = _sum(jnp.sum(exp_logits_XV * logits_XV, axis=1), vocab) / sum_exp_X
    scores = TokenScores(target_logit_X - logsumexp_X, logsumexp_X - mean_logit_X)
    if token_loss is None:
        return jnp.float32(0.0), None, (scores, None)

    loss, dlogprobs_X = jax.value_and_grad(
        lambda logprobs_X: token_loss(logprobs_X, *inputs).sum()
    )(scores.logprobs_BT)
    is_target_XV = ids_V[None, :] == targets_X[:, None]
    dlogits_XV = (is_target_XV - exp_logits_XV / sum_exp_X[:, None]) * dlogprobs_X[:, None]
    dlogits_XV = (dlogits_XV / lm_head.temperature).astype(x_XD.dtype)
    d_x_XD = einsum_float32(
        "XV,VD->XD" if lm_head.is_tied else "XV,DV->XD", dlogits_XV, lm_head_full
    )
    return loss, dlogits_XV, (scores, _sum(d_x_XD, vocab).astype(x_XD.dtype))


def _add_lm_head_gradient(
    lm_head: LmHead, total: jax.Array, x_XD: jax.Array, dlogits_XV: jax.Array
) -> jax.Array:
    """Add one chunk to the weight's gradient in place, so that no second copy exists."""
    size, axis = dlogits_XV.shape[1], 0 if lm_head.is_tied else 1
    for first in range(0, size, VOCAB_BLOCK):
        part_XV = dlogits_XV[:, first : first + VOCAB_BLOCK]
        if lm_head.is_tied:
            more = einsum_float32("XV,XD->VD", part_XV, x_XD)
        else:
            more = einsum_float32("XD,XV->DV", x_XD, part_XV)
        more += jax.lax.dynamic_slice_in_dim(total, first, part_XV.shape[1], axis)
        # Not `total.at[...].add`: the XLA compiler of JAX 0.11 crashes on that scatter.
        total = jax.lax.dynamic_update_slice_in_dim(total, more, first, axis)
    return total


def _sum(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return jax.lax.psum(x, axes) if axes else x
