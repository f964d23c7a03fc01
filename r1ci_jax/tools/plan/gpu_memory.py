"""Memory of a run on one GPU, by arithmetic: nothing is compiled, and no GPU is needed.

Weights, optimizer, gradients, adapters and the KV cache are counted from the shapes of the run's
own arrays, so they are exact. What a program needs besides is estimated: the activations that
`train.remat` saves, one layer's at work, attention scores, and a chunk of logits. A compiler may
need less, where it fuses, or more, where it copies.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jax.numpy as jnp

from r1ci_jax.config import Experiment, Remat
from r1ci_jax.errors import UserError, did_you_mean
from r1ci_jax.model.paged_attention import LONGEST_BLOCK
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.model.self_attention import BLOCK
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tools.plan import programs
from r1ci_jax.tools.plan.array_shapes import device_bytes

GPUS: Final[Mapping[str, float]] = {
    "t4-16": 16e9, "v100-32": 32e9, "rtx3090-24": 24e9, "rtx4090-24": 24e9, "l4-24": 24e9,
    "a10-24": 24e9, "rtx5090-32": 32e9, "a100-40": 40e9, "l40s-48": 48e9, "a100-80": 80e9,
    "h100-80": 80e9, "h200-141": 141e9, "b200-180": 180e9,
}  # fmt: skip
"""Memory in bytes, as published."""

DEFAULT_SHARE: Final = 0.75
"""Share of the memory that JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise."""
USABLE_SHARE: Final = 0.93
"""Largest share to set there: the driver and the libraries need the rest."""

ACTIVATIONS, LAYER, SCORES = "saved activations", "one layer", "attention scores"
LOGITS, HEAD, SUMS = "logits", "head", "gradients"


@dataclass(frozen=True, kw_only=True)
class PartMemory:
    """Bytes of one program on the GPU."""

    part: str
    step: str
    held: Mapping[str, float]
    """Arrays that exist while the program runs, by what they hold; exact."""
    temporaries: Mapping[str, float]
    """What the program needs besides, by what it is for; estimated."""

    @property
    def needed(self) -> float:
        """Sum of all."""
        return sum(self.held.values()) + sum(self.temporaries.values())


@dataclass(frozen=True, kw_only=True)
class GpuPlan:
    """All parts on one GPU."""

    gpu: str
    experiment: Experiment
    parts: tuple[PartMemory, ...]

    @property
    def most(self) -> float:
        """Bytes of the part that needs the most."""
        return max(part.needed for part in self.parts)

    @property
    def fits(self) -> bool:
        """True if all parts fit into what can be used of the GPU's memory."""
        return self.most <= USABLE_SHARE * GPUS[self.gpu]


def make_plan(
    experiment: Experiment,
    config: Qwen2Config,
    *,
    gpu: str,
    parts: Sequence[str],
    is_training: bool,
) -> GpuPlan:
    """Count the memory of the parts.

    Raises:
        UserError: The GPU is unknown, the mesh has several devices, or a part is not there.
    """
    find_gpu(gpu)
    if experiment.mesh.num_devices > 1:
        raise UserError(
            f"--gpu plans for one GPU, and the mesh of {experiment.name} has "
            f"{experiment.mesh.num_devices} devices; add --config.mesh.slices=1 "
            "--config.mesh.data=1 --config.mesh.fsdp=1 --config.mesh.tensor=1"
        )
    _, grpo = programs.split_arms(experiment)[0]
    if "critic" in parts and not grpo.has_critic:
        raise UserError("no arm of the experiment has a critic to plan; leave the part out")
    setup = programs.Setup(
        experiment=experiment,
        config=config,
        mesh=meshes.one_device(),
        grpo=grpo,
        is_training=is_training,
    )
    return GpuPlan(
        gpu=gpu, experiment=experiment, parts=tuple(count_part(name, setup) for name in parts)
    )


def find_gpu(name: str) -> float:
    """Return the memory of a GPU in bytes.

    Raises:
        UserError: It is not in the table.
    """
    if name not in GPUS:
        hint = did_you_mean(name, GPUS)
        raise UserError(f"no GPU {name!r}; {hint}there are: {', '.join(GPUS)}")
    return GPUS[name]


def count_part(name: str, setup: programs.Setup) -> PartMemory:
    """Count the memory of one part."""
    program = programs.PROGRAMS[name](setup)
    return PartMemory(
        part=name,
        step=program.step,
        held=program.held_bytes,
        temporaries=_TEMPORARIES[name](setup, program),
    )


# ---- what a program needs besides ----------------------------------------------------------------


def layer_entries(config: Qwen2Config) -> int:
    """Entries of one token's activations in one layer.

    Two norms' outputs, queries and the mix of values, keys and values, the outputs of attention and
    feed-forward, and the three arrays of the gate.
    """
    heads, kv_heads = config.query_heads * config.head_dim, config.kv_heads * config.head_dim
    return 4 * config.width + 2 * heads + 2 * kv_heads + 3 * config.mlp_width


def saved_entries(config: Qwen2Config, remat: Remat) -> int:
    """Entries of one token and layer that a trainer saves for the backward pass."""
    heads, kv_heads = config.query_heads * config.head_dim, config.kv_heads * config.head_dim
    matmuls = heads + 2 * kv_heads + 2 * config.mlp_width + 2 * config.width
    return (
        config.width
        + {
            "layer": 0,
            "attention": heads,
            "dots": matmuls,
            "none": layer_entries(config),
        }[remat]
    )


def score_bytes(config: Qwen2Config, rows: int, tokens: int) -> float:
    """Bytes of the float32 scores that exist at a time: of a block of queries, or of all."""
    queries = BLOCK if tokens > 2 * BLOCK else tokens
    return 4.0 * rows * config.query_heads * queries * tokens


def training_temporaries(
    setup: programs.Setup, rows: int, tokens: int, *, logits: int = 2
) -> dict[str, float]:
    """Temporary bytes of a forward and backward pass over rows of text.

    A layer and its scores count twice: themselves and their gradients. So do the logits, or
    `logits` times: GRPO's entropy takes them once more, a critic has none.
    """
    config, how = setup.config, setup.experiment.train
    item, positions = jnp.dtype(how.dtype).itemsize, rows * tokens
    found = {
        ACTIVATIONS: float(item * positions * config.layers * saved_entries(config, how.remat)),
        LAYER: 2.0 * item * positions * layer_entries(config),
        SCORES: 2 * score_bytes(config, rows, tokens),
    }
    if not logits:
        return found
    # The head in the training dtype, and the float32 sum of its gradient if it is trained.
    copies = (item if how.dtype != "float32" else 0) + (0 if how.lora_rank else 4)
    chunk = min(how.logits_chunk, positions)
    return found | {
        LOGITS: 4.0 * logits * chunk * config.vocab_size,
        HEAD: float(copies * config.vocab_size * config.width),
    }


def _of_sft(setup: programs.Setup, program: programs.Program) -> dict[str, float]:
    settings = setup.experiment.sft
    rows = settings.batch_size // settings.num_microbatches
    gradients = device_bytes(program.arguments[programs.PARAMETERS])
    return training_temporaries(setup, rows, settings.sequence_length) | {SUMS: gradients}


def _of_grpo(setup: programs.Setup, program: programs.Program) -> dict[str, float]:
    del program
    length = setup.grpo.sequence_lengths[-1]
    return training_temporaries(setup, setup.grpo.microbatch_rows(length, 1), length, logits=3)


def _of_critic(setup: programs.Setup, program: programs.Program) -> dict[str, float]:
    del program
    length = setup.grpo.sequence_lengths[-1]
    rows = setup.grpo.microbatch_rows(length, 1)
    return training_temporaries(setup, rows, length, logits=0)


def _of_decode(setup: programs.Setup, program: programs.Program) -> dict[str, float]:
    del program
    # Logits, their sorted copy for the filters, and the probabilities.
    return {LOGITS: 3.0 * 4 * setup.experiment.sampler.slots * setup.config.vocab_size}


def _of_prefill(setup: programs.Setup, program: programs.Program) -> dict[str, float]:
    del program
    sampler, config = setup.experiment.sampler, setup.config
    rows, tokens = sampler.prefill_rows, sampler.prefill_buckets[-1]
    item = jnp.dtype(sampler.dtype).itemsize
    # Keys are visited a block of a page at a time; the mix of values so far is kept in float32.
    keys = min(LONGEST_BLOCK, sampler.cache_length)
    return {
        LAYER: float(item * rows * tokens * layer_entries(config)),
        SCORES: 4.0 * rows * config.query_heads * tokens * (keys + config.head_dim),
    }


_TEMPORARIES: Final[Mapping[str, Callable[..., dict[str, float]]]] = {
    "decode": _of_decode,
    "prefill": _of_prefill,
    "sft": _of_sft,
    "grpo": _of_grpo,
    "critic": _of_critic,
}

# ---- for people and programs ---------------------------------------------------------------------


def make_report(plan: GpuPlan) -> dict[str, Any]:
    """Describe the plan as JSON values, in bytes."""
    return {
        "gpu": plan.gpu,
        "by": "arithmetic",
        "memory": GPUS[plan.gpu],
        "usable": USABLE_SHARE * GPUS[plan.gpu],
        "fits": plan.fits,
        "memory_fraction": memory_fraction(plan),
        "parts": {
            part.part: {
                "step": part.step,
                "needed": part.needed,
                "held_bytes": dict(part.held),
                "temporaries": dict(part.temporaries),
            }
            for part in plan.parts
        },
    }


def memory_fraction(plan: GpuPlan) -> float | None:
    """Return what XLA_PYTHON_CLIENT_MEM_FRACTION must be; None if JAX's own share is enough."""
    share = plan.most / GPUS[plan.gpu]
    return None if share <= DEFAULT_SHARE else min(USABLE_SHARE, math.ceil(100 * share) / 100)


def render_text(plan: GpuPlan) -> str:
    """Render the plan for a person."""
    train, usable = plan.experiment.train, USABLE_SHARE * GPUS[plan.gpu]
    adapters = f"LoRA of rank {train.lora_rank}" if train.lora_rank else "all weights trained"
    lines = [
        f"{plan.gpu}: {_gb(GPUS[plan.gpu])}, of which {_gb(usable)} can be used; {adapters}, "
        f"sampler in {plan.experiment.sampler.dtype}, trainer in {train.dtype}",
        "By arithmetic from the shapes of the arrays; nothing was compiled or run on a GPU.",
    ]
    for part in plan.parts:
        verdict = "fits" if part.needed <= usable else "DOES NOT FIT"
        held, temporaries = (
            ", ".join(f"{name} {_gb(size)}" for name, size in sizes.items() if size)
            for sizes in (part.held, part.temporaries)
        )
        lines += [
            "",
            f"{part.part}: {part.step}",
            f"  memory      {verdict}: {_gb(part.needed)}",
            f"  held        {held}",
            f"  temporary   {temporaries} (estimated)",
        ]
    if plan.fits and (fraction := memory_fraction(plan)):
        lines += ["", f"JAX takes 75 % by default: set XLA_PYTHON_CLIENT_MEM_FRACTION={fraction}"]
    if not plan.fits:
        lines += ["", "docs/gpu.md lists what to change, the cheapest first"]
    return "\n".join(lines)


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
