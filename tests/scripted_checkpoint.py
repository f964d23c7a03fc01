"""Small checkpoints and runs whose policy follows a script (tests/rollout/conftest.py)."""

import os
from collections.abc import Mapping
from pathlib import Path

import jax
from flax import nnx

from r1ci_jax.config import DatasetConfig, Experiment, ModelConfig, SamplerConfig, TurnLimits
from r1ci_jax.model import presets, qwen2
from r1ci_jax.model.hf import weights
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.train import checkpoint
from tests.rollout.conftest import Script, World


def write_checkpoint(place: Path, script: Script) -> None:
    """Write a Hugging Face directory whose policy follows the script."""
    world = World()
    weights.save_pretrained(world.model(script), place)
    world.tokenizer.save(place)


def write_run(place: Path, models: Mapping[str, int]) -> None:
    """Write the directory of a run with untrained models of the toy preset, each of its seed."""
    experiment = Experiment(
        name="x",
        dataset=DatasetConfig(tasks=("toy_letters",)),
        model=ModelConfig(preset="toy"),
        sampler=SamplerConfig(slots=4, cache_length=128, prefill_buckets=(16, 64)),
        limits=TurnLimits(max_new_tokens=12),
    )
    RunDir.open(place, experiment).close()
    config = presets.get("toy")
    make = nnx.jit(lambda key: qwen2.Qwen2(config, rngs=nnx.Rngs(key)))
    for number, (name, seed) in enumerate(models.items(), start=1):
        params = nnx.state(make(jax.random.key(seed)))
        final = place / "checkpoints" / name / "final"
        checkpoint.save_params(final, params)
        os.utime(final / "step.json", (number, number))  # which is the newest, whatever the clock
    tokenizers.train_byte_bpe(["print(1) How many"] * 3, 300).save(place / "tokenizer")
