"""The policy of a run: its tokenizer, its architecture, its first weights, and how it is scored."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from r1ci_jax.config import Experiment, SamplerConfig, TrainConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model import lora, presets, qwen2, sampler_weights
from r1ci_jax.model.hf import weights
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import lm_head, load_model
from r1ci_jax.train.lm_head import TokenLoss, TokenScores

_IN_FULL = SamplerConfig()

Params = Any
"""The model's `nnx.State` of parameters."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """What stays the same while the weights move."""

    config: qwen2.Qwen2Config
    graphdef: nnx.GraphDef
    tokenizer: Tokenizer
    train_config: TrainConfig = qwen2.DEFAULT_COMPUTE
    """How trainers compute."""

    def split_trainable(self, params: Params, *, seed: int) -> tuple[Params, Params | None]:
        """What training moves and what it leaves alone: all and None, or with LoRA adapters."""
        if not self.train_config.lora_rank:
            return params, None
        init = jax.jit(functools.partial(lora.init, self.config, self.train_config.lora_rank))
        adapters = init(jax.random.key(seed))
        mesh = jax.sharding.get_mesh()
        if not mesh.empty:
            adapters = meshes.device_put_global(adapters, meshes.param_shardings(mesh, adapters))
        return adapters, params

    def merge_adapters(self, params: Params, frozen: Params | None) -> Params:
        """The inverse of `trainable`: all weights, adapters merged into them."""
        if frozen is None:
            return params
        return jax.jit(lora.merge_params, static_argnums=2)(frozen, params, self._lora_scale)

    def logprobs_and_entropy(
        self,
        params: Params,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
        *,
        counted_BT: jax.Array | None = None,
        frozen: Params | None = None,
        temperature: float = 1.0,
    ) -> TokenScores:
        """Log-probability and entropy of every token but the first: two [B, T-1] arrays.

        With `counted_BT`, [B, T-1], only of those where it is True, else zeros, for less time.

        The distribution is over the tokenizer's ids alone, as the sampler's is: a checkpoint has
        more embedding rows than there are tokens.
        """
        x_BTD, weight = self._hidden(params, frozen, tokens_BT, positions_BT, segments_BT)
        if counted_BT is None:
            counted_BT = jnp.ones(tokens_BT[:, 1:].shape, bool)
        scored = lm_head.token_scores(
            self._head(temperature),
            x_BTD,
            weight,
            _pad_last(tokens_BT[:, 1:]),
            _pad_last(counted_BT),
        )
        return _drop_last(scored)

    def loss(
        self,
        token_loss: TokenLoss,
        params: Params,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
        *,
        counted_BT: jax.Array,
        inputs: tuple[jax.Array, ...],
        frozen: Params | None = None,
        temperature: float = 1.0,
    ) -> tuple[jax.Array, TokenScores]:
        """Sum of `token_loss(logprobs, *inputs)` over the tokens that count, and their scores.

        Args:
            token_loss: As `head.lm_head_loss` takes it.
            params: What the gradient is taken by, as `trainable` gave it.
            tokens_BT: Token ids.
            positions_BT: As `Qwen2.hidden` takes them.
            segments_BT: As `Qwen2.hidden` takes them.
            counted_BT: [B, T-1], True at every token but the first that counts.
            inputs: Arrays [B, T-1] that say how much it does.
            frozen: The other weights, as `trainable` gave them.
            temperature: At which the tokens were sampled.
        """
        x_BTD, weight = self._hidden(params, frozen, tokens_BT, positions_BT, segments_BT)
        loss, scored = lm_head.lm_head_loss(
            self._head(temperature),
            token_loss,
            x_BTD,
            weight,
            _pad_last(tokens_BT[:, 1:]),
            _pad_last(counted_BT),
            jax.tree.map(_pad_last, inputs),
        )
        return loss, _drop_last(scored)

    def _hidden(
        self,
        params: Params,
        frozen: Params | None,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None,
        segments_BT: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        rows = tokens_BT, positions_BT, None, segments_BT
        if frozen is None:
            return nnx.merge(self.graphdef, params).hidden_and_lm_head(
                *rows, compute=self.train_config
            )
        adapt = functools.partial(lora.merge_layer, scale=self._lora_scale)
        model = nnx.merge(self.graphdef, frozen)
        return model.hidden_and_lm_head(
            *rows, adapt=adapt, adapters=params["layers"], compute=self.train_config
        )

    def _head(self, temperature: float) -> lm_head.LmHead:
        return lm_head.LmHead(
            is_tied=self.config.tied,
            vocab_size=self.tokenizer.vocab_size,
            temperature=temperature,
            chunk_size=self.train_config.logits_chunk,
        )

    @property
    def _lora_scale(self) -> float:
        return self.train_config.lora_alpha / self.train_config.lora_rank

    def sampler_weights(
        self, params: Params, sampler: SamplerConfig = _IN_FULL, frozen: Params | None = None
    ) -> qwen2.DecoderWeights:
        """All weights as the sampler holds them, cut over the mesh if there is one."""
        mesh = jax.sharding.get_mesh()
        return sampler_weights.from_trainer_params(
            self.merge_adapters(params, frozen),
            self.config,
            dtype=sampler.dtype,
            quantization=sampler.weight_quantization,
            mesh=None if mesh.empty else mesh,
        )


def load(experiment: Experiment, tokenizer_dir: Path) -> tuple[Policy, Params]:
    """The policy and its weights before any training.

    `tokenizer_dir` is where the run's own tokenizer was saved, used when the experiment names none.
    """
    source = experiment.model
    path = source.tokenizer or source.checkpoint or str(tokenizer_dir)
    tokenizer = tokenizers.load(path)
    if source.checkpoint:
        model = weights.load_pretrained(source.checkpoint)
        if source.architecture:
            presets.require_architecture(source.architecture, model.config, source.checkpoint)
    else:
        config = load_model.architecture(experiment)
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
        params = meshes.device_put_global(params, meshes.param_shardings(mesh, params))
    how = resolve_attention(experiment.train, jax.devices()[0].platform)
    return Policy(model.config, graphdef, tokenizer, how), params


def resolve_attention(train_config: TrainConfig, platform: str) -> TrainConfig:
    """The settings with the attention that this platform has.

    Raises:
        UserError: the experiment asks for the TPU's kernel elsewhere.
    """
    if train_config.attention == "splash" and platform != "tpu":
        raise UserError(
            f'train.attention = "splash" is for TPUs, this is a {platform}; set it to "auto"'
        )
    if train_config.attention == "auto" and platform == "tpu":
        return dataclasses.replace(train_config, attention="splash")
    return train_config


def _pad_last(x_BT: jax.Array) -> jax.Array:
    """What belongs to each token but the first, at the position before it.

    Rows keep their length, which suits the hardware: the last position counts nowhere.
    """
    return jnp.pad(x_BT, ((0, 0), (0, 1)))


def _drop_last(scores: TokenScores) -> TokenScores:
    return jax.tree.map(lambda x_BT: x_BT[:, :-1], scores)
