"""The policy of a run: its tokenizer, its architecture, its first weights, and how it is scored."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from r1ci_jax.core.config import Experiment, Storage
from r1ci_jax.errors import UserError
from r1ci_jax.model import held, presets, qwen2, weights
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import losses

Params = Any
"""The model's `nnx.State` of parameters."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """What stays the same while the weights move."""

    config: qwen2.Qwen2Config
    graphdef: nnx.GraphDef
    tokenizer: Tokenizer

    def logprobs(
        self,
        params: Params,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[jax.Array, jax.Array]:
        """Log-probability and entropy of every token but the first: two [B, T-1] arrays.

        The distribution is over the tokenizer's ids alone, as the sampler's is: a checkpoint has
        more embedding rows than there are tokens.
        """
        model = nnx.merge(self.graphdef, params)
        inputs = (None if x is None else x[:, :-1] for x in (positions_BT, segments_BT))
        positions_BT, segments_BT = inputs
        x_BTD = model.hidden(tokens_BT[:, :-1], positions_BT, None, segments_BT)
        head_DV = model.embed[...].T if model.head is None else model.head[...]
        return losses.token_logprobs(
            x_BTD,
            head_DV[:, : self.tokenizer.vocab_size],
            tokens_BT[:, 1:],
            temperature=temperature,
        )

    def sampler_weights(self, params: Params, storage: Storage = "full") -> qwen2.DecoderWeights:
        """The weights in the sampler's layout, cut over the mesh if there is one."""
        mesh = jax.sharding.get_mesh()
        return held.take(params, self.config, storage=storage, mesh=None if mesh.empty else mesh)


def load(experiment: Experiment, tokenizer_dir: Path) -> tuple[Policy, Params]:
    """The policy and its weights before any training.

    `tokenizer_dir` is where the run's own tokenizer was saved, used when the experiment names none.
    """
    source = experiment.model
    path = source.tokenizer or source.checkpoint or str(tokenizer_dir)
    tokenizer = tokenizers.load(path)
    if source.checkpoint:
        model = weights.load_pretrained(source.checkpoint)
    else:
        config = presets.get(source.preset)
        # One compiled call: initialising op by op takes longer than a training step.
        key = jax.random.key(experiment.seed)
        model = nnx.jit(lambda key: qwen2.Qwen2(config, rngs=nnx.Rngs(key)))(key)
    graphdef, params = nnx.split(model)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"the tokenizer at {path} has {tokenizer.vocab_size} tokens, the model only "
            f"{model.config.vocab_size} embeddings; choose a smaller tokenizer "
            "(model.tokenizer_vocab) or another model"
        )
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        params = jax.device_put(params, meshes.param_shardings(mesh, params))
    return Policy(model.config, graphdef, tokenizer), params
