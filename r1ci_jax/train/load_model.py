"""Load a model by the name that a user gives: one of a run, or a published checkpoint."""

import concurrent.futures
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from flax import nnx
from jax.typing import DTypeLike

from r1ci_jax.config import Experiment, ModelConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model import presets, sampler_weights
from r1ci_jax.model.hf import hf_config, hub, weights
from r1ci_jax.model.qwen2 import DecoderWeights, Qwen2, Qwen2Config
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.text import prompts
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import checkpoint


def architecture(experiment: Experiment) -> Qwen2Config:
    """Look up the architecture of an experiment's model, from a download only if it must."""
    return _architecture(experiment.model)


def architecture_of_run(run: RunDir) -> Qwen2Config:
    """Look up the architecture of a run's models."""
    return _architecture(ModelConfig(**run.config["experiment"]["model"]))


def instructions_of_run(run: RunDir) -> Mapping[str, str]:
    """Return the instructions, by agent, that a run's policy reads."""
    source = run.config["experiment"]["model"]
    choice = source.get("prompts", "auto")
    return prompts.choose(choice, is_pretrained=bool(source["checkpoint"]))


def _architecture(source: ModelConfig) -> Qwen2Config:
    if source.architecture:
        return presets.get(source.architecture)
    if source.checkpoint:
        directory = hub.resolve(source.checkpoint)
        return hf_config.parse(hf_config.read_json(directory), directory)
    return presets.get(source.preset)


def load_from_run(
    run: RunDir, name: str | None = None, dtype: DTypeLike = "float32"
) -> tuple[Qwen2, Tokenizer]:
    """Load a trained model of a run, by its name in results.jsonl; by default the newest.

    Raises:
        UserError: the run has no such model, or none yet.
    """
    config = architecture_of_run(run)
    graphdef, shapes = nnx.split(nnx.eval_shape(lambda: Qwen2(config, rngs=nnx.Rngs(0))))
    path = run.checkpoints / trained_name(run, name) / "final"
    params, _ = checkpoint.load_params(path, shapes)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    source = run.config["experiment"]["model"]
    return nnx.merge(graphdef, params), load_tokenizer(tokenizer_path(run), source["checkpoint"])


def load_tokenizer(path: str, checkpoint: str) -> Tokenizer:
    """Load a tokenizer by directory, GGUF file or hub id, with the stop tokens of `checkpoint`."""
    if path == checkpoint:
        return tokenizers.load(str(hub.resolve(checkpoint)))  # downloads all files of a hub id
    tokenizer = tokenizers.load(str(hub.resolve(path)) if Path(path).is_file() else path)
    return tokenizer.with_stop_tokens_of(hub.resolve(checkpoint)) if checkpoint else tokenizer


def tokenizer_path(run: RunDir) -> str:
    """Return directory or hub id of the tokenizer of a run's models."""
    source = run.config["experiment"]["model"]
    return source["tokenizer"] or source["checkpoint"] or str(run.path / "tokenizer")


class SamplerModel(NamedTuple):
    """A model to sample from: its weights are in the sampler's layout alone."""

    config: Qwen2Config
    weights: DecoderWeights
    tokenizer: Tokenizer


def load_sampler_from_run(
    run: RunDir, name: str | None = None, dtype: DTypeLike = "float32"
) -> SamplerModel:
    """Load a trained model of a run to sample from it; see `load_from_run`."""
    model, tokenizer = load_from_run(run, name, dtype)
    decoder = sampler_weights.from_trainer_params(model, model.config)
    return SamplerModel(model.config, decoder, tokenizer)


def load_published(name: str, dtype: DTypeLike = "float32") -> SamplerModel:
    """Load a Hugging Face directory, a GGUF file, a hub id, or a preset's published model.

    Raises:
        UserError: there is none, or it is damaged.
    """
    directory = published_directory(name)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        loading = pool.submit(tokenizers.load, str(directory))  # while the weights are read
        config, decoder = weights.load_decoder_weights(directory, dtype)
        tokenizer = loading.result()
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the tokenizer in {directory} has {tokenizer.vocab_size} tokens, the model only "
            f"{config.vocab_size} embeddings; fetch the checkpoint again"
        )
    return SamplerModel(config, decoder, tokenizer)


def published_directory(name: str) -> Path:
    """Return the checkpoint's directory that `load_published` reads; of a GGUF file, the imported.

    Raises:
        UserError: There is none.
    """
    return hub.resolve(name if Path(name).exists() else _hub_id(name))


def _hub_id(name: str) -> str:
    """Presets are named as the Qwen repositories are, in small letters."""
    if name not in presets.PRESETS:
        return name
    if not name.startswith("qwen2.5-"):
        raise UserError(f"{name} is not published; train it and name the run, e.g. runs/{name}")
    size, *rest = name.removeprefix("qwen2.5-").split("-")
    words = ["1M" if word == "1m" else word.capitalize() for word in rest]
    return "-".join(["Qwen/Qwen2.5", size.upper(), *words])


def trained_name(run: RunDir, name: str | None) -> str:
    """Return the name of a trained model of a run; None: of the newest.

    Raises:
        UserError: The run has no such model, or none yet.
    """
    finals = sorted(run.checkpoints.glob("*/final/step.json"), key=lambda path: path.stat().mtime)
    names = [path.parent.parent.name for path in finals]
    if not names:
        raise UserError(f"{run.path} has no trained model yet; run its sft stage first")
    if name is None:
        return names[-1]
    for known in (name, f"grpo_{name}"):
        if known in names:
            return known
    raise UserError(f"{run.path} has no model {name!r}; it has: {', '.join(sorted(names))}")
