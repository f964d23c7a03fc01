"""Estimates of KL(policy || other) from tokens that the policy sampled.

With d = log other - log policy of a token, over tokens of the policy (Schulman 2020, "Approximating
KL divergence", joschu.net/blog/kl-approx.html):

    k1 = -d                  unbiased, of either sign
    k2 = d² / 2              biased, never negative
    k3 = exp(d) - 1 - d      unbiased, never negative

In a loss the gradient matters, not the value, and theirs differ: on average over the policy's own
tokens that of k1 is 0, that of k2 is the gradient of KL(policy || other), and that of k3 is the
gradient of KL(other || policy) (2506.09477). In the reward, whose gradient is that of the
policy, the sum of k1 gives the gradient of KL(policy || other).
"""

import jax
import jax.numpy as jnp

from r1ci_jax.grpo_config import KlEstimator


def estimate_kl(difference_BT: jax.Array, estimator: KlEstimator = "k3") -> jax.Array:
    """Estimate KL(policy || other) at each token from d = log other - log policy."""
    match estimator:
        case "k1":
            return -difference_BT
        case "k2":
            return difference_BT**2 / 2
        case "k3":
            # expm1 keeps small differences: exp(d) - 1 - d would cancel to noise below 1e-4.
            return jnp.expm1(difference_BT) - difference_BT
