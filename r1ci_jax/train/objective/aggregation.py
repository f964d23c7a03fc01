"""Means over the tokens of a step, as a weight of each token and one divisor of the sum.

With sampled tokens |y_i| of trajectory i, x of a token, N trajectories and Q questions in an
optimizer step (each over those with at least one sampled token):

    sequence_mean   Σ_i (1 / |y_i|) Σ_t x / N         the paper's, and GRPO's (2402.03300)
    token_mean      Σ_i Σ_t x / Σ_i |y_i|             DAPO (2503.14476)
    prompt_mean     Σ_q (1 / T_q) Σ_i∈q Σ_t x / Q     with T_q = Σ_i∈q |y_i|; ScaleRL (2510.13786)
    constant        Σ_i (1 / L) Σ_t x / N             with a constant L; Dr. GRPO (2503.20783)

Sums and divisors of microbatches add up, so the split of a step changes nothing.
"""

import jax
import jax.numpy as jnp

from r1ci_jax.grpo_config import Aggregation


def token_weights(
    mask_BT: jax.Array,
    aggregation: Aggregation = "sequence_mean",
    *,
    constant_tokens: int = 0,
    prompt_tokens_B: jax.Array | None = None,
) -> jax.Array:
    """Weigh each sampled token by the factor in front of its sum above; other tokens by 0.

    Args:
        mask_BT: True at sampled tokens.
        aggregation: Form of the mean.
        constant_tokens: L of "constant".
        prompt_tokens_B: T_q of each row's question, over all microbatches, for "prompt_mean".
    """
    mask_BT = mask_BT.astype(bool)
    match aggregation:
        case "sequence_mean":
            divisor_B1 = mask_BT.sum(axis=1, keepdims=True, dtype=jnp.float32)
        case "token_mean":
            return mask_BT.astype(jnp.float32)
        case "prompt_mean":
            assert prompt_tokens_B is not None, "prompt_mean needs the questions' token counts"
            divisor_B1 = prompt_tokens_B[:, None]
        case "constant":
            assert constant_tokens > 0, "constant needs a number of tokens"
            return mask_BT / jnp.float32(constant_tokens)
    return jnp.where(mask_BT, 1.0 / jnp.maximum(divisor_B1, 1.0), 0.0)
