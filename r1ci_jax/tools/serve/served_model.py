"""The model that is served: found by its name, with the prompt and the limits that fit it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from r1ci_jax.config import EvalConfig, SamplerConfig, SamplingParams, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.text import prompts, protocol
from r1ci_jax.tools.export import exported_files
from r1ci_jax.tools.model_evaluation import checkpoint_defaults
from r1ci_jax.train import load_model
from r1ci_jax.train.load_model import SamplerModel

CHUNK_STEPS = 4
"""Decode steps per device call; few, so that tokens appear when sampled and new requests enter."""
_CONTEXT, _OBSERVATION, _ANSWER = 4096, 512, 1024
"""Limits (conversation, script output, answer) for models without a run."""
_BUCKETS = (16, 64, 256)
_PREFILL_ROWS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model in the sampler's layout, and how it wants to be asked."""

    name: str
    model: SamplerModel
    instructions: str
    """Text before the first question."""
    sampling: SamplingParams
    limits: TurnLimits
    """Limits of an answer, where a request has none."""
    context: int
    """Tokens of a conversation."""


def load_trained(run: RunDir, name: str | None, dtype: str) -> ServedModel:
    """Load a model that a run has trained; None: the newest.

    Raises:
        UserError: There is none.
    """
    trained = load_model.trained_name(run, name)
    model = load_model.load_sampler_from_run(run, trained, dtype)
    experiment: dict[str, Any] = run.config["experiment"]
    saved, sampling = experiment["limits"], experiment.get("eval", {}).get("sampling")
    return ServedModel(
        name=f"{run.path.name}/{trained}",
        model=model,
        instructions=exported_files.trained_instructions(run),
        sampling=EvalConfig().sampling if sampling is None else SamplingParams(**sampling),
        limits=TurnLimits(
            max_code_calls=saved["max_code_calls"],
            max_new_tokens=saved["max_new_tokens"],
            max_observation_tokens=saved["max_observation_tokens"],
            observation_rule=saved.get("observation_rule", "clip"),
        ),
        context=experiment["sampler"]["cache_length"],
    )


def load_published(path: str, dtype: str) -> ServedModel:
    """Load what `r1ci chat` loads: a directory, a hub id, a GGUF file or a preset.

    Raises:
        UserError: There is none, or it is damaged.
    """
    directory = load_model.published_directory(path)
    defaults = EvalConfig().sampling
    if directory is not None:
        defaults = checkpoint_defaults.read(directory).sampling
    model = load_model.load_published(path, dtype)
    return ServedModel(
        name=Path(path).name if Path(path).exists() else path,
        model=model,
        instructions=prompts.INSTRUCTIONS["code_agent"],
        sampling=defaults,
        limits=TurnLimits(max_new_tokens=_ANSWER, max_observation_tokens=_OBSERVATION),
        context=min(_CONTEXT, model.config.max_positions),
    )


def make_runner(served: ServedModel, sandbox: Sandbox, *, slots: int) -> Runner:
    """Make a runner for `slots` conversations at a time, and compile its programs.

    Raises:
        UserError: The context has no room for a conversation, or the limits cannot be kept.
    """
    model, context = served.model, served.context
    if not 2 <= context <= model.config.max_positions:
        raise UserError(f"--context {context}: 2 to {model.config.max_positions} tokens")
    sampler = SamplerConfig(
        slots=slots,
        cache_length=context,
        chunk_steps=CHUNK_STEPS,
        prefill_buckets=tuple(size for size in _BUCKETS if size <= context) or (context,),
        prefill_rows=min(slots, _PREFILL_ROWS),
        dtype="bfloat16" if model.weights.norm_D.dtype == jnp.bfloat16 else "float32",
    )
    tokenizer = model.tokenizer
    table = stop_automaton.token_table(protocol.stop_machine(), tokenizer.token_bytes())
    # Each answer names its own random stream, so one seed of the engine serves all.
    engine = Engine(model.config, sampler, table, stop_token_ids=tokenizer.stop_token_ids, seed=0)
    runner = Runner(engine, sandbox, tokenizer, served.limits)
    runner.load(model.weights)
    runner.warm_up()
    return runner
