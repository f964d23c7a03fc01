"""Least operations, bytes and time of a step, by arithmetic.

Operations are counted for matmuls only, two per multiply-add, over all devices. Times are those of
a roofline: the chip at its peak or the memory at its full bandwidth, whichever takes longer. The
time of collectives is added, because a decode step cannot overlap them with anything. (A trainer
overlaps some; they are added all the same.) Latency is not counted, and no matmul runs at the peak,
so a real step takes longer.
"""

import dataclasses
from collections.abc import Sequence

from r1ci_jax.config import MeshConfig, Remat, TrainConfig
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.tools.plan.hlo import Collective
from r1ci_jax.tools.tpu import Chip


def layer_parameters(config: Qwen2Config) -> int:
    """Number of entries of one layer's weight matrices."""
    heads = config.query_heads * config.head_dim
    kv_heads = config.kv_heads * config.head_dim
    return 2 * config.width * (heads + kv_heads) + 3 * config.width * config.mlp_width


def attention_flops(config: Qwen2Config, keys: float) -> float:
    """Operations of one token's attention over so many keys, in one layer."""
    return 4 * config.query_heads * config.head_dim * keys


def decode_flops(config: Qwen2Config, slots: int, length: float) -> float:
    """Operations of one step of all slots, whose rows hold `length` tokens on average."""
    layer = 2 * layer_parameters(config) + attention_flops(config, length)
    return slots * (config.layers * layer + 2 * config.width * config.vocab_size)


def prefill_layer_flops(config: Qwen2Config, rows: int, tokens: int, length: float) -> float:
    """Operations of one layer of a prefill call; a token attends to `length` others on average."""
    return rows * tokens * (2 * layer_parameters(config) + attention_flops(config, length))


def forward_flops(config: Qwen2Config, rows: int, tokens: int) -> float:
    """Operations of all logits of rows of text; a token attends to half of its row on average.

    A trainer computes less: it leaves out the logits of positions without a loss.
    """
    layer = 2 * layer_parameters(config) + attention_flops(config, tokens / 2)
    return rows * tokens * (config.layers * layer + 2 * config.width * config.vocab_size)


def repeated_flops(config: Qwen2Config, rows: int, tokens: int, remat: Remat) -> float:
    """Operations that the backward pass recomputes: none, attention, or all but attention."""
    matrices, mix = 2 * layer_parameters(config), attention_flops(config, tokens / 2)
    again = {"none": 0.0, "dots": mix, "attention": matrices, "layer": matrices + mix}
    return rows * tokens * config.layers * again[remat]


def training_collectives(
    config: Qwen2Config,
    mesh: MeshConfig,
    train_config: TrainConfig,
    *,
    rows: int,
    tokens: int,
    num_microbatches: int,
    num_reference_passes: int = 0,
) -> tuple[Collective, ...]:
    """Collectives of a trainer's forward and backward passes, by arithmetic.

    The compiler's text does not tell how often its loops run. Every microbatch gathers each layer's
    weights along fsdp, forward and backward, and reduce-scatters their gradients, in the training
    dtype; the LM head likewise, once forward and with a float32 gradient. Tensor shards are summed
    after attention and feed-forward, in both directions and once more where they are recomputed.
    Replicas sum their shards of the gradients. Token ids, norms and biases are left out: they are
    small.

    Args:
        config: Architecture.
        mesh: Devices per axis.
        how: Dtype and rematerialization.
        rows: Rows of the full batch.
        tokens: Tokens per row.
        passes: Number of parts that the batch is split into.
        references: Additional forward passes of weights that are not trained.
    """
    item = 2 if train_config.dtype == "bfloat16" else 4
    layers = config.layers * layer_parameters(config) / mesh.tensor
    table = config.vocab_size * config.width / mesh.tensor
    gathers, matrices = 2 + num_reference_passes, 7 * config.layers
    gathered = item * (gathers * layers + (1 + num_reference_passes) * table)
    summed = item * layers + 4 * table
    replicas = mesh.slices * mesh.data
    sums = 4 + (train_config.remat in ("attention", "layer")) + 2 * num_reference_passes
    activations = rows / mesh.num_batch_shards * tokens * config.width * item
    all_sums = sums * config.layers * activations
    found = (
        # kind, devices, number and bytes
        (
            "all-gather",
            mesh.fsdp,
            num_microbatches * (gathers * matrices + 1 + num_reference_passes),
            num_microbatches * gathered,
        ),
        ("reduce-scatter", mesh.fsdp, num_microbatches * (matrices + 1), num_microbatches * summed),
        ("all-reduce", mesh.tensor, num_microbatches * sums * config.layers, all_sums),
        (
            "all-reduce",
            replicas,
            num_microbatches * (matrices + 1),
            num_microbatches * summed / mesh.fsdp,
        ),
    )
    return tuple(
        Collective(kind=kind, devices=devices, count=count, payload_bytes=payload)
        for kind, devices, count, payload in found
        if devices > 1
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """Seconds of one step on one chip."""

    compute_seconds: float
    """Time of the operations that must be done."""
    memory_seconds: float
    """Time of the bytes that must be read."""
    compiled_compute_seconds: float
    """Time of the operations that the compiler counts (a trainer: with those that are recomputed),
    including those that devices do twice."""
    compiled_memory_seconds: float
    """Time of the bytes that the compiler counts, an upper bound: prefetches to on-chip memory
    count twice, and bytes read once per chunk count for each of its steps."""
    collective_seconds: float

    @property
    def least_seconds(self) -> float:
        """Lower bound of the step time on this chip."""
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def step_seconds(self) -> float:
        """Upper estimate of the step time of the compiled program."""
        compiled = max(self.compiled_compute_seconds, self.compiled_memory_seconds)
        return max(self.least_seconds, compiled) + self.collective_seconds

    @property
    def roofline_fraction(self) -> float:
        """Least time divided by estimated time."""
        return self.least_seconds / self.step_seconds

    @property
    def mfu(self) -> float:
        """Estimated model FLOPs utilization: time of the needed operations over the step time."""
        return self.compute_seconds / self.step_seconds

    @property
    def bound(self) -> str:
        """Name of the slowest part: compute, memory or collectives."""
        parts = {
            "compute": max(self.compute_seconds, self.compiled_compute_seconds),
            "memory": max(self.memory_seconds, self.compiled_memory_seconds),
            "collectives": self.collective_seconds,
        }
        return max(parts, key=parts.__getitem__)


def roofline(
    chip: Chip,
    *,
    flops: float,
    least_bytes: float,
    compiled_flops: float,
    compiled_bytes: float,
    collectives: Sequence[Collective],
) -> Roofline:
    """Times of one step; all quantities are per device, `flops` too."""
    moved = sum(collective.moved_bytes for collective in collectives)
    return Roofline(
        compute_seconds=flops / chip.flops,
        memory_seconds=least_bytes / chip.hbm_bandwidth,
        compiled_compute_seconds=compiled_flops / chip.flops,
        compiled_memory_seconds=compiled_bytes / chip.hbm_bandwidth,
        collective_seconds=moved / chip.axis_bandwidth,
    )
