"""What a run would need on TPUs that are not there: compiled ahead of time, on this processor.

The compiler in libtpu takes the run's own programs, tells how much memory each device needs, and
refuses what does not fit. Operations and bytes that a step must have come from arithmetic
(costs.py), and times from a roofline of the chip's published figures (../tpu.py): estimates
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

from r1ci_jax.config import Experiment, MeshConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tools import tpu
from r1ci_jax.tools.plan import costs, hlo, programs

INSTALL = "pip install -r requirements/plan.txt (or pip install 'r1ci_jax[plan]')"
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
    unaliased_output: float
    """Results that do not take the place of an argument."""
    code: float
    resident: float
    """What else lies there while the program runs."""
    limit: float

    @property
    def needed(self) -> float:
        """All together."""
        return self.arguments + self.temporaries + self.unaliased_output + self.code + self.resident

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
    collectives: tuple[hlo.Collective, ...]
    roofline: costs.Roofline | None

    @property
    def fits(self) -> bool:
        """Whether every device has room."""
        return self.memory is not None and self.memory.fits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All parts on one topology."""

    topology: str
    devices: int
    experiment: Experiment
    parts: tuple[PartPlan, ...]

    @property
    def fits(self) -> bool:
        """Whether all parts do."""
        return all(part.fits for part in self.parts)


def make_plan(
    experiment: Experiment,
    config: Qwen2Config,
    *,
    topology: str,
    parts: Sequence[str],
    is_training: bool,
) -> Plan:
    """Compile the parts for a topology.

    A mesh of one device in the experiment stands for one that is chosen here. `is_training` puts
    a trainer's weights beside the sampler's.

    Raises:
        UserError: libtpu is missing, or topology, mesh and model do not go together.
    """
    chip = tpu.find_chip(topology)
    devices = topology_devices(topology)
    chosen = experiment.mesh
    if chosen.num_devices == 1:
        chosen = choose_mesh(config, len(devices))
    mesh = meshes.from_config(chosen, devices)
    experiment = dataclasses.replace(experiment, mesh=chosen)
    setup = programs.Setup(experiment=experiment, config=config, mesh=mesh, is_training=is_training)
    # Constraints inside the programs look for the mesh that is set.
    with jax.set_mesh(mesh):
        planned = tuple(_plan_part(name, setup, chip) for name in parts)
    return Plan(topology=topology, devices=len(devices), experiment=experiment, parts=planned)


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


def _plan_part(name: str, setup: programs.Setup, chip: tpu.Chip) -> PartPlan:
    part = programs.PROGRAMS[name](setup)
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
    if part.training is None:
        exchanged = tuple(hlo.count_collectives(compiled.as_text(), devices))
        counts = compiled.cost_analysis()
    else:
        exchanged = part.training.collectives
        counts = {"flops": (part.flops + part.training.repeated_flops) / devices}
    return PartPlan(
        **known,
        memory=_memory(compiled.memory_analysis(), part, chip),
        refusal="",
        compiled_bytes=counts.get("bytes accessed"),
        collectives=exchanged,
        roofline=costs.roofline(
            chip,
            flops=part.flops / devices,
            least_bytes=part.least_bytes,
            compiled_flops=counts.get("flops", 0.0),
            compiled_bytes=counts.get("bytes accessed", 0.0),
            collectives=exchanged,
        ),
    )


def _memory(stats: Any, part: programs.Program, chip: tpu.Chip) -> Memory:
    return Memory(
        arguments=stats.argument_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        unaliased_output=stats.output_size_in_bytes - stats.alias_size_in_bytes,
        code=stats.generated_code_size_in_bytes,
        resident=part.resident_bytes,
        limit=chip.hbm_bytes,
    )


def _refusal(message: str) -> str:
    """The compiler's sentence about what is needed and what there is."""
    found = re.search(
        r"(Ran out of memory.*?\(?[\d.]+[KMGT]\)?)\. ", " ".join(message.split()) + " "
    )
    return found[1] if found else message.splitlines()[0]
