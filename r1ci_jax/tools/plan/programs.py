"""Programs of a run, lowered for a mesh of described devices.

Each is the jitted function that the run itself calls, with shapes in place of arrays. A new one is
a function `(Setup) -> Program` in PROGRAMS.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from r1ci_jax.config import Experiment, GrpoConfig, SamplerConfig
from r1ci_jax.data import packing
from r1ci_jax.model import lora, qwen2, sampler_weights
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sampling import decode
from r1ci_jax.sampling.page_table import CacheLayout
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement
from r1ci_jax.text import protocol
from r1ci_jax.tools.plan import costs
from r1ci_jax.tools.plan.array_shapes import (
    batch_rows,
    device_bytes,
    replicated,
    with_shardings,
)
from r1ci_jax.tools.plan.hlo import Collective
from r1ci_jax.train import grpo_step, losses, microbatching, optimizer, sft, train_state
from r1ci_jax.train import policy as policies
from r1ci_jax.train.critic import critic_step
from r1ci_jax.train.critic.critic_model import Critic
from r1ci_jax.train.critic.value_loss import ValueSums
from r1ci_jax.train.critic.value_targets import TokenSums, ValueTargets
from r1ci_jax.train.objective.loss_settings import LossSettings
from r1ci_jax.train.policy import Policy, Weights

PARAMETERS, OPTIMIZER, GRADIENTS = "parameters", "optimizer", "gradients"
BASE, REFERENCE, INPUTS = "frozen parameters", "reference", "inputs"
SAMPLER, CACHE, TABLE = "sampler weights", "cache", "stop table"
CRITIC = "critic"
"""The critic's parameters and moments."""

QWEN_TOKENS = 151_665
"""Vocabulary of Qwen2.5's tokenizer; the embedding has more rows."""

FILLED = 0.25
"""Share of the longest trajectory that slots hold on average, by which a step's costs are given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """Experiment, architecture and mesh of a plan."""

    experiment: Experiment
    config: Qwen2Config
    mesh: Mesh
    grpo: GrpoConfig
    """Settings of the arm that is planned."""
    is_training: bool = True
    """A trainer's state is resident while the sampler runs."""

    @property
    def vocab_size(self) -> int:
        """Size of the tokenizer's vocabulary."""
        return min(self.config.vocab_size, QWEN_TOKENS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingCosts:
    """Costs of a trainer's passes, by arithmetic."""

    repeated_flops: float
    """Operations that the backward pass recomputes, over all devices."""
    collectives: tuple[Collective, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """One program that can be compiled, and its least costs."""

    lower: Callable[[], Any]
    step: str
    """Description of one step."""
    flops: float
    """Operations of one step, over all devices."""
    least_bytes: float
    """Bytes that one device must at least read and write in a step."""
    arguments: Mapping[str, Any]
    """Shapes and shardings of the arrays that the program reads, by what they are."""
    resident: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    """Those of arrays that are no arguments but stay while the program runs."""
    training: TrainingCosts | None = None
    """Costs of a trainer, whose loops the compiler counts as one iteration; None: sampler."""

    @property
    def resident_bytes(self) -> float:
        """Bytes of `resident` on each device."""
        return device_bytes(self.resident)

    @property
    def held_bytes(self) -> dict[str, float]:
        """Bytes on each device while the program runs, by what holds them; temporaries aside."""
        held: dict[str, float] = collections.defaultdict(float)
        for named in (self.arguments, self.resident):
            for name, tree in named.items():
                held[name] += device_bytes(tree)
        return {name: size for name, size in held.items() if size}

    def num_copies(self, config: Qwen2Config) -> int:
        """Number of arrays on the devices that are as large as the embedding.

        Weights, gradients, each moment, the reference and the sampler's weights have one each.
        """
        shape = (config.vocab_size, config.width)
        leaves = jax.tree.leaves((self.arguments, self.resident))
        return sum(leaf.shape == shape for leaf in leaves)


def split_arms(experiment: Experiment) -> list[tuple[tuple[str, ...], GrpoConfig]]:
    """Group the arms whose programs need the same memory: their names, and the first's settings.

    The group that needs the most comes first, as far as settings tell: a critic, a reference, rows.
    """
    found: dict[tuple[bool, bool, bool, int, int], tuple[list[str], GrpoConfig]] = {}
    for arm in experiment.arms:
        grpo = experiment.grpo_of(arm)
        has_adapters_twice = experiment.train.lora_rank > 0 and grpo.stages.reset_reference
        key = (
            grpo.has_critic,
            grpo.kl_coef > 0,
            grpo.kl_coef > 0 and has_adapters_twice,
            grpo.microbatch_tokens,
            grpo.sequence_lengths[-1],
        )
        found.setdefault(key, ([], grpo))[0].append(arm.name)
    ordered = sorted(found.items(), reverse=True)
    return [(tuple(names), grpo) for _, (names, grpo) in ordered] or [((), experiment.grpo)]


def decode_program(setup: Setup) -> Program:
    """Make the program of a decode chunk; a step is one token in every slot."""
    sampler, config = setup.experiment.sampler, setup.config
    layout, slots, weights, programs = _sampler(setup)
    table = _stop_table(setup)
    pages = None
    if not layout.has_whole_rows(sampler.slots):
        pages = replicated(setup.mesh, (sampler.slots, layout.pages_per_row), jnp.int32)
    return Program(
        lower=lambda: programs.decode_chunk.lower(
            slots,
            weights,
            table,
            pages,
            config=config,
            steps=sampler.chunk_steps,
            length=sampler.cache_length,
            stop_token_ids=(setup.vocab_size - 1,),
            num_guesses=sampler.speculative_tokens,
        ),
        step=f"one token in each of {sampler.slots} slots, {FILLED:.0%} of "
        f"{sampler.cache_length} tokens filled",
        flops=costs.decode_flops(config, sampler.slots, FILLED * sampler.cache_length),
        least_bytes=_read_bytes(setup, weights)
        + device_bytes(slots.cache) * _filled_share(sampler, layout),
        arguments={CACHE: slots, SAMPLER: weights, INPUTS: pages, TABLE: table},
        resident=_resident_trainer(setup),
    )


def _filled_share(sampler: SamplerConfig, layout: CacheLayout) -> float:
    """Return the share of the cache's pages that a step reads: those that hold tokens."""
    held = sampler.slots * FILLED * sampler.cache_length
    return min(1.0, held / (layout.num_pages * layout.page_length))


def prefill_program(setup: Setup) -> Program:
    """Make the program of one layer of a prefill call of the largest bucket."""
    sampler, config = setup.experiment.sampler, setup.config
    layout, slots, weights, programs = _sampler(setup)
    rows, tokens = layout.shards * layout.prefill_rows_per_shard, sampler.prefill_buckets[-1]
    pair, layer = slots.cache[0], weights.layers[0]
    dtype = weights.norm_D.dtype
    inputs = (
        batch_rows(setup.mesh, (rows, tokens, config.width), dtype),
        replicated(setup.mesh, (rows, tokens), jnp.int32),
        replicated(setup.mesh, (rows, layout.pages_per_row), jnp.int32),
    )
    x_ITD, positions, pages = inputs
    return Program(
        lower=lambda: programs.write_layer.lower(
            pair, x_ITD, layer, positions, pages, config=config
        ),
        step=f"{rows} rows of {tokens} tokens in one of {config.layers} layers",
        flops=costs.prefill_layer_flops(config, rows, tokens, tokens / 2),
        least_bytes=device_bytes(layer),
        arguments={CACHE: pair, SAMPLER: layer, INPUTS: inputs},
        resident={
            CACHE: slots._replace(cache=slots.cache[1:]),
            SAMPLER: weights._replace(layers=weights.layers[1:]),
            TABLE: _stop_table(setup),
            **_resident_trainer(setup),
        },
    )


def sft_program(setup: Setup) -> Program:
    """Make the program of a supervised step."""
    settings = setup.experiment.sft
    shape = (settings.batch_size, settings.sequence_length)
    trainer = _trainer(setup)
    tokens, positions, segments = (batch_rows(setup.mesh, shape, jnp.int32) for _ in range(3))
    mask = batch_rows(setup.mesh, shape, jnp.bool_)
    batch = packing.PackedBatch(tokens, positions, segments, mask)
    return Program(
        lower=lambda: sft.sft_step.lower(
            trainer.state,
            batch,
            trainer.base,
            policy=trainer.policy,
            tx=trainer.tx,
            num_microbatches=settings.num_microbatches,
        ),
        step=f"{shape[0]} rows of {shape[1]} tokens",
        flops=3 * costs.forward_flops(setup.config, *shape),
        # Weights are read forward and backward; the optimizer reads and writes gradients, two
        # moments and weights. Activations are not counted.
        least_bytes=10 * device_bytes(trainer.state.params),
        arguments={
            PARAMETERS: trainer.state.params,
            OPTIMIZER: trainer.state.opt_state,
            BASE: trainer.base,
            INPUTS: batch,
        },
        training=_training_costs(setup, shape, passes=settings.num_microbatches),
    )


def grpo_program(setup: Setup) -> Program:
    """Make the program of the gradients of one microbatch of the longest rows.

    The reference's forward pass over the same rows is a program of its own, and smaller: its costs
    are counted here, and its weights are resident.
    """
    settings = setup.grpo
    length = settings.sequence_lengths[-1]
    shape = rows, _ = settings.microbatch_rows(length, meshes.num_batch_shards(setup.mesh)), length
    trainer, loss = _trainer(setup), LossSettings.of(settings)
    numbers_BT, numbers_B = (batch_rows(setup.mesh, s, jnp.float32) for s in (shape, (rows,)))
    batch = microbatching.Microbatch(
        tokens_BT=batch_rows(setup.mesh, shape, jnp.int32),
        sampled_BT=batch_rows(setup.mesh, shape, jnp.bool_),
        old_logprobs_BT=numbers_BT,
        on_policy_BT=batch_rows(setup.mesh, shape, jnp.bool_),
        advantages_B=numbers_B,
        ref_logprobs_BT=numbers_BT if loss.kl_coef else None,
        sampler_logprobs_BT=numbers_BT if loss.has_importance else None,
        prompt_tokens_B=numbers_B if loss.aggregation == "prompt_mean" else None,
        advantages_BT=numbers_BT if settings.has_critic else None,
    )
    params = trainer.state.params
    references = int(settings.kl_coef > 0)
    scalar = replicated(setup.mesh, (), jnp.float32)
    total = grpo_step.GradAccumulator(
        gradients=params,
        sums=losses.GrpoSums.filled(scalar, loss),
        entropy=scalar,
    )
    return Program(
        lower=lambda: grpo_step.accumulate_gradients.lower(
            total,
            Weights(params, trainer.base),
            batch,
            policy=trainer.policy,
            temperature=settings.temperature,
            settings=loss,
        ),
        step=f"a microbatch of {rows} rows of {length} tokens",
        flops=(3 + references) * costs.forward_flops(setup.config, *shape),
        least_bytes=5 * device_bytes(params),
        arguments={GRADIENTS: total, PARAMETERS: params, BASE: trainer.base, INPUTS: batch},
        # The sampler's weights and its cache are freed meanwhile.
        resident={
            OPTIMIZER: trainer.state.opt_state,
            REFERENCE: trainer.reference,
            CRITIC: trainer.critic,
            TABLE: _stop_table(setup),
        },
        training=_training_costs(setup, shape, passes=1, references=references),
    )


def critic_program(setup: Setup) -> Program:
    """Make the program of the critic's gradients of one microbatch of the longest rows.

    The pass that computes the values before the step is a program of its own, and smaller: its
    costs are counted here. The policy's gradients are there before or after, never meanwhile.
    """
    settings = setup.grpo
    length = settings.sequence_lengths[-1]
    rows = settings.microbatch_rows(length, meshes.num_batch_shards(setup.mesh))
    trainer, scalar = _trainer(setup), replicated(setup.mesh, (), jnp.float32)
    assert trainer.critic is not None, "the arm has no critic"
    params = trainer.critic.params
    numbers_BT = batch_rows(setup.mesh, (rows, length - 1), jnp.float32)
    estimates = critic_step.Estimates(
        chosen_BT=batch_rows(setup.mesh, (rows, length - 1), jnp.bool_),
        values_BT=numbers_BT,
        targets=ValueTargets(numbers_BT, numbers_BT),
        sums=TokenSums(scalar, scalar, scalar, scalar),
        kl=scalar,
    )
    tokens_BT = batch_rows(setup.mesh, (rows, length), jnp.int32)
    total = critic_step.ValueAccumulator(params, ValueSums(scalar, scalar, scalar))
    headless = dataclasses.replace(setup, config=dataclasses.replace(setup.config, vocab_size=0))
    return Program(
        lower=lambda: critic_step.accumulate_gradients.lower(
            total,
            params,
            trainer.base,
            tokens_BT,
            estimates,
            critic=Critic.of(trainer.policy),
            value_clip=settings.critic.value_clip,
        ),
        step=f"a microbatch of {rows} rows of {length} tokens",
        flops=4 * costs.forward_flops(headless.config, rows, length),
        least_bytes=5 * device_bytes(params),
        arguments={
            GRADIENTS: total,
            CRITIC: params,
            BASE: trainer.base,
            INPUTS: (tokens_BT, estimates),
        },
        resident={
            CRITIC: trainer.critic.opt_state,
            PARAMETERS: trainer.state.params,
            OPTIMIZER: trainer.state.opt_state,
            REFERENCE: trainer.reference,
            TABLE: _stop_table(setup),
        },
        training=_training_costs(headless, (rows, length), passes=1, references=1),
    )


PROGRAMS: Mapping[str, Callable[[Setup], Program]] = {
    "decode": decode_program,
    "prefill": prefill_program,
    "sft": sft_program,
    "grpo": grpo_program,
    "critic": critic_program,
}


def parts_of(experiment: Experiment) -> tuple[str, ...]:
    """Return the programs that an experiment has: all, the critic's if an arm has a critic."""
    has_critic = any(grpo.has_critic for _, grpo in split_arms(experiment))
    return tuple(name for name in PROGRAMS if has_critic or name != "critic")


class _Sampler(NamedTuple):
    layout: CacheLayout
    slots: decode.SlotState
    weights: qwen2.DecoderWeights
    programs: decode.Programs


def _sampler(setup: Setup) -> _Sampler:
    """Make sharded shapes of the sampler's state and weights, and its programs."""
    sampler, mesh, config = setup.experiment.sampler, setup.mesh, setup.config
    layout = CacheLayout.of(sampler, meshes.num_batch_shards(mesh), platform=meshes.platform(mesh))
    slots = jax.eval_shape(
        functools.partial(
            decode.init_slots,
            config,
            sampler.slots,
            layout.num_pages,
            layout.segments(sampler.slots),
            sampler.dtype,
            sampler.cache_quantization,
            length=sampler.cache_length,
        )
    )

    model = nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))
    weights = sampler_weights.weight_shapes(
        model, config, dtype=sampler.dtype, quantization=sampler.weight_quantization
    )
    shardings = decode.state_shardings(mesh, slots)
    return _Sampler(
        layout,
        with_shardings(slots, shardings),
        with_shardings(weights, sampler_weights.shardings(mesh, weights)),
        decode.compile_programs(mesh, shardings),
    )


def _stop_table(setup: Setup) -> Any:
    states = len(protocol.stop_machine().stop_A)
    return decode.StopTable(
        next_state_AV=replicated(setup.mesh, (states, setup.vocab_size), jnp.int16),
        stop_A=replicated(setup.mesh, (states,), jnp.int8),
    )


class _Trainer(NamedTuple):
    state: train_state.TrainState
    base: Any
    reference: Any
    """Weights of the reference that are neither trained nor `base`."""
    critic: train_state.TrainState | None
    tx: Any
    policy: Policy


def _trainer(setup: Setup) -> _Trainer:
    """Make shapes of the training state on the mesh, its optimizer and the policy."""
    config, train = setup.config, setup.experiment.train
    graphdef, params = nnx.split(nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0))))
    base = None
    if train.lora_rank:
        base = placement.abstract_params(params, setup.mesh)
        init = functools.partial(lora.init, config, train.lora_rank)
        params = jax.eval_shape(init, jax.random.key(0))
    settings = setup.experiment.sft
    tx = optimizer.make_optimizer(
        optimizer.constant_schedule(settings.lr), clip_norm=settings.clip_norm
    )
    placed = train_state.abstract_state(params, tx, setup.mesh)
    # Without adapters the reference is a copy; with them it is the base, unless it changes.
    has_copy = setup.grpo.kl_coef > 0 and (base is None or setup.grpo.stages.reset_reference)
    policy = Policy(config, graphdef, setup.vocab_size, policies.resolve_attention(train, "tpu"))
    critic = None
    if setup.grpo.has_critic:
        shapes = Critic.of(policy).param_shapes(params)
        critic = train_state.abstract_state(shapes, tx, setup.mesh)
    return _Trainer(placed, base, placed.params if has_copy else None, critic, tx, policy)


def _resident_trainer(setup: Setup) -> dict[str, Any]:
    """Make shapes of what a GRPO trainer keeps while it samples: states, and the reference."""
    if not setup.is_training:
        return {}
    trainer = _trainer(setup)
    return {
        PARAMETERS: trainer.state.params,
        OPTIMIZER: trainer.state.opt_state,
        BASE: trainer.base,
        REFERENCE: trainer.reference,
        CRITIC: trainer.critic,
    }


def _training_costs(
    setup: Setup, shape: tuple[int, int], *, passes: int, references: int = 0
) -> TrainingCosts:
    how, (rows, tokens) = setup.experiment.train, shape
    return TrainingCosts(
        repeated_flops=costs.repeated_flops(setup.config, rows, tokens, how.remat),
        collectives=costs.training_collectives(
            setup.config,
            setup.experiment.mesh,
            how,
            rows=rows,
            tokens=tokens,
            num_microbatches=passes,
            num_reference_passes=references,
        ),
    )


def _read_bytes(setup: Setup, weights: qwen2.DecoderWeights) -> float:
    """Bytes of the weights that every step reads fully: all but an untied embedding."""
    spared = 0.0 if setup.config.tied else device_bytes(weights.embed_VD)
    return device_bytes(weights) - spared
