"""The critic's loss and its gradient by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.train.critic import value_loss


@pytest.mark.parametrize(
    ("value", "old", "returned", "loss", "gradient", "clipped"),
    [
        # Within the bound of 0.5: half the squared distance, and the distance.
        (0.25, 0.0, 1.0, 0.28125, -0.75, False),
        (-0.25, 0.0, 1.0, 0.78125, -1.25, False),
        # Moved by more than 0.5 towards the return: the loss of the bound, and no gradient.
        (0.75, 0.0, 1.0, 0.125, 0.0, True),
        (-0.75, 0.0, -1.0, 0.125, 0.0, True),
        # Moved by more than 0.5 away from it: all of the gradient.
        (-0.75, 0.0, 1.0, 1.53125, -1.75, False),
        # As far as before the step.
        (0.5, 0.5, 0.5, 0.0, 0.0, False),
    ],
)
def test_loss_and_gradient_of_a_token(
    value: float, old: float, returned: float, loss: float, gradient: float, clipped: bool
) -> None:
    def one(value_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
        old_BT, returns_BT = jnp.full((1, 1), old), jnp.full((1, 1), returned)
        loss_BT, is_clipped_BT = value_loss.token_loss(value_BT, old_BT, returns_BT, 0.5)
        return loss_BT[0, 0], is_clipped_BT[0, 0]

    (got, acted), slope_BT = jax.value_and_grad(one, has_aux=True)(jnp.full((1, 1), value))
    assert (float(got), float(slope_BT[0, 0]), bool(acted)) == (loss, gradient, clipped)


def test_without_a_bound_it_is_half_the_squared_distance() -> None:
    values_BT, far_BT = jnp.asarray([[3.0, -2.0]]), jnp.zeros((1, 2))
    loss_BT, is_clipped_BT = value_loss.token_loss(values_BT, far_BT, jnp.ones((1, 2)), 0.0)
    np.testing.assert_array_equal(loss_BT, [[2.0, 4.5]])
    assert not is_clipped_BT.any()


def test_tokens_that_the_policy_did_not_choose_have_no_loss_and_no_gradient() -> None:
    chosen_BT = jnp.asarray([[False, True, False, True]])
    old_BT, returns_BT = jnp.zeros((1, 4)), jnp.asarray([[9.0, 1.0, 9.0, 0.0]])

    def loss(values_BT: jax.Array) -> tuple[jax.Array, value_loss.ValueSums]:
        return value_loss.sum_loss(values_BT, old_BT, returns_BT, chosen_BT, value_clip=0.5)

    values_BT = jnp.asarray([[0.3, 0.75, jnp.inf, 0.25]])
    (total, sums), slope_BT = jax.value_and_grad(loss, has_aux=True)(values_BT)
    assert float(total) == float(sums.loss) == 0.125 + 0.03125
    assert (float(sums.tokens), float(sums.clipped)) == (2.0, 1.0)
    np.testing.assert_array_equal(slope_BT, [[0.0, 0.0, 0.0, 0.25]])
