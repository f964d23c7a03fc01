"""Tokens that may come next, guessed from the trajectory's own text: prompt lookup.

Numbers of the question, names in code and printed outputs recur. If the last two tokens stood
together before, what followed them then is the guess. A decode step feeds guesses behind the
pending token and samples at each of them; a guess that equals the sample before it spares a step.
Each position has its own random number, so a verified guess is the very token that would have been
sampled without it: the distribution is exact, with a temperature and filters too (a coupling, in
place of the rejection sampling of arXiv 2211.17192).

Axes: S slots, C positions of the longest trajectory, D guessed tokens.
"""

import jax
import jax.numpy as jnp

NGRAM = 2
"""Tokens that must have stood together before."""


def guess(
    history_SC: jax.Array, position_S: jax.Array, num_tokens: int
) -> tuple[jax.Array, jax.Array]:
    """Return guesses [S, D] for the tokens after `position_S`, and how many of them there are.

    `history_SC` holds each slot's token at every position up to `position_S`.
    """
    length = history_SC.shape[1]
    at_C = jnp.arange(length)
    matches_SC = at_C[None, :] < position_S[:, None]
    for back in range(NGRAM):
        wanted_S1 = _at(history_SC, position_S[:, None] - back)
        earlier_SC = jnp.pad(history_SC[:, : length - back], ((0, 0), (back, 0)))
        is_inside_C = at_C >= back
        matches_SC &= (earlier_SC == wanted_S1) & is_inside_C[None, :]
    found_S = jnp.where(matches_SC, at_C[None, :], -1).max(axis=1)
    source_SD = found_S[:, None] + 1 + jnp.arange(num_tokens)[None, :]
    known_SD = (source_SD <= position_S[:, None]) & (found_S >= 0)[:, None]
    return _at(history_SC, source_SD), known_SD.sum(axis=1)


def _at(history_SC: jax.Array, position_SD: jax.Array) -> jax.Array:
    return jnp.take_along_axis(history_SC, position_SD, axis=1, mode="clip")
