"""Guesses by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.sampling import speculation


@pytest.mark.parametrize(
    ("tokens", "guesses"),
    [
        ([1, 2, 3, 4, 1, 2], [3, 4, 1]),
        ([1, 2, 9, 1, 2, 8, 1, 2], [8, 1, 2]),  # the latest occurrence counts
        ([7, 7, 7], [7]),  # only what is known already
        ([1, 2, 3, 2], []),  # one token is not enough
        ([5], []),
        ([2, 2], []),
    ],
)
def test_what_followed_the_last_two_tokens_before(tokens: list[int], guesses: list[int]) -> None:
    history_SC = np.full((2, 10), 6)
    history_SC[0, : len(tokens)] = tokens
    history_SC[1, :4] = [3, 4, 3, 4]
    position_S = jnp.asarray([len(tokens) - 1, 3])
    found_SD, known_S = speculation.guess(jnp.asarray(history_SC), position_S, 3)
    assert np.asarray(found_SD)[0, : int(known_S[0])].tolist() == guesses
    assert np.asarray(found_SD)[1, : int(known_S[1])].tolist() == [3, 4]
