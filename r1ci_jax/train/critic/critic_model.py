"""The critic: the policy's architecture with one number per token in place of the LM head.

The value at a token is the reward that the policy can expect before it chooses that token. So it is
read from the activation one position earlier, from which the policy predicts the same token, and
the last activation of a row has no value.

The critic starts from the weights that the policy starts from, and with a value head of zeros: its
first values are all 0. With LoRA it has adapters of its own, and shares the frozen weights.
"""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx

from r1ci_jax.model import qwen2
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement
from r1ci_jax.train.policy import Params, Policy, Weights

type CriticParams = dict[str, Any]
"""{"trunk": parameters or adapters, "value_head": [D], "value_bias": []}, all trained."""


@dataclasses.dataclass(frozen=True)
class Critic:
    """The part of a critic that no step changes. Jitted functions take it as a static argument."""

    trunk: Policy
    """The model up to its last activations."""

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """Make the critic of a policy."""
        if policy.train_config.lora_rank or policy.config.tied:
            return cls(policy)
        # Without a matrix of its own for an LM head, which a critic does not use.
        config = dataclasses.replace(policy.config, tied=True)
        graphdef, _ = nnx.split(nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0))))
        return cls(dataclasses.replace(policy, config=config, graphdef=graphdef))

    def param_shapes(self, trainable: Params) -> CriticParams:
        """Return the parameters' shapes from the policy's trainable ones, or from their shapes."""
        return jax.eval_shape(self._from_policy, trainable)

    def init_params(self, trainable: Params) -> CriticParams:
        """Copy the policy's trainable parameters, and add a value head of zeros."""
        return placement.shard_params(jax.tree.map(jnp.copy, self._from_policy(trainable)))

    def _from_policy(self, trainable: Params) -> CriticParams:
        trunk = trainable
        if not self.trunk.train_config.lora_rank:
            trunk = nnx.State({key: x for key, x in trainable.items() if key != "lm_head"})
        head_D = jnp.zeros((self.trunk.config.width,), jnp.float32)
        return {"trunk": trunk, "value_head": head_D, "value_bias": jnp.float32(0.0)}

    def values(self, params: CriticParams, base: Params | None, tokens_BT: jax.Array) -> jax.Array:
        """Compute the value before every token but the first: float32 [B, T-1].

        `base` are the frozen weights under LoRA adapters, or None.
        """
        x_BTD, _ = self.trunk.hidden(Weights(params["trunk"], base), tokens_BT)
        head_BTD = jnp.broadcast_to(params["value_head"], x_BTD.shape)
        values_BT = jnp.sum(x_BTD.astype(jnp.float32) * head_BTD, axis=2) + params["value_bias"]
        return meshes.constrain_trainer(values_BT, "batch", "time")[:, :-1]
