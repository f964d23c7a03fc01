"""What a run would need on TPUs that are not there: compiled ahead of time, on this processor.

The compiler in libtpu takes the run's own programs, tells how much memory each device needs, and
refuses what does not fit. Operations and bytes that a step must have come from arithmetic
(plan_cost.py), and times from a roofline of the chip's published figures (plan_chips.py): estimates
to choose a mesh and a slice by, not measurements.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from r1ci_jax.core.config import Experiment, MeshConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.ops import plan_chips, plan_cost, plan_hlo, plan_parts
from r1ci_jax.sharding import mesh as meshes

INSTALL = "pip install -r requirements-plan.txt (or pip install 'r1ci_jax[plan]')"
_QUIET = {
    # On a machine without TPUs the library would ask the network what machine this is.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one device."""

    arguments: float
    temporaries: float
    fresh_output: float
    """Results that do not take the place of an argument."""
    code: float
    beside: float
    """What else lies there while the program runs."""
    limit: float

    @property
    def needed(self) -> float:
        """All together."""
        return self.arguments + self.temporaries + self.fresh_output + self.code + self.beside

    @property
    def fits(self) -> bool:
        """Whether the device has so much."""
        return self.needed <= self.limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartPlan:
    """What one program needs and how long a step would take."""

    part: str
    step: str
    memory: Memory | None
    """None: the compiler refused it."""
    refusal: str
    """Its words then."""
    flops: float
    """Of one step, over all devices."""
    least_bytes: float
    """That one device must read and write in a step."""
    compiled_bytes: float | None
    """What the compiler counts; None where loops hide it."""
    collectives: tuple[plan_hlo.Collective, ...]
    roofline: plan_cost.Roofline | None

    @property
    def fits(self) -> bool:
        """Whether every device has room."""
        return self.memory is not None and self.memory.fits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All parts on one topology."""

    topology: str
    devices: int
    mesh: MeshConfig
    dtype: str
    parts: tuple[PartPlan, ...]

    @property
    def fits(self) -> bool:
        """Whether all parts do."""
        return all(part.fits for part in self.parts)


def make(
    experiment: Experiment,
    config: Qwen2Config,
    *,
    topology: str,
    parts: Sequence[str],
    dtype: str = "bfloat16",
) -> Plan:
    """Compile the parts for a topology.

    A mesh of one device in the experiment stands for one that is chosen here.

    Raises:
        UserError: libtpu is missing, or topology, mesh and model do not go together.
    """
    chip = plan_chips.chip_of(topology)
    devices = topology_devices(topology)
    chosen = experiment.mesh
    if chosen.devices == 1:
        chosen = choose_mesh(config, len(devices))
    mesh = meshes.of(chosen, devices)
    experiment = dataclasses.replace(experiment, mesh=chosen)
    setup = plan_parts.Setup(experiment=experiment, config=config, mesh=mesh, dtype=dtype)
    # Constraints inside the programs look for the mesh that is set.
    with jax.set_mesh(mesh):
        planned = tuple(_plan_part(name, setup, chip) for name in parts)
    return Plan(topology=topology, devices=len(devices), mesh=chosen, dtype=dtype, parts=planned)


def topology_devices(topology: str) -> list[Any]:
    """The devices of a topology as the compiler sees them.

    Raises:
        UserError: libtpu is missing or knows no such shape.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(f"planning for TPUs needs libtpu, the compiler: {INSTALL}")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        description = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"no topology {topology!r} ({reason}); try v5e:2x4 or v5p:2x2x1") from error
    return list(description.devices)


def choose_mesh(config: Qwen2Config, devices: int) -> MeshConfig:
    """As much tensor parallelism as cuts the key/value heads evenly, fsdp for the rest."""
    cut = (config.kv_heads, config.query_heads, config.mlp_width, config.vocab_size, devices)
    tensor = max(
        parts
        for parts in (1, 2, 4, 8)
        if parts <= devices and not any(size % parts for size in cut)
    )
    return MeshConfig(fsdp=devices // tensor, tensor=tensor)


def _plan_part(name: str, setup: plan_parts.Setup, chip: plan_chips.Chip) -> PartPlan:
    part = plan_parts.PARTS[name](setup)
    known: dict[str, Any] = {
        "part": name,
        "step": part.step,
        "flops": part.flops,
        "least_bytes": part.least_bytes,
    }
    try:
        compiled = part.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return PartPlan(
            **known,
            memory=None,
            refusal=_refusal(str(error)),
            compiled_bytes=None,
            collectives=(),
            roofline=None,
        )
    devices = setup.mesh.size
    exchanged = tuple(plan_hlo.collectives(compiled.as_text(), devices))
    counts = {} if part.is_scanned else compiled.cost_analysis()
    return PartPlan(
        **known,
        memory=_memory(compiled.memory_analysis(), part, chip),
        refusal="",
        compiled_bytes=counts.get("bytes accessed"),
        collectives=exchanged,
        roofline=plan_cost.roofline(
            chip,
            flops=part.flops / devices,
            least_bytes=part.least_bytes,
            compiled_flops=counts.get("flops", 0.0),
            compiled_bytes=counts.get("bytes accessed", 0.0),
            exchanged=exchanged,
        ),
    )


def _memory(stats: Any, part: plan_parts.Part, chip: plan_chips.Chip) -> Memory:
    return Memory(
        arguments=stats.argument_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        fresh_output=stats.output_size_in_bytes - stats.alias_size_in_bytes,
        code=stats.generated_code_size_in_bytes,
        beside=part.beside_bytes,
        limit=chip.hbm_bytes,
    )


def _refusal(message: str) -> str:
    """The compiler's sentence about what is needed and what there is."""
    found = re.search(
        r"(Ran out of memory.*?\(?[\d.]+[KMGT]\)?)\. ", " ".join(message.split()) + " "
    )
    return found[1] if found else message.splitlines()[0]


# --- what is told --------------------------------------------------------------------------------


def report(plan: Plan) -> dict[str, Any]:
    """The plan as JSON; bytes and seconds."""
    return {
        "topology": plan.topology,
        "devices": plan.devices,
        "mesh": dataclasses.asdict(plan.mesh),
        "dtype": plan.dtype,
        "fits": plan.fits,
        "parts": {part.part: _part_report(part) for part in plan.parts},
    }


def _part_report(part: PartPlan) -> dict[str, Any]:
    told: dict[str, Any] = {
        "step": part.step,
        "fits": part.fits,
        "flops_per_step": part.flops,
        "least_bytes_per_step": part.least_bytes,
        "compiled_bytes_per_step": part.compiled_bytes,
    }
    if part.memory is None or part.roofline is None:
        return {**told, "refusal": part.refusal, "advice": advice(part)}
    times = {**dataclasses.asdict(part.roofline)}
    return {
        **told,
        "hbm": {
            **dataclasses.asdict(part.memory),
            "needed": part.memory.needed,
            "left": part.memory.limit - part.memory.needed,
        },
        "collectives": [
            {**dataclasses.asdict(each), "moved_bytes": each.moved_bytes}
            for each in part.collectives
        ],
        "roofline": {
            **times,
            "least_seconds": part.roofline.least_seconds,
            "step_seconds": part.roofline.step_seconds,
            "share": part.roofline.share,
            "bound": part.roofline.bound,
        },
        "advice": advice(part),
    }


def advice(part: PartPlan) -> str:
    """What to change when a part does not fit; empty when it does."""
    if part.fits:
        return ""
    if part.part in ("decode", "prefill"):
        return (
            "lower sampler.slots or sampler.cache_length, set sampler.cache or sampler.weights to "
            '"int8", raise mesh.tensor, or take a larger topology'
            + (
                "; prefill also needs less with fewer prefill_rows"
                if part.part == "prefill"
                else ""
            )
        )
    smaller = "sft.batch_size" if part.part == "sft" else "grpo.micro_tokens"
    return f"lower {smaller}, raise mesh.fsdp, or take a larger topology"


def text(plan: Plan) -> str:
    """The plan for a person."""
    mesh = plan.mesh
    lines = [
        f"{plan.topology}: {plan.devices} devices, mesh data={mesh.data} fsdp={mesh.fsdp} "
        f"tensor={mesh.tensor}, sampler in {plan.dtype}"
    ]
    for part in plan.parts:
        lines += ["", f"{part.part}: {part.step}", *_part_lines(part)]
    return "\n".join(lines)


def _part_lines(part: PartPlan) -> list[str]:
    memory, times = part.memory, part.roofline
    if memory is None or times is None:
        return [f"  DOES NOT FIT: {part.refusal}", f"  {advice(part)}"]
    left = memory.limit - memory.needed
    verdict = "fits" if memory.fits else "DOES NOT FIT"
    counted = "" if part.compiled_bytes is None else f", {_gb(part.compiled_bytes)} as compiled"
    moved = sum(each.moved_bytes for each in part.collectives)
    kinds = ", ".join(f"{each.count} {each.kind} of {each.devices}" for each in part.collectives)
    lines = [
        f"  memory      {verdict}: {_gb(memory.needed)} of {_gb(memory.limit)} a device, "
        f"{_gb(abs(left))} {'left' if left >= 0 else 'too much'}",
        f"              arguments {_gb(memory.arguments)}, temporaries {_gb(memory.temporaries)}, "
        f"fresh output {_gb(memory.fresh_output)}, beside {_gb(memory.beside)}",
        f"  operations  {part.flops / 1e12:.3g} TFLOP a step, all devices",
        f"  bytes       {_gb(part.least_bytes)} a step and device at the least{counted}",
        f"  collectives {kinds or 'none'}; {moved / 1e6:.1f} MB a device",
        f"  time        {1e3 * times.step_seconds:.3g} ms a step at most by the roofline "
        f"({times.bound}), {1e3 * times.least_seconds:.3g} ms at the least: "
        f"{100 * times.share:.0f} %",
    ]
    return lines if part.fits else [*lines, f"  {advice(part)}"]


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
