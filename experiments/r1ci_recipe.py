"""The paper's recipe, shared by the run files of its three model sizes.

Values under a comment are the paper's (arXiv 2505.21668); sources and grades are those of
experiments/paper_numbers.py. What no source says had to be chosen. The choices, and why:

    tasks           107 for training and 37 for testing, as many as the paper's; which ones is our
                    choice (r1ci_jax/tasks/train_test_split.py), because the names are not published
    questions       70 per task for demonstrations: the paper keeps at most that many trajectories;
                    50 for reinforcement learning, the number of its study of task counts (Fig. 3d);
                    200 for evaluation
    instructions    what is known of the paper's Table 1 and of CodeSteer's guide, in our words
                    (model.prompts="paper", r1ci_jax/text/prompts.py)
    sft.lr          1e-5 with cosine decay after 10 % of warm-up, as the predecessor CodeSteer had
    sft.packing     off: a batch of 32 is taken to be 32 trajectories, 610 steps in all
    lengths         8,192 tokens per trajectory, 6,144 of them sampled, 1,024 of each output
    batch of 128    questions, or 640 trajectories per step: 128 trajectories are no multiple of G=5
    updates         one per step (no minibatches), gradients clipped to norm 1, no warm-up
    clip range      0.2 on both sides
    advantages      divided by their group's standard deviation, as GRPO was published
    groups          by the published thresholds; they cannot be of equal size as well, N = 20
                    answers have eleven potentials only
    temperatures    0.6 to 1.2 for the five answers of each agent
    processor time  60 s per script too: only one limit is published, and it is of wall time
    precision       float32 weights and moments, bfloat16 matmuls; log-probabilities of the
                    old policy are recomputed, because the sampler rounds
    uniform         the paper's "w/o curriculum" is trained too, for its row of Table 3

The paper's demonstrations came from GPT-4o; ours come from a scripted teacher per task, half of the
Code Agent's in several turns. Tasks without a teacher are left out of supervised fine-tuning.
`--config.demonstrations.path=FILE.jsonl` takes others (docs/demonstrations.md).
"""

import dataclasses
from typing import Final

from experiments import grpo_presets, tasks
from r1ci_jax.config import (
    DatasetConfig,
    EvalConfig,
    Experiment,
    GrpoConfig,
    MeshConfig,
    ModelConfig,
    PotentialConfig,
    SamplerConfig,
    SamplingParams,
    SftConfig,
    TrainConfig,
    TurnLimits,
)
from r1ci_jax.sandbox import Limits, SandboxConfig
from r1ci_jax.tasks import registry

VARIANTS = ("", "toy", "modern", "ood")

LENGTH: Final = 8192
"""Tokens of a trajectory: the prompt, what is sampled, and what scripts print."""

SAMPLER_DTYPE: Final = "bfloat16"

TOY_TASKS: Final = ("toy_letters", "toy_gcd_lcm")


def get_config(
    variant: str,
    *,
    size: str,
    checkpoint: str,
    mesh: MeshConfig,
    slots: int = 128,
    num_microbatches: int = 1,
) -> Experiment:
    """One size of the paper's model on one mesh, or a variant of that run.

    Args:
        variant: Empty, "toy", "modern" (GRPO as the field trains now, experiments/grpo_presets.py)
            or "ood" (the paper's run, evaluated on GPQA Diamond and AIME too).
        size: Of the model, as `experiments/paper_numbers.py` names its rows.
        checkpoint: On the Hugging Face hub; the preset of that name has its architecture.
        mesh: As many devices as the topology has chips.
        slots: Trajectories sampled at once; fewer where memory is short.
        num_microbatches: Of a batch of supervised fine-tuning; more where memory is short.
    """
    paper = Experiment(
        name=f"r1ci-{size}",
        paper_row=size,
        model=ModelConfig(
            checkpoint=checkpoint,
            architecture=checkpoint.rpartition("/")[2].lower(),
            prompts="paper",
        ),
        dataset=tasks.DATASET,
        demonstrations=tasks.DEMONSTRATIONS,
        mesh=mesh,
        # 60 s per script (S3 S5, A), on nodes of 64 cores (S3 S4 S5, A).
        sandbox=SandboxConfig(limits=Limits(cpu_seconds=60.0, wall_seconds=60.0), workers=64),
        sampler=SamplerConfig(
            slots=slots,
            cache_length=LENGTH,
            chunk_steps=32,
            prefill_buckets=(128, 512, 2048),
            dtype=SAMPLER_DTYPE,
        ),
        # At most 8 code calls (S3 S4 S5 S6, A).
        limits=TurnLimits(max_code_calls=8, max_new_tokens=6144, max_observation_tokens=1024),
        train=TrainConfig(dtype="bfloat16"),
        # 3 epochs, batch 32, all weights (S3, B).
        sft=SftConfig(
            epochs=3,
            batch_size=32,
            num_microbatches=num_microbatches,
            packing=False,
            sequence_length=LENGTH,
            lr=1e-5,
            schedule="cosine",
            warmup_fraction=0.1,
        ),
        # N = 20, five answers by each of four agents, four groups (S3 S4 S5, A).
        potential=PotentialConfig(samples_per_agent=5, lower_bounds=(0.64, 0.48, 0.32)),
        # The preset says which of its numbers are the paper's.
        grpo=_grpo("paper", mesh),
        # Temperature 0.6 at inference (S3, B).
        eval=EvalConfig(sampling=SamplingParams(temperature=0.6)),
    )
    match variant:
        case "":
            return paper
        case "toy":
            return _toy(paper)
        case "modern":
            # The paper's rows are of another method.
            return dataclasses.replace(
                paper, name=f"{paper.name}-modern", paper_row="", grpo=_grpo("modern", mesh)
            )
        case "ood":
            names = (*paper.dataset.tasks, *registry.names(suite="ood"))
            dataset = dataclasses.replace(paper.dataset, tasks=names)
            return dataclasses.replace(paper, name=f"{paper.name}-ood", dataset=dataset)
        case _:
            raise ValueError(f"no variant {variant!r}; there are: {', '.join(VARIANTS[1:])}")


def _grpo(name: grpo_presets.Name, mesh: MeshConfig) -> GrpoConfig:
    """A preset of GRPO, in rows of the paper's lengths."""
    return grpo_presets.preset(
        name,
        sampler_dtype=SAMPLER_DTYPE,
        sequence_lengths=(1024, 2048, 4096, LENGTH),
        microbatch_tokens=LENGTH * mesh.num_devices,
    )


def _toy(paper: Experiment) -> Experiment:
    """The same recipe with a model of a million weights: two optimizer steps of each kind.

    Precision, what the backward pass recomputes, microbatches, curriculum and agents stay those of
    the paper; model, tasks, counts and lengths shrink, and the scripted teacher demonstrates.
    """
    length = 256
    return dataclasses.replace(
        paper,
        name=f"{paper.name}-toy",
        paper_row="",
        model=ModelConfig(preset="toy", tokenizer_vocab=400),
        dataset=DatasetConfig(
            tasks=TOY_TASKS, difficulties=(1,), sft_per_task=8, grpo_per_task=2, eval_per_task=2
        ),
        mesh=MeshConfig(),
        sandbox=SandboxConfig(limits=Limits(cpu_seconds=5.0, wall_seconds=60.0), workers=2),
        sampler=dataclasses.replace(
            paper.sampler,
            slots=16,
            cache_length=length,
            chunk_steps=16,
            prefill_buckets=(32, 96),
        ),
        limits=dataclasses.replace(paper.limits, max_new_tokens=64, max_observation_tokens=32),
        train=dataclasses.replace(paper.train, attention="blocked"),
        # 16 demonstrations, three times each, 24 in a batch.
        sft=dataclasses.replace(
            paper.sft, batch_size=24, num_microbatches=2, sequence_length=length, checkpoint_every=1
        ),
        grpo=dataclasses.replace(
            paper.grpo,
            prompts_per_step=2,
            steps_per_stage=(1, 0, 0, 1),
            sequence_lengths=(length,),
            # Ten trajectories go through in several passes.
            microbatch_tokens=4 * length,
            checkpoint_every=1,
        ),
    )
