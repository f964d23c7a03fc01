"""A model that answers messages as they come: how it is asked, and within which limits.

`r1ci chat` talks to it in one slot, `r1ci serve` in several.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from r1ci_jax.config import EvalConfig, SamplingParams, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import runner as runners
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.text import prompts
from r1ci_jax.tools.model_evaluation import checkpoint_defaults, evaluation_settings
from r1ci_jax.train import load_model
from r1ci_jax.train.load_model import SamplerModel

CHUNK_STEPS = 4
"""Decode steps per device call; few, so that tokens appear when sampled and new requests enter."""
_OBSERVATION, _ANSWER = 512, 1024
"""Limits of a script's output and of an answer for models without a run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChatModel:
    """A model in the sampler's layout, and how it wants to be asked."""

    name: str
    model: SamplerModel
    instructions: Mapping[str, str]
    """Text before the first question, by agent."""
    system: str
    """System message of a conversation that has none, from the checkpoint's chat template."""
    sampling: SamplingParams
    """Sampling that the checkpoint asks for, or that of the run's evaluation."""
    limits: TurnLimits
    """Limits of an answer."""
    context: int
    """Tokens of a conversation."""


def load(path: str, run: RunDir | None, trained: str | None, dtype: str) -> ChatModel:
    """Load a model that a run has trained, or what `load_model.load_published` takes.

    Raises:
        UserError: There is none, or it is damaged.
    """
    return _load_published(path, dtype) if run is None else _load_trained(run, trained, dtype)


def _load_trained(run: RunDir, name: str | None, dtype: str) -> ChatModel:
    trained = load_model.trained_name(run, name)
    model = load_model.load_sampler_from_run(run, trained, dtype)
    experiment: dict[str, Any] = run.config["experiment"]
    saved, sampling = experiment["limits"], experiment.get("eval", {}).get("sampling")
    return ChatModel(
        name=f"{run.path.name}/{trained}",
        model=model,
        instructions=load_model.instructions_of_run(run),
        system="",
        sampling=EvalConfig().sampling if sampling is None else SamplingParams(**sampling),
        limits=TurnLimits(
            max_code_calls=saved["max_code_calls"],
            max_new_tokens=saved["max_new_tokens"],
            max_observation_tokens=saved["max_observation_tokens"],
            observation_rule=saved.get("observation_rule", "clip"),
        ),
        context=experiment["sampler"]["cache_length"],
    )


def _load_published(path: str, dtype: str) -> ChatModel:
    defaults = checkpoint_defaults.read(load_model.published_directory(path))
    model = load_model.load_published(path, dtype)
    return ChatModel(
        name=Path(os.path.abspath(path)).name if Path(path).exists() else path,
        model=model,
        instructions=prompts.INSTRUCTIONS,
        system=defaults.system,
        sampling=defaults.sampling,
        limits=TurnLimits(max_new_tokens=_ANSWER, max_observation_tokens=_OBSERVATION),
        context=min(evaluation_settings.CONTEXT, model.config.max_positions),
    )


def make_runner(chat: ChatModel, sandbox: Sandbox, *, slots: int, seed: int = 0) -> Runner:
    """Make a runner for `slots` conversations at a time, and compile its programs.

    Raises:
        UserError: The context has no room for a conversation, or the limits cannot be kept.
    """
    model, context = chat.model, chat.context
    if not 2 <= context <= model.config.max_positions:
        raise UserError(f"--context {context}: 2 to {model.config.max_positions} tokens")
    sampler = dataclasses.replace(
        evaluation_settings.with_context(evaluation_settings.SAMPLER, context),
        slots=slots,
        chunk_steps=CHUNK_STEPS,
        dtype="bfloat16" if model.weights.norm_D.dtype == jnp.bfloat16 else "float32",
    )
    engine = runners.make_engine(model.config, sampler, model.tokenizer, seed=seed)
    runner = Runner(engine, sandbox, model.tokenizer, chat.limits)
    runner.load(model.weights)
    runner.warm_up()
    return runner
