"""How much a step computes and reads at the least, and how long that takes: arithmetic only.

Operations are counted for the products alone, two for each multiplication with its addition, over
all devices together. Times are those of a roofline: a chip at its peak, or its memory at its full
bandwidth, whichever takes longer; collectives are added, for in a decode step nothing can be done
meanwhile. (A trainer's travel beside the products, at least in part; added all the same.) Latencies
count nothing, and no product runs at the peak, so a real step takes longer.
"""

import dataclasses
from collections.abc import Sequence

from r1ci_jax.config import MeshConfig, Remat, TrainConfig
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.tools.plan.hlo import Collective
from r1ci_jax.tools.tpu import Chip


def layer_parameters(config: Qwen2Config) -> int:
    """Entries of one layer's matrices."""
    heads = config.query_heads * config.head_dim
    kv_heads = config.kv_heads * config.head_dim
    return 2 * config.width * (heads + kv_heads) + 3 * config.width * config.mlp_width


def attention_flops(config: Qwen2Config, keys: float) -> float:
    """One token's scores and mix over so many keys, in one layer."""
    return 4 * config.query_heads * config.head_dim * keys


def decode_flops(config: Qwen2Config, slots: int, length: int) -> float:
    """One step of all slots; attention runs over the whole cache row, as the program does."""
    layer = 2 * layer_parameters(config) + attention_flops(config, length)
    return slots * (config.layers * layer + 2 * config.width * config.vocab_size)


def prefill_flops(config: Qwen2Config, rows: int, tokens: int, length: int) -> float:
    """One prefill call; of the last layer only keys and values are needed, and no head."""
    layer = 2 * layer_parameters(config) + attention_flops(config, length)
    last = 4 * config.width * config.kv_heads * config.head_dim
    return rows * tokens * ((config.layers - 1) * layer + last)


def forward_flops(config: Qwen2Config, rows: int, tokens: int) -> float:
    """All logits of rows of text; a token sees the half of its row on average.

    More than a trainer computes: it leaves out the logits of positions that do not count.
    """
    layer = 2 * layer_parameters(config) + attention_flops(config, tokens / 2)
    return rows * tokens * (config.layers * layer + 2 * config.width * config.vocab_size)


def repeated_flops(config: Qwen2Config, rows: int, tokens: int, remat: Remat) -> float:
    """What the backward pass computes again: nothing, attention alone, or all but attention."""
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
    """What a trainer's forward and backward passes exchange.

    Arithmetic, for the compiler's text does not tell how often its loops run: every pass gathers
    each layer's weights along fsdp, forwards and backwards, and scatters their gradients, in the
    type of `how`; the head likewise, once forwards and with a float32 gradient. Tensor parts are
    summed behind attention and feed-forward, in both directions and once more for what is computed
    again. Replicas sum each device's share of the gradients. Token ids, norms and biases are left
    out: they are small beside these.

    Args:
        config: The architecture.
        mesh: Devices an axis.
        how: The types, and what is computed again.
        rows: Of the whole batch.
        tokens: Of a row.
        passes: Parts in which the batch goes through.
        references: Forward passes more, of weights that are not trained.
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
    """Seconds of one step on one chip, and what bounds them."""

    compute_seconds: float
    """For the operations that must be done."""
    memory_seconds: float
    """For the bytes that must be read."""
    compiled_compute_seconds: float
    """For the operations that the compiler counts, or with those that a trainer does again; more
    where devices do the same twice."""
    compiled_memory_seconds: float
    """For the bytes that the compiler counts: on-chip memory, too, so what is fetched ahead of its
    use counts more than once, and what a chunk does once counts for each of its steps. A bound from
    above."""
    collective_seconds: float

    @property
    def least_seconds(self) -> float:
        """No program on this chip does the same in less."""
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def step_seconds(self) -> float:
        """The estimate for the compiled program, from above."""
        compiled = max(self.compiled_compute_seconds, self.compiled_memory_seconds)
        return max(self.least_seconds, compiled) + self.collective_seconds

    @property
    def roofline_fraction(self) -> float:
        """Of the least time in the estimated one."""
        return self.least_seconds / self.step_seconds

    @property
    def mfu(self) -> float:
        """Of the peak in the operations that must be done: model-FLOPs use, estimated."""
        return self.compute_seconds / self.step_seconds

    @property
    def bound(self) -> str:
        """What takes longest."""
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
    """Times of one step; everything for one device, `flops` too."""
    moved = sum(collective.moved_bytes for collective in collectives)
    return Roofline(
        compute_seconds=flops / chip.flops,
        memory_seconds=least_bytes / chip.hbm_bandwidth,
        compiled_compute_seconds=compiled_flops / chip.flops,
        compiled_memory_seconds=compiled_bytes / chip.hbm_bandwidth,
        collective_seconds=moved / chip.axis_bandwidth,
    )
