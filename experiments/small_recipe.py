"""The whole method on real weights that two CPU cores can carry: what both models share.

The experiments are smollm2_135m.py and qwen2_5_coder_0_5b.py. What differs from the paper, and why:

    weights         LoRA of rank 16 in all matrices of the layers: a tenth of a full step's memory,
                    and no gradient of the frozen matrices
    tasks           those of the rule in task_choice.py, from the candidates below
    instructions    none (model.prompts="none"): demonstrations show the format, and our
                    instructions are longer than most questions. So the untrained model does not
                    know how to answer; its row says that and nothing about what it can do
    lengths         640 tokens: a question of at most 200, 320 sampled ones, 96 of each output
    levels          1 and 2
    GRPO            64 rollouts a step, no KL term: its reference costs one more forward pass
    precision       float32 throughout, which every processor multiplies. With avx512_bf16 or
                    amx_bf16 (/proc/cpuinfo) bfloat16 takes little more than half the time:
                    --config.train.dtype=bfloat16 --config.sampler.dtype=bfloat16

    variant         what runs
    (none), cpu     data, SFT, potential, GRPO of the chosen arms, evaluation: hours on two cores
    choose          data, SFT on all candidates, potential and evaluation, no GRPO: for the rule
    gpu             the paper's recipe and its 107 tasks with this model, on one GPU; after
                    `r1ci data fetch`, and nobody has run it yet
    smoke           the same code with random weights of a million parameters: a minute

Candidates need no download, are at most about 200 tokens long at these levels, and for training
have a scripted teacher whose median trajectory is at most 260 tokens (docs/teachers.md).
"""

import dataclasses
from typing import Final

from experiments import curriculum_controls, r1ci_recipe
from r1ci_jax.config import (
    DatasetConfig,
    DemonstrationConfig,
    EvalConfig,
    Experiment,
    GrpoConfig,
    MeshConfig,
    ModelConfig,
    SamplerConfig,
    SamplingParams,
    SftConfig,
    TrainConfig,
    TurnLimits,
)
from r1ci_jax.sandbox import Limits, SandboxConfig

VARIANTS: Final = ("", "cpu", "choose", "gpu", "smoke")

LENGTH: Final = 640
"""Tokens of a trajectory, and of a row of packed demonstrations."""

TRAIN_CANDIDATES: Final = (
    "letters",
    "number_multiply",
    "rg_basic_arithmetic",
    "rg_bitwise_arithmetic",
    "rg_calendar_arithmetic",
    "rg_chain_sum",
    "rg_complex_arithmetic",
    "rg_count_bits",
    "rg_decimal_arithmetic",
    "rg_decimal_chain_sum",
    "rg_dice",
    "rg_fraction_simplification",
    "rg_gcd",
    "rg_leg_counting",
    "rg_palindrome_generation",
    "rg_power_function",
    "rg_prime_factorization",
    "rg_quantum_lock",
    "rg_simple_geometry",
    "rg_simple_integration",
    "rg_spell_backward",
    "rg_word_sequence_reversal",
    "statistical_counting",
    "string_deletion_and_modification",
)

TEST_CANDIDATES: Final = (
    "new_operator",
    "rg_base_conversion",
    "rg_count_primes",
    "rg_countdown",
    "rg_lcm",
    "rg_letter_counting",
    "rg_number_filtering",
    "rg_products",
    "rg_simple_equations",
    "rg_time_intervals",
    "rg_word_ladder",
    "string_insertion",
)

SMOKE_TASKS: Final = ("rg_spell_backward", "rg_chain_sum", "rg_products")
"""Two for training and one for testing, with short questions in any tokenizer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallModel:
    """What tells the two experiments apart."""

    name: str
    directory: str
    """Where the checkpoint is expected, below the working directory."""
    hub_id: str
    train_tasks: tuple[str, ...]
    test_tasks: tuple[str, ...]
    sft_lr: float
    sft_epochs: int
    grpo_lr: float
    steps_per_stage: tuple[int, int, int, int]
    checkpoint_every: int
    """Steps of GRPO between checkpoints."""
    arms: tuple[str, ...]
    """Of those of curriculum_controls.py."""


def get_config(variant: str, model: SmallModel) -> Experiment:
    """The experiment of a model, or one of its variants."""
    match variant:
        case "" | "cpu":
            return _with_arms(_cpu(model), model.arms)
        case "choose":
            return _choose(_cpu(model))
        case "gpu":
            return _gpu(model)
        case "smoke":
            return _with_arms(_smoke(_cpu(model)), model.arms)
        case _:
            listed = ", ".join(known for known in VARIANTS if known)
            raise ValueError(f"no variant {variant!r}; there are: {listed}")


def _with_arms(whole: Experiment, names: tuple[str, ...]) -> Experiment:
    """Give an experiment its arms, whose own settings are made from its GRPO."""
    known = {arm.name: arm for arm in curriculum_controls.arms(whole)}
    return dataclasses.replace(whole, arms=tuple(known[name] for name in names))


def _cpu(model: SmallModel) -> Experiment:
    """The run on two cores, without its arms."""
    return Experiment(
        name=model.name,
        # "./": a directory, never a repository's name.
        model=ModelConfig(checkpoint=f"./{model.directory}", prompts="none"),
        dataset=DatasetConfig(
            tasks=(*model.train_tasks, *model.test_tasks),
            difficulties=(1, 2),
            sft_per_task=60,
            grpo_per_task=16,
            eval_per_task=24,
        ),
        demonstrations=DemonstrationConfig(multi_turn=0.3, max_tokens=320, median_tokens=200),
        sandbox=SandboxConfig(limits=Limits(cpu_seconds=5.0, wall_seconds=20.0), workers=2),
        sampler=SamplerConfig(
            slots=48,
            cache_length=LENGTH,
            chunk_steps=16,
            prefill_buckets=(16, 32, 64, 128, 224),
            # A slot that resumes alone is the usual case on a CPU.
            prefill_rows=1,
        ),
        limits=TurnLimits(max_code_calls=3, max_new_tokens=320, max_observation_tokens=96),
        train=TrainConfig(lora_rank=16, lora_alpha=32.0, logits_chunk=256),
        sft=SftConfig(
            epochs=model.sft_epochs,
            batch_size=8,
            # Two rows of activations at a time.
            num_microbatches=4,
            sequence_length=LENGTH,
            lr=model.sft_lr,
            warmup_fraction=0.1,
            checkpoint_every=5,
        ),
        grpo=GrpoConfig(
            prompts_per_step=8,
            rollouts_per_prompt=8,
            steps_per_stage=model.steps_per_stage,
            lr=model.grpo_lr,
            kl_coef=0.0,
            sequence_lengths=(192, 320, LENGTH),
            microbatch_tokens=2 * LENGTH,
            checkpoint_every=model.checkpoint_every,
        ),
        eval=EvalConfig(sampling=SamplingParams(temperature=0.6)),
    )


def _choose(cpu: Experiment) -> Experiment:
    """All candidates with fewer questions, up to the SFT model's results."""
    return dataclasses.replace(
        cpu,
        name=f"{cpu.name}-choose",
        dataset=dataclasses.replace(
            cpu.dataset,
            tasks=(*TRAIN_CANDIDATES, *TEST_CANDIDATES),
            sft_per_task=40,
            grpo_per_task=8,
            eval_per_task=20,
        ),
        arms=(),
    )


def _gpu(model: SmallModel) -> Experiment:
    """The paper's recipe with all weights of this model trained, on one device."""
    paper = r1ci_recipe.get_config(
        "", size="3b", checkpoint=model.hub_id, mesh=MeshConfig(), num_microbatches=8
    )
    return dataclasses.replace(
        paper,
        name=f"{model.name}-gpu",
        paper_row="",  # another model than any row's
        model=ModelConfig(checkpoint=model.hub_id, prompts="paper"),
    )


def _smoke(cpu: Experiment) -> Experiment:
    """Every stage and arm in two steps, with random weights and a tokenizer of the run's own."""
    length = 384
    return dataclasses.replace(
        cpu,
        name=f"{cpu.name}-smoke",
        model=ModelConfig(preset="toy", tokenizer_vocab=400, prompts="none"),
        dataset=dataclasses.replace(
            cpu.dataset,
            tasks=SMOKE_TASKS,
            difficulties=(1,),
            sft_per_task=8,
            grpo_per_task=2,
            eval_per_task=2,
        ),
        demonstrations=dataclasses.replace(
            cpu.demonstrations, multi_turn=None, max_tokens=120, median_tokens=80
        ),
        sampler=dataclasses.replace(
            cpu.sampler, slots=16, cache_length=length, prefill_buckets=(128,)
        ),
        limits=dataclasses.replace(cpu.limits, max_new_tokens=32, max_observation_tokens=32),
        sft=dataclasses.replace(cpu.sft, epochs=1, sequence_length=2 * LENGTH, batch_size=4),
        potential=dataclasses.replace(cpu.potential, samples_per_agent=1),
        grpo=dataclasses.replace(
            cpu.grpo,
            prompts_per_step=2,
            rollouts_per_prompt=2,
            steps_per_stage=(1, 0, 0, 1),
            sequence_lengths=(length,),
            checkpoint_every=1,
        ),
    )
