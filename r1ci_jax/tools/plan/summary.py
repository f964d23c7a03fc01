"""Summary of a plan for people or programs, and advice where something does not fit."""

import dataclasses
from typing import Any

from r1ci_jax.config import Experiment
from r1ci_jax.tools.plan.estimate import PartPlan, Plan

SAMPLING = ("decode", "prefill")
"""Parts of the sampler; the others are trainers."""


def make_report(plan: Plan) -> dict[str, Any]:
    """Describe the plan as JSON values, in bytes and seconds."""
    return {
        "topology": plan.topology,
        "devices": plan.devices,
        "mesh": dataclasses.asdict(plan.experiment.mesh),
        "sampler_dtype": plan.experiment.sampler.dtype,
        "train": dataclasses.asdict(plan.experiment.train),
        "fits": plan.fits,
        "parts": {_title(part): _part_report(part, plan.experiment) for part in plan.parts},
    }


def _title(part: PartPlan) -> str:
    """Name a part; one that is planned several times names its arms too."""
    return f"{part.part} of {', '.join(part.arms)}" if part.arms else part.part


def _part_report(part: PartPlan, experiment: Experiment) -> dict[str, Any]:
    described: dict[str, Any] = {
        "step": part.step,
        "fits": part.fits,
        "flops_per_step": part.flops,
        "least_bytes_per_step": part.least_bytes,
        "compiled_bytes_per_step": part.compiled_bytes,
        "weight_copies": part.num_copies,
        "held_bytes": dict(part.held_bytes),
    }
    if part.memory is None or part.roofline is None:
        return {**described, "refusal": part.refusal, "advice": advice(part, experiment)}
    times = {**dataclasses.asdict(part.roofline)}
    return {
        **described,
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
            "roofline_fraction": part.roofline.roofline_fraction,
            "mfu": part.roofline.mfu,
            "bound": part.roofline.bound,
        },
        "advice": advice(part, experiment),
    }


def advice(part: PartPlan, experiment: Experiment) -> str:
    """Suggest changes for a part that does not fit, the cheapest first; empty if it fits."""
    if part.fits:
        return ""
    steps = (_sampler_steps if part.part in SAMPLING else _trainer_steps)(part, experiment)
    return "; or ".join([*steps, "take a larger topology"])


def _sampler_steps(part: PartPlan, experiment: Experiment) -> list[str]:
    sampler = experiment.sampler
    steps = []
    if sampler.dtype == "float32":
        steps.append('set sampler.dtype = "bfloat16"')
    if sampler.cache_quantization == "none":
        steps.append('set sampler.cache_quantization = "int8"')
    if sampler.weight_quantization == "none":
        steps.append('set sampler.weight_quantization = "int8"')
    if part.part == "prefill":
        steps.append("lower sampler.prefill_rows")
    return [*steps, "lower sampler.slots or sampler.cache_length", "raise mesh.tensor"]


def _trainer_steps(part: PartPlan, experiment: Experiment) -> list[str]:
    train, mesh, grpo = experiment.train, experiment.mesh, experiment.grpo
    steps = []
    if train.dtype == "float32":
        steps.append('set train.dtype = "bfloat16"')
    if train.remat in ("none", "dots"):
        steps.append('set train.remat = "attention"')
    parts = experiment.sft.num_microbatches
    if part.part == "sft" and experiment.sft.batch_size % (2 * parts * mesh.num_batch_shards) == 0:
        steps.append(f"set sft.num_microbatches = {2 * parts}")
    if (
        part.part in ("grpo", "critic")
        and grpo.microbatch_tokens > grpo.sequence_lengths[-1] * mesh.num_batch_shards
    ):
        steps.append(f"set grpo.microbatch_tokens = {grpo.microbatch_tokens // 2}")
    if train.remat == "attention":
        steps.append('set train.remat = "layer"')
    if mesh.data > 1:
        steps.append("move mesh.data to mesh.fsdp")
    return [*steps, "raise mesh.tensor", "set train.lora_rank = 16"]


def render_text(plan: Plan) -> str:
    """Render the plan for a person."""
    mesh, experiment = plan.experiment.mesh, plan.experiment
    lines = [
        f"{plan.topology}: {plan.devices} devices, mesh slices={mesh.slices} data={mesh.data} "
        f"fsdp={mesh.fsdp} tensor={mesh.tensor}, sampler in {experiment.sampler.dtype}, trainer in "
        f"{experiment.train.dtype}"
    ]
    for part in plan.parts:
        lines += ["", f"{_title(part)}: {part.step}", *_part_lines(part, experiment)]
    return "\n".join(lines)


def _part_lines(part: PartPlan, experiment: Experiment) -> list[str]:
    memory, times = part.memory, part.roofline
    held = ", ".join(f"{name} {_gb(size)}" for name, size in part.held_bytes.items())
    if memory is None or times is None:
        refused = f"  DOES NOT FIT: {part.refusal}"
        return [refused, f"  held        {held}", f"  {advice(part, experiment)}"]
    left = memory.limit - memory.needed
    verdict = "fits" if memory.fits else "DOES NOT FIT"
    counted = "" if part.compiled_bytes is None else f", {_gb(part.compiled_bytes)} as compiled"
    moved = sum(each.moved_bytes for each in part.collectives)
    kinds = ", ".join(f"{each.count} {each.kind} of {each.devices}" for each in part.collectives)
    lines = [
        f"  memory      {verdict}: {_gb(memory.needed)} of {_gb(memory.limit)} per device, "
        f"{_gb(abs(left))} {'left' if left >= 0 else 'too much'}",
        f"              arguments {_gb(memory.arguments)}, temporaries {_gb(memory.temporaries)}, "
        f"unaliased output {_gb(memory.unaliased_output)}, resident {_gb(memory.resident)}",
        f"  held        {held}",
        f"  copies      {part.num_copies} of the weights: parameters, and what has their shapes",
        f"  operations  {part.flops / 1e12:.3g} TFLOP per step, all devices",
        f"  bytes       {_gb(part.least_bytes)} per step and device at the least{counted}",
        f"  collectives {kinds or 'none'}; {moved / 1e6:.1f} MB per device",
        f"  time        {1e3 * times.step_seconds:.3g} ms per step at most by the roofline "
        f"({times.bound}), {1e3 * times.least_seconds:.3g} ms at the least: "
        f"{100 * times.roofline_fraction:.0f} %",
    ]
    if part.part not in SAMPLING:
        lines.append(f"  MFU         {100 * times.mfu:.0f} % (model FLOPs utilization, estimated)")
    return lines if part.fits else [*lines, f"  {advice(part, experiment)}"]


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
