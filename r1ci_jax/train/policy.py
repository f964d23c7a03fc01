"""The policy of a run: architecture, weights, log-probabilities and loss of its tokens."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from r1ci_jax.config import Experiment, SamplerConfig, TrainConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model import lora, presets, qwen2, sampler_weights
from r1ci_jax.model.hf import weights
from r1ci_jax.sharding import placement
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import lm_head, load_model
from r1ci_jax.train.lm_head import TokenLoss, TokenScores

_NOT_QUANTIZED = SamplerConfig()

Params = Any
"""The model's `nnx.State` of parameters."""


class Weights(NamedTuple):
    """All weights of a policy, split into what training changes and what it does not.

    `Policy.split_trainable` makes the pair, `Policy.merge_weights` is its inverse.
    """

    trainable: Params
    """All parameters, or LoRA adapters alone."""
    base: Params | None = None
    """Frozen parameters under the adapters; None where everything is trained."""


class LoadedPolicy(NamedTuple):
    """Policy and tokenizer of an experiment, without any weights."""

    policy: "Policy"
    tokenizer: Tokenizer


@dataclasses.dataclass(frozen=True)
class Policy:
    """The part of a policy that no step changes. Jitted functions take it as a static argument."""

    config: qwen2.Qwen2Config
    graphdef: nnx.GraphDef
    vocab_size: int
    """Number of the tokenizer's ids; the embedding may have more rows."""
    train_config: TrainConfig = qwen2.DEFAULT_COMPUTE
    """Compute settings of the trainers."""

    @property
    def abstract_params(self) -> Params:
        """Shapes and shardings of all parameters of a trainer on the current mesh."""
        return placement.abstract_params(_param_shapes(self.config))

    def split_trainable(self, params: Params, *, seed: int) -> Weights:
        """Split parameters for training: all are trainable, or with LoRA new adapters alone."""
        if not self.train_config.lora_rank:
            return Weights(params)
        init = jax.jit(functools.partial(lora.init, self.config, self.train_config.lora_rank))
        adapters = init(jax.random.key(seed))
        return Weights(placement.shard_params(adapters), params)

    def merge_weights(self, weights: Weights) -> Params:
        """Undo `split_trainable`: return all parameters, adapters merged into them."""
        if weights.base is None:
            return weights.trainable
        merge = jax.jit(lora.merge_params, static_argnums=2)
        return merge(weights.base, weights.trainable, self._lora_scale)

    def logprobs_and_entropy(
        self,
        weights: Weights,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
        *,
        mask_BT: jax.Array | None = None,
        temperature: float = 1.0,
    ) -> TokenScores:
        """Compute log-probability and entropy of every token but the first: two [B, T-1] arrays.

        With `mask_BT`, [B, T-1], only tokens where it is True are computed; the others are zero.

        The distribution is over the tokenizer's ids alone, as the sampler's is: a checkpoint has
        more embedding rows than there are tokens.
        """
        x_BTD, weight = self.hidden(weights, tokens_BT, positions_BT, segments_BT)
        if mask_BT is None:
            mask_BT = jnp.ones(tokens_BT[:, 1:].shape, bool)
        scores = lm_head.token_scores(
            self._lm_head(temperature),
            x_BTD,
            weight,
            _pad_last(tokens_BT[:, 1:]),
            _pad_last(mask_BT),
        )
        return _drop_last(scores)

    def loss(
        self,
        token_loss: TokenLoss,
        weights: Weights,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
        *,
        mask_BT: jax.Array,
        inputs: tuple[jax.Array | None, ...],
        complete_inputs: Callable[[jax.Array], tuple[jax.Array | None, ...]] | None = None,
        temperature: float = 1.0,
    ) -> tuple[jax.Array, TokenScores]:
        """Sum `token_loss(logprobs, *inputs)` over the tokens in `mask_BT`; also their scores.

        Args:
            token_loss: The loss of each token, as `lm_head.lm_head_loss` takes it.
            weights: Take the gradient with respect to `weights.trainable`.
            tokens_BT: Token ids.
            positions_BT: Position of each token in its sequence; None counts from 0.
            segments_BT: Number of each token's sequence in a packed row; None is one per row.
            mask_BT: [B, T-1], True at every token but the first that has a loss.
            inputs: Further arguments of `token_loss`, arrays [B, T-1] or None.
            complete_inputs: Makes the arguments that replace `inputs` from the log-probabilities
                [B, T-1] of the same weights, without a gradient: for a loss whose tokens depend on
                each other. It costs one more matmul of the LM head, and no second pass through
                the layers.
            temperature: Temperature at which the tokens were sampled.
        """
        x_BTD, weight = self.hidden(weights, tokens_BT, positions_BT, segments_BT)
        head = self._lm_head(temperature)
        targets = _pad_last(tokens_BT[:, 1:]), _pad_last(mask_BT)
        if complete_inputs is not None:
            fixed = jax.lax.stop_gradient((x_BTD, weight))
            first_scores = lm_head.token_scores(head, *fixed, *targets)
            inputs = complete_inputs(_drop_last(first_scores).logprobs_BT)
        loss, scores = lm_head.lm_head_loss(
            head, token_loss, x_BTD, weight, *targets, jax.tree.map(_pad_last, inputs)
        )
        return loss, _drop_last(scores)

    def hidden(
        self,
        weights: Weights,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Compute activations [B, T, D] after the final norm; also return the LM head's weight."""
        rows = tokens_BT, positions_BT, None, segments_BT
        if weights.base is None:
            model = nnx.merge(self.graphdef, weights.trainable)
            return model.hidden_and_lm_head(*rows, compute=self.train_config)
        adapt = functools.partial(lora.adapt_layer, scale=self._lora_scale)
        adapters = weights.trainable["layers"]
        model = nnx.merge(self.graphdef, weights.base)
        return model.hidden_and_lm_head(
            *rows, adapt=adapt, adapters=adapters, compute=self.train_config
        )

    def _lm_head(self, temperature: float) -> lm_head.LmHead:
        return lm_head.LmHead(
            is_tied=self.config.tied,
            vocab_size=self.vocab_size,
            temperature=temperature,
            chunk_size=self.train_config.logits_chunk,
        )

    @property
    def _lora_scale(self) -> float:
        return self.train_config.lora_alpha / self.train_config.lora_rank

    def to_sampler_weights(
        self, weights: Weights, sampler: SamplerConfig = _NOT_QUANTIZED
    ) -> qwen2.DecoderWeights:
        """Convert all weights to the sampler's layout, dtype and sharding."""
        return sampler_weights.from_trainer_params(
            self.merge_weights(weights),
            self.config,
            dtype=sampler.dtype,
            quantization=sampler.weight_quantization,
        )


def load(experiment: Experiment, tokenizer_dir: Path) -> LoadedPolicy:
    """Load the policy and its tokenizer, and check the files of its weights.

    `tokenizer_dir` holds the run's own tokenizer, used when the experiment names none.
    """
    source = experiment.model
    path = source.tokenizer or source.checkpoint or str(tokenizer_dir)
    tokenizer = load_model.load_tokenizer(path, source.checkpoint)
    if source.checkpoint:
        config = weights.open_checkpoint(source.checkpoint).config
        if source.architecture:
            presets.require_architecture(source.architecture, config, source.checkpoint)
    else:
        config = load_model.architecture(experiment)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer at {path} has {tokenizer.vocab_size} tokens, the model only "
            f"{config.vocab_size} embeddings; choose a smaller tokenizer "
            "(model.tokenizer_vocab) or another model"
        )
    graphdef, _ = nnx.split(_model_shapes(config))
    train_config = resolve_attention(experiment.train, jax.devices()[0].platform)
    return LoadedPolicy(Policy(config, graphdef, tokenizer.vocab_size, train_config), tokenizer)


def load_untrained(experiment: Experiment, policy: Policy) -> Params:
    """Load an experiment's weights before any training, sharded over the mesh.

    They are not kept anywhere: whoever trains them uses them up.
    """
    if experiment.model.checkpoint:
        model = weights.load_pretrained(experiment.model.checkpoint)
    else:
        model = _init_program(policy.config)(jax.random.key(experiment.seed))
    return placement.shard_params(nnx.split(model)[1])


@functools.cache
def _init_program(config: qwen2.Qwen2Config) -> Callable[[jax.Array], qwen2.Qwen2]:
    """One compiled call: initializing op by op takes longer than a training step.

    It is kept, since a run begins more than once: each evaluation of the untrained model does.
    """
    return nnx.jit(lambda key: qwen2.Qwen2(config, rngs=nnx.Rngs(key)))


def _model_shapes(config: qwen2.Qwen2Config) -> qwen2.Qwen2:
    return nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))


def _param_shapes(config: qwen2.Qwen2Config) -> Params:
    return nnx.split(_model_shapes(config))[1]


def resolve_attention(train_config: TrainConfig, platform: str) -> TrainConfig:
    """Replace attention "auto" by the implementation for this platform.

    Raises:
        UserError: the experiment wants the TPU kernel on another platform.
    """
    if train_config.attention == "splash" and platform != "tpu":
        raise UserError(
            f'train.attention = "splash" is for TPUs, this is a {platform}; set it to "auto"'
        )
    if train_config.attention == "auto" and platform == "tpu":
        return dataclasses.replace(train_config, attention="splash")
    return train_config


def _pad_last(x_BT: jax.Array) -> jax.Array:
    """Move [B, T-1] arrays, one entry per token but the first, to the positions that predict them.

    Rows keep their length T, which suits the hardware; the last position is masked.
    """
    return jnp.pad(x_BT, ((0, 0), (0, 1)))


def _drop_last(scores: TokenScores) -> TokenScores:
    return jax.tree.map(lambda x_BT: x_BT[:, :-1], scores)
