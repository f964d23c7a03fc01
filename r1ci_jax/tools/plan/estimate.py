"""Ahead-of-time estimate of a run on TPUs, compiled on this machine's CPU.

The compiler in libtpu compiles the run's own programs, reports the memory per device, and refuses
what does not fit. The least operations and bytes of a step come from arithmetic (costs.py), times
from a roofline of the chip's published figures (tools/tpu.py): estimates for choosing a mesh and a
slice, not measurements.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import topologies

from r1ci_jax.config import Experiment, GrpoConfig, MeshConfig
from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.runtime import progress
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tools import tpu
from r1ci_jax.tools.plan import costs, hlo, programs

_QUIET = {
    # On a machine without TPUs the library would query the metadata server.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of one device, in bytes."""

    arguments: float
    temporaries: float
    unaliased_output: float
    """Outputs that do not reuse the buffer of a donated argument."""
    code: float
    resident: float
    """Arrays that are no arguments but stay on the device while the program runs."""
    limit: float

    @property
    def needed(self) -> float:
        """Sum of all."""
        return self.arguments + self.temporaries + self.unaliased_output + self.code + self.resident

    @property
    def fits(self) -> bool:
        """True if the device has enough memory."""
        return self.needed <= self.limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartPlan:
    """Memory of one program, and the estimated time of its step."""

    part: str
    arms: tuple[str, ...]
    """Arms that the part is planned for, if not all of the experiment's alike."""
    step: str
    memory: Memory | None
    """None: the compiler refused it."""
    refusal: str
    """The compiler's message then."""
    flops: float
    """Operations of one step, over all devices."""
    least_bytes: float
    """Bytes that one device must at least read and write in a step."""
    held_bytes: Mapping[str, float]
    """Bytes on one device while the program runs, by what holds them; temporaries aside."""
    num_copies: int
    """Arrays on the devices that are as large as the embedding: copies of the weights."""
    compiled_bytes: float | None
    """Bytes that the compiler counts; None for trainers, whose loops hide them."""
    collectives: tuple[hlo.Collective, ...]
    roofline: costs.Roofline | None

    @property
    def fits(self) -> bool:
        """True if the program fits on every device."""
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
        """True if all parts fit."""
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

    A mesh of one device in the experiment is replaced by one that is chosen here. With
    `is_training` a trainer's state is resident while the sampler runs.

    Raises:
        UserError: libtpu is missing, topology, mesh and model do not match, or a part is asked for
            that the experiment does not have.
    """
    chip = tpu.find_chip(topology)
    devices = topology_devices(topology)
    chosen = experiment.mesh
    if chosen.num_devices == 1:
        chosen = choose_mesh(config, len(devices))
    mesh = meshes.from_config(chosen, devices)
    experiment = dataclasses.replace(experiment, mesh=chosen)
    groups = programs.split_arms(experiment)
    setups = [
        programs.Setup(
            experiment=experiment, config=config, mesh=mesh, grpo=grpo, is_training=is_training
        )
        for _, grpo in groups
    ]
    todo = [(name, *each) for name in parts for each in _setups_of(name, groups, setups)]
    planned: list[PartPlan] = []
    # Sharding constraints inside the programs use the current mesh.
    with jax.set_mesh(mesh), progress.Progress("plan", len(todo), unit="programs") as bar:
        for name, arms, setup in todo:
            with bar.activity(f"compiling {name}" + (f" of {', '.join(arms)}" if arms else "")):
                planned.append(_plan_part(name, setup, chip, arms))
            bar.update(len(planned))
    return Plan(
        topology=topology, devices=len(devices), experiment=experiment, parts=tuple(planned)
    )


def _setups_of(
    name: str,
    groups: Sequence[tuple[tuple[str, ...], GrpoConfig]],
    setups: Sequence[programs.Setup],
) -> list[tuple[tuple[str, ...], programs.Setup]]:
    """Return the settings that a part is planned with, and the arms that they are of."""
    if name not in ("grpo", "critic"):
        return [((), setups[0])]
    named = [(arms if len(groups) > 1 else ()) for arms, _ in groups]
    found = list(zip(named, setups, strict=True))
    if name == "critic":
        found = [(arms, setup) for arms, setup in found if setup.grpo.has_critic]
    if not found:
        raise UserError(
            "no arm of the experiment has a critic to plan; set grpo.objective.baseline to "
            '"critic", or leave the part out'
        )
    return found


def topology_devices(topology: str) -> list[Any]:
    """Describe the devices of a topology to the compiler.

    Raises:
        UserError: libtpu is missing or knows no such shape.
    """
    if importlib.util.find_spec("libtpu") is None:
        how = install_extra("plan", requirements="requirements/plan.txt")
        raise UserError(f"planning for TPUs needs libtpu, the compiler: {how}")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        description = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"no topology {topology!r} ({reason}); try v5e:2x4 or v5p:2x2x1") from error
    return list(description.devices)


def choose_mesh(config: Qwen2Config, devices: int) -> MeshConfig:
    """Choose the largest tensor axis that divides the key/value heads; fsdp for the rest."""
    sizes = (config.kv_heads, config.query_heads, config.mlp_width, config.vocab_size, devices)
    tensor = max(
        parts
        for parts in (1, 2, 4, 8)
        if parts <= devices and not any(size % parts for size in sizes)
    )
    return MeshConfig(fsdp=devices // tensor, tensor=tensor)


def _plan_part(
    name: str, setup: programs.Setup, chip: tpu.Chip, arms: tuple[str, ...] = ()
) -> PartPlan:
    part = programs.PROGRAMS[name](setup)
    known: dict[str, Any] = {
        "part": name,
        "arms": arms,
        "step": part.step,
        "flops": part.flops,
        "least_bytes": part.least_bytes,
        "held_bytes": part.held_bytes,
        "num_copies": part.num_copies(setup.config),
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
    """Extract the compiler's sentence about needed and available memory."""
    found = re.search(
        r"(Ran out of memory.*?\(?[\d.]+[KMGT]\)?)\. ", " ".join(message.split()) + " "
    )
    return found[1] if found else message.splitlines()[0]
