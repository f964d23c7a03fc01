"""Settings of an evaluation: what the user chose, and for the rest what fits the model."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from r1ci_jax.config import (
    DatasetConfig,
    Dtype,
    EvalConfig,
    EvalPromptChoice,
    SamplerConfig,
    Samples,
    SamplingParams,
    Seed,
    TurnLimits,
)
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import AgentPlace
from r1ci_jax.ranges import Checked, Count
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Limits, SandboxConfig
from r1ci_jax.text import prompts
from r1ci_jax.tools.model_evaluation import question_choice
from r1ci_jax.tools.model_evaluation.checkpoint_defaults import CheckpointDefaults

CONTEXT: Final = 4096
"""Tokens of a trajectory of a published model, if it can hold as many."""
LIMITS: Final = TurnLimits(max_new_tokens=600, max_observation_tokens=256)
"""Limits for a published model."""
SAMPLER: Final = SamplerConfig(
    slots=16, cache_length=CONTEXT, prefill_buckets=(16, 32, 64, 128, 256), prefill_rows=1
)
"""Sampler for a published model: with 16 rows two CPU cores are busy computing rather than reading
weights, and the last trajectories leave few slots empty. Prefill calls take one row: what a slot
reads costs what its own length does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices(Checked, section="eval"):
    """What the user chose; None: what fits the model."""

    tasks: tuple[str, ...] = question_choice.DEFAULT_TASKS
    """Words of question_choice.py."""
    name: str | None = None
    agents: tuple[AgentPlace, ...] = ("code_agent",)
    questions: Count = 5
    """Questions of each task."""
    samples: Samples = 1
    """Trajectories per question and agent."""
    difficulties: tuple[Count, ...] | None = None
    sampling: dict = dataclasses.field(default_factory=dict)
    """Fields of SamplingParams that replace the model's own."""
    limits: dict = dataclasses.field(default_factory=dict)
    """Fields of TurnLimits that replace the defaults."""
    context: Count | None = None
    slots: Count | None = None
    dtype: Dtype | None = None
    prompts: EvalPromptChoice = "auto"
    system: str | None = None
    ask_for_answer: bool | None = None
    seed: Seed = 0
    data_seed: Seed | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """All that decides the rows of an evaluation."""

    model: str
    """Path, hub id or preset, as the user named it."""
    trained: str
    """Model of a run; empty: a published one."""
    weights: str
    """Fingerprint of the model's files."""
    name: str
    """Name of the model in rows and tables."""
    dataset: DatasetConfig
    questions: int
    data_seed: int
    seed: int
    eval: EvalConfig
    limits: TurnLimits
    sampler: SamplerConfig
    prompts: EvalPromptChoice
    system: str
    sandbox: SandboxConfig

    @property
    def instructions(self) -> Mapping[str, str]:
        """Text before each question, by agent."""
        return prompts.choose(self.prompts, is_pretrained=not self.trained)


def for_published(
    model: str,
    choices: Choices,
    *,
    max_positions: int,
    defaults: CheckpointDefaults,
    weights: str,
) -> EvaluationSettings:
    """Complete the choices for a published model."""
    tasks = question_choice.choose(choices.tasks)
    context = min(CONTEXT, max_positions)
    answers = len(tasks) * choices.questions * choices.samples * len(choices.agents)
    sampler = dataclasses.replace(SAMPLER, slots=min(SAMPLER.slots, answers))
    # Instructions by default: a model that was not trained here knows neither our code fence nor
    # our answer marks, nor what its agent may do. Even so many small ones end with "The answer is
    # 18." and no marks: they are asked for them once.
    return _complete(
        choices,
        EvaluationSettings(
            model=model,
            trained="",
            weights=weights,
            # The last part of a path, also of one like `.`, or of a hub id.
            name=Path(os.path.abspath(model)).name,
            dataset=question_choice.default_questions(tasks),
            questions=choices.questions,
            data_seed=0,
            seed=choices.seed,
            eval=EvalConfig(sampling=defaults.sampling, ask_for_answer=True),
            limits=dataclasses.replace(
                LIMITS, max_new_tokens=min(LIMITS.max_new_tokens, max(context // 2, 1))
            ),
            sampler=with_context(sampler, context),
            prompts="r1ci",
            system=defaults.system,
            sandbox=SandboxConfig(),
        ),
        max_positions,
    )


def for_run(
    run: RunDir, trained: str, choices: Choices, *, max_positions: int, weights: str
) -> EvaluationSettings:
    """Complete the choices for a model of a run by the run's own settings."""
    saved = run.config["experiment"]
    tasks = question_choice.choose(choices.tasks)
    choice = saved["model"].get("prompts", "auto")
    if choice == "auto":
        choice = "r1ci" if saved["model"]["checkpoint"] else "none"
    sandbox = saved.get("sandbox", {})
    limits = Limits(**sandbox.get("limits", {}))
    return _complete(
        choices,
        EvaluationSettings(
            model=str(run.path),
            trained=trained,
            weights=weights,
            name=f"{run.path.resolve().name}/{trained}",
            dataset=DatasetConfig(**_tuples(saved["dataset"] | {"tasks": list(tasks)})),
            questions=choices.questions,
            data_seed=saved["data_seed"],
            seed=choices.seed,
            eval=EvalConfig(sampling=SamplingParams(**saved["eval"]["sampling"])),
            limits=TurnLimits(**saved["limits"]),
            sampler=SamplerConfig(**_tuples(saved["sampler"] | {"weight_quantization": "none"})),
            prompts=choice,
            system="",
            sandbox=SandboxConfig(**{**sandbox, "limits": limits}),
        ),
        max_positions,
    )


def _complete(
    choices: Choices, found: EvaluationSettings, max_positions: int
) -> EvaluationSettings:
    """Put the user's choices in place of the model's."""
    sampler = found.sampler
    if choices.context is not None:
        if choices.context > max_positions:
            raise UserError(f"--context {choices.context}: the model holds {max_positions} tokens")
        sampler = with_context(sampler, choices.context)
    changed = {"slots": choices.slots, "dtype": choices.dtype}
    sampler = dataclasses.replace(sampler, **_given(changed))
    levels = {"difficulties": choices.difficulties}
    limits = dataclasses.replace(found.limits, **choices.limits)
    if limits.max_new_tokens >= sampler.cache_length:
        raise UserError(
            f"--context {sampler.cache_length} has no room for a prompt and --max-tokens "
            f"{limits.max_new_tokens}; raise the one or lower the other"
        )
    sampling = dataclasses.replace(found.eval.sampling, **choices.sampling)
    if choices.samples > 1 and sampling.temperature == 0:
        raise UserError(
            f"--samples {choices.samples} at temperature 0: all answers to a question would be the "
            "same; add --temperature 0.6, or leave --samples out"
        )
    others = {"name": choices.name, "system": choices.system, "data_seed": choices.data_seed}
    if choices.prompts != "auto":
        others["prompts"] = choices.prompts
    return dataclasses.replace(
        found,
        dataset=dataclasses.replace(found.dataset, **_given(levels)),
        eval=dataclasses.replace(
            found.eval,
            agents=choices.agents,
            samples_per_question=choices.samples,
            sampling=sampling,
            **_given({"ask_for_answer": choices.ask_for_answer}),
        ),
        limits=limits,
        sampler=sampler,
        **_given(others),
    )


def with_context(sampler: SamplerConfig, context: int) -> SamplerConfig:
    """Return the sampler for trajectories of at most `context` tokens."""
    buckets = tuple(size for size in sampler.prefill_buckets if size <= context) or (context,)
    return dataclasses.replace(sampler, cache_length=context, prefill_buckets=buckets)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _tuples(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the lists of JSON into the tuples of a config."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
