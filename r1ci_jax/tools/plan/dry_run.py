"""What a run would take, by arithmetic alone: nothing is compiled, sampled or written.

Counts are exact where the settings decide them, and bounds where the data or the policy do: a bound
assumes that every trajectory samples `limits.max_new_tokens`, that every row is full, and that
nothing is packed, refilled or ended early. Memory is that of the arrays which stay on a device
while a program runs; temporaries are left out, which only `r1ci plan` knows, from the compiler.
Hours are the operations and bytes of those counts at a chip's published peak.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import jax
from flax import nnx

from r1ci_jax.config import Arm, Experiment
from r1ci_jax.model import lora, qwen2
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.tasks import registry
from r1ci_jax.tools import tpu
from r1ci_jax.tools.plan import costs, programs
from r1ci_jax.tools.plan.programs import FILLED, Program

NOTE: Final = (
    "At most: every trajectory of full length, nothing packed. Hours: those counts at a chip's "
    "peak, so scripts, prompts and waiting are not in them, and a real program takes longer. r1ci "
    "plan compiles the programs; processors are not estimated: the first steps tell."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What one stage does."""

    stage: str
    steps: int = 0
    """Optimizer batches; in `sft` at most."""
    trajectories: int = 0
    sampled_tokens: int = 0
    """Tokens that the policy samples, at most."""
    trained_tokens: int = 0
    """Tokens of the rows that are trained on, at most, iterations counted."""
    training_flops: float = 0.0
    """Operations of the trainer, at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run would take."""

    experiment: Experiment
    questions: dict[str, int]
    """Questions of each split; published tasks may have fewer."""
    parameters: int
    trained_parameters: int
    held_bytes: dict[str, dict[str, float]]
    """By program: bytes that stay on each device while it runs, by what holds them."""
    work: tuple[Work, ...]
    least_hours: dict[str, float]
    """By TPU generation, on as many chips as the mesh has devices; those with enough memory."""


def pretend_devices(count: int) -> None:
    """Give this process so many processors as devices; JAX must not have been used in it yet.

    Shapes are sharded over devices that need not exist, and no accelerator is opened.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)


def examine(experiment: Experiment, config: Qwen2Config) -> DryRun:
    """Work out what a run would take; `pretend_devices` makes the devices of its mesh.

    Raises:
        UserError: A task is unknown, or the mesh does not fit the model.
    """
    mesh = meshes.from_config(experiment.mesh, jax.devices("cpu"))
    _, grpo = programs.split_arms(experiment)[0]
    setup = programs.Setup(experiment=experiment, config=config, mesh=mesh, grpo=grpo)
    with jax.set_mesh(mesh):
        built = {name: programs.PROGRAMS[name](setup) for name in programs.parts_of(experiment)}
    shapes = nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))
    questions = count_questions(experiment)
    work = _all_work(experiment, config, questions)
    held = max(sum(program.held_bytes.values()) for program in built.values())
    return DryRun(
        experiment=experiment,
        questions=questions,
        parameters=_count(nnx.state(shapes)),
        trained_parameters=_count_trained(experiment, config, nnx.state(shapes)),
        held_bytes={name: program.held_bytes for name, program in built.items()},
        work=work,
        least_hours={
            name: _least_hours(experiment, work, built["decode"], generation.chip)
            for name, generation in tpu.GENERATIONS.items()
            if held <= generation.chip.hbm_bytes
        },
    )


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _count_trained(experiment: Experiment, config: Qwen2Config, shapes: Any) -> int:
    rank = experiment.train.lora_rank
    if not rank:
        return _count(shapes)
    return _count(jax.eval_shape(lambda key: lora.init(config, rank, key), jax.random.key(0)))


def count_questions(experiment: Experiment) -> dict[str, int]:
    """Count the questions of each split; a test task is only evaluated."""
    dataset = experiment.dataset
    tasks = [registry.get(name) for name in dataset.tasks]
    trained = sum(task.split != "test" for task in tasks)
    return {
        "sft": trained * dataset.sft_per_task,
        "grpo": trained * dataset.grpo_per_task,
        "eval": len(tasks) * dataset.eval_per_task,
    }


def _all_work(
    experiment: Experiment, config: Qwen2Config, questions: dict[str, int]
) -> tuple[Work, ...]:
    potential, evaluation = experiment.potential, experiment.eval
    answers = len(potential.agents) * potential.samples_per_agent * questions["grpo"]
    evaluated = evaluation.samples_per_question * len(evaluation.agents) * questions["eval"]
    return (
        _supervised_work(experiment, config, questions["sft"]),
        _sampling_work(experiment, "potential", answers),
        *(_arm_work(experiment, config, arm) for arm in experiment.arms),
        _sampling_work(experiment, "eval", evaluated * len(experiment.models)),
    )


def _supervised_work(experiment: Experiment, config: Qwen2Config, demonstrations: int) -> Work:
    """Count supervised fine-tuning on one demonstration per question, one per row."""
    sft = experiment.sft
    rows = sft.epochs * demonstrations
    return Work(
        stage="sft",
        steps=math.ceil(rows / sft.batch_size),
        trained_tokens=rows * sft.sequence_length,
        training_flops=3 * costs.forward_flops(config, rows, sft.sequence_length),
    )


def _sampling_work(experiment: Experiment, stage: str, trajectories: int) -> Work:
    longest = experiment.limits.max_new_tokens
    return Work(stage=stage, trajectories=trajectories, sampled_tokens=trajectories * longest)


def _arm_work(experiment: Experiment, config: Qwen2Config, arm: Arm) -> Work:
    """Count a GRPO training; refills are not counted, a rollout budget is."""
    grpo = experiment.grpo_of(arm)
    steps = sum(grpo.steps_per_stage)
    if grpo.rollout_budget:
        steps = min(steps, math.ceil(grpo.rollout_budget / grpo.num_rollouts))
    kept = steps * grpo.prompts_per_step * grpo.rollouts_per_prompt
    length = min(grpo.sequence_lengths[-1], experiment.sampler.cache_length)
    # A training pass is forward and twice as much backward; the others are forward only.
    passes = 3 * grpo.num_iterations + (grpo.kl_coef > 0) + (grpo.old_logprobs != "rollout")
    passes += (3 * grpo.critic.num_iterations + 1) * grpo.has_critic
    sampled = 0 if grpo.replay_rollouts else steps * grpo.num_rollouts
    return Work(
        stage=arm.name,
        steps=steps,
        trajectories=sampled,
        sampled_tokens=sampled * experiment.limits.max_new_tokens,
        trained_tokens=grpo.num_iterations * kept * length,
        training_flops=passes * costs.forward_flops(config, kept, length),
    )


def _least_hours(
    experiment: Experiment, work: Sequence[Work], decode: Program, chip: tpu.Chip
) -> float:
    """Return the hours of the counted work at the chip's peak; its slots are always full."""
    devices = experiment.mesh.num_devices
    step = max(decode.flops / devices / chip.flops, decode.least_bytes / chip.hbm_bandwidth)
    decode_steps = sum(each.sampled_tokens for each in work) / experiment.sampler.slots
    training = sum(each.training_flops for each in work) / devices / chip.flops
    return (decode_steps * step + training) / 3600


def make_report(found: DryRun) -> dict[str, Any]:
    """Describe it as JSON values."""
    return {
        "mesh": dataclasses.asdict(found.experiment.mesh),
        "devices": found.experiment.mesh.num_devices,
        "parameters": found.parameters,
        "trained_parameters": found.trained_parameters,
        "questions": found.questions,
        "held_bytes": found.held_bytes,
        "work": [dataclasses.asdict(each) for each in found.work],
        "least_hours": found.least_hours,
        "note": NOTE,
    }


def render_text(found: DryRun) -> str:
    """Render it for a person."""
    mesh = found.experiment.mesh
    trained = f"{found.trained_parameters:,} of them trained"
    lines = [
        f"mesh        slices={mesh.slices} data={mesh.data} fsdp={mesh.fsdp} "
        f"tensor={mesh.tensor}: {mesh.num_devices} devices",
        f"parameters  {found.parameters:,}, {trained}",
        "questions   " + ", ".join(f"{name} {count:,}" for name, count in found.questions.items()),
        "",
        f"{'stage':<24}{'steps':>9}{'trajectories':>15}{'sampled tokens':>18}"
        f"{'trained tokens':>18}",
    ]
    for each in found.work:
        numbers = (each.steps, each.trajectories, each.sampled_tokens, each.trained_tokens)
        cells = [f"{number:,}" if number else "-" for number in numbers]
        widths = (9, 15, 18, 18)
        cells = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append(f"{each.stage:<24}{''.join(cells)}")
    lines += ["", "memory per device, temporaries aside"]
    for name, held in found.held_bytes.items():
        parts = ", ".join(f"{what} {_size(size)}" for what, size in held.items())
        lines.append(f"  {name:<8}{_size(sum(held.values())):>9}: {parts}")
    hours = ", ".join(
        f"{name} {found.least_hours[name]:.2g}"
        if name in found.least_hours
        else f"{name} lacks the memory"
        for name in tpu.GENERATIONS
    )
    chips = "chip" if mesh.num_devices == 1 else "chips"
    lines += [
        "",
        f"hours at the peak of {mesh.num_devices} {chips}: {hours}",
        f"{NOTE} A slot is {FILLED:.0%} full on average.",
    ]
    return "\n".join(lines)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
