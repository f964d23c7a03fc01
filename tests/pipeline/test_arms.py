"""An experiment's arms: each is trained with its own order and settings, and evaluated."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from r1ci_jax import pipeline
from r1ci_jax.config import (
    Arm,
    DatasetConfig,
    DemonstrationConfig,
    Experiment,
    GrpoConfig,
    ModelConfig,
    PotentialConfig,
    SamplerConfig,
    SftConfig,
    TurnLimits,
)
from r1ci_jax.evaluate import tables
from r1ci_jax.model import presets, qwen2
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tools.report import page
from r1ci_jax.train import load_model

MICRO = qwen2.Qwen2Config(
    vocab_size=320, width=48, layers=1, query_heads=2, kv_heads=1, head_dim=16, mlp_width=64,
    tied=True,
)  # fmt: skip
GRPO = GrpoConfig(
    prompts_per_step=2,
    rollouts_per_prompt=2,
    steps_per_stage=(1, 0, 0, 1),
    lr=1e-2,
    sequence_lengths=(192,),
    microbatch_tokens=4 * 192,
)
FROZEN = dataclasses.replace(GRPO, lr=0.0, steps_per_stage=(0, 1, 0, 0))
EXPERIMENT = Experiment(
    name="arms",
    model=ModelConfig(preset="micro", tokenizer_vocab=320),
    dataset=DatasetConfig(
        tasks=("toy_letters",), difficulties=(1,), sft_per_task=8, grpo_per_task=2, eval_per_task=1
    ),
    demonstrations=DemonstrationConfig(code=0.9, repair=0.0, check=0.0, direct=0.1),
    sampler=SamplerConfig(slots=4, cache_length=192, prefill_buckets=(64,), prefill_rows=4),
    limits=TurnLimits(max_code_calls=1, max_new_tokens=24, max_observation_tokens=32),
    sft=SftConfig(epochs=1, batch_size=4, sequence_length=192, lr=1e-2),
    potential=PotentialConfig(samples_per_agent=1, temperatures=(1.0,)),
    grpo=GRPO,
    arms=(
        Arm(name="grpo_uniform", order="uniform"),
        Arm(
            name="grpo_frozen", grpo=dataclasses.replace(GRPO, lr=0.0, steps_per_stage=(0, 1, 0, 0))
        ),
        Arm(name="grpo_curriculum"),
    ),
)
MODELS = ["untrained", "sft", "grpo_uniform", "grpo_frozen", "grpo_curriculum"]


def steps(path: Path) -> list[tuple[str, int, int]]:
    return [
        (record["stage"], record["step"], record["curriculum/stage"])
        for record in metrics.read(path / "metrics.jsonl")
        if record["stage"].startswith("grpo")
    ]


def run(path: Path) -> None:
    with RunDir.open(path, EXPERIMENT) as directory, Sandbox(EXPERIMENT.sandbox) as sandbox:
        pipeline.run(EXPERIMENT, directory, sandbox)


def weights(directory: RunDir, model: str) -> list[Any]:
    loaded, _ = load_model.load_from_run(directory, model)
    return jax.tree.leaves(jax.tree.map(np.asarray, qwen2.parameters(loaded)))


def are_equal(left: list[Any], right: list[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_arms_are_trained_evaluated_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(presets.PRESETS, "micro", MICRO)  # pyright: ignore[reportArgumentType]
    run(tmp_path)
    assert steps(tmp_path) == [
        ("grpo_uniform", 1, 1),
        ("grpo_uniform", 2, 1),
        ("grpo_frozen", 1, 2),
        ("grpo_curriculum", 1, 1),
        ("grpo_curriculum", 2, 4),
    ]
    # An arm starts from the SFT model and differs by its own settings: at rate 0 nothing moves.
    directory = RunDir.view(tmp_path)
    assert are_equal(weights(directory, "grpo_frozen"), weights(directory, "sft"))
    records = metrics.read(directory.results_path)
    assert [record["model"] for record in records] == MODELS
    assert [cells[0] for cells in tables.build_results_table(tables.read_run(tmp_path)).rows] == [
        *(tables.model_name(model) for model in MODELS),
        tables.CONSTANT_ANSWER,
    ]
    assert "SFT + GRPO, frozen" in page.render_page(directory)

    # The stage again: finished arms are restored, not trained again.
    names = ("metrics.jsonl", "evaluation.jsonl", "results.jsonl", "trajectories.jsonl")
    before = {name: (tmp_path / name).read_bytes() for name in names}
    finished = json.loads((tmp_path / "stages.json").read_text())
    del finished["grpo"], finished["eval"]
    (tmp_path / "stages.json").write_text(json.dumps(finished))
    curriculum = weights(directory, "grpo_curriculum")
    run(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert are_equal(weights(directory, "grpo_curriculum"), curriculum)
