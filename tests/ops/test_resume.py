"""Kill -9 at any moment, run again: the same run comes out, bit for bit."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from r1ci_jax.cli import experiment as experiments
from r1ci_jax.core import metrics
from r1ci_jax.train import checkpoint, policy

# All stages with a model that compiles fast. It sees each demonstration often enough to write code,
# so that GRPO has observations, advantages and gradients to get wrong.
EXPERIMENT = """
from r1ci_jax.core.config import *
from r1ci_jax.model import presets, qwen2
from r1ci_jax.sandbox import Limits, SandboxConfig

presets.PRESETS["micro"] = qwen2.Qwen2Config(
    vocab_size=320, width=48, layers=1, query_heads=2, kv_heads=1, head_dim=16, mlp_width=64,
    tied=True,
)

def get_config(variant=""):
    return Experiment(
        name="micro",
        model=ModelSource(preset="micro", tokenizer_vocab=320),
        questions=Questions(
            tasks=("toy_letters", "toy_gcd_lcm"), difficulties=(1,),
            sft_per_task=12, grpo_per_task=4, eval_per_task=1,
        ),
        teacher=TeacherMix(code=0.9, repair=0.0, check=0.0, direct=0.1),
        sandbox=SandboxConfig(limits=Limits(cpu_seconds=5.0, wall_seconds=60.0), workers=2),
        sampler=SamplerConfig(
            slots=8, cache_length=192, chunk=16, prefill_buckets=(64,), prefill_rows=8
        ),
        limits=TurnLimits(code_calls=2, new_tokens=64, observation_tokens=32),
        sft=SftConfig(
            epochs=60, batch_size=4, sequence_length=192, lr=1e-2, checkpoint_every=30
        ),
        potential=PotentialConfig(answers_per_agent=1, temperatures=(1.0,)),
        grpo=GrpoConfig(
            prompts_per_step=3, rollouts_per_prompt=4, steps_per_stage=(2, 6, 1, 1), lr=1e-3,
            sequence_lengths=(192,), micro_tokens=8 * 192, checkpoint_every=3,
        ),
    )
"""
TIMES = ("time", "time/rollout", "time/sandbox", "time/update", "rate/tokens_per_second")
STEPS = {"sft": None, "grpo_curriculum": 10, "grpo_uniform": 10}


def start(file: Path, workdir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "r1ci_jax", "run", str(file), "--workdir", str(workdir)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def kill_at(process: subprocess.Popen[str], workdir: Path, stage: str, step: int) -> None:
    """SIGKILL as soon as metrics.jsonl shows this step."""
    deadline = time.monotonic() + 300
    while not any(row["step"] >= step for row in rows(workdir, stage)):
        assert process.poll() is None, f"ended before {stage} {step}: {process.communicate()[1]}"
        assert time.monotonic() < deadline, f"{stage} {step} was never reached"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def rows(workdir: Path, stage: str | None = None) -> list[dict[str, Any]]:
    found = metrics.read(workdir / "metrics.jsonl")
    return [row for row in found if stage is None or row["stage"] == stage]


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in TIMES}


def untimed_trajectories(workdir: Path) -> list[dict[str, Any]]:
    found = metrics.read(workdir / "trajectories.jsonl")
    for turn in (turn for row in found for turn in row["turns"]):
        del turn["wall_seconds"]
    return found


def final(file: Path, workdir: Path, model: str) -> list[np.ndarray]:
    _, params = policy.load(experiments.load(str(file)), workdir / "tokenizer")
    path = workdir / "checkpoints" / model / "final"
    loaded, _ = checkpoint.load_params(path, checkpoint.abstract(params))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(loaded)]


def test_a_run_killed_in_sft_and_in_grpo_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    file, whole, killed = tmp_path / "micro.py", tmp_path / "whole", tmp_path / "killed"
    file.write_text(EXPERIMENT)
    with contextlib.ExitStack() as stack:
        uninterrupted = start(file, whole)
        stack.callback(uninterrupted.kill)

        victim = start(file, killed)
        stack.callback(victim.kill)
        kill_at(victim, killed, "sft", 40)
        assert "sft" not in json.loads((killed / "stages.json").read_text())
        in_sft = rows(killed, "sft")[-1]["step"]

        victim = start(file, killed)
        stack.callback(victim.kill)
        kill_at(victim, killed, "grpo_curriculum", 5)
        finished = json.loads((killed / "stages.json").read_text())
        assert "sft" in finished and "grpo" not in finished
        assert not (killed / "checkpoints" / "grpo_curriculum" / "final").exists()

        # An evaluation that was killed between the rows of two tasks left this.
        with metrics.JsonlLog(killed / "results.jsonl") as log:
            log.append({"model": "untrained", "task": "toy_letters", "n": 0, "correct": 0})
        said = finish(start(file, killed))
        finish(uninterrupted)

    # It went on where it was, not at the beginning.
    assert "\nsft: start" not in said and "grpo_curriculum: start at" in said
    assert in_sft > 30

    for stage, steps in STEPS.items():
        found = rows(killed, stage)
        wanted = rows(whole, stage)
        assert [row["step"] for row in found] == list(range(1, (steps or len(wanted)) + 1))
        assert [timeless(row) for row in found] == [timeless(row) for row in wanted]
    assert len(rows(killed)) == len(rows(whole))

    # The runs had something to get wrong.
    trained = rows(whole, "grpo_curriculum")
    assert sum(row["tool/calls_per_traj"] for row in trained) > 1
    assert any(row["group/flat_fraction"] < 1 for row in trained)

    for model in ("sft", "grpo_curriculum", "grpo_uniform"):
        pairs = zip(final(file, killed, model), final(file, whole, model), strict=True)
        assert all(np.array_equal(left, right) for left, right in pairs), model
    for name in ("potential.jsonl", "results.jsonl"):
        assert metrics.read(killed / name) == metrics.read(whole / name)
    assert untimed_trajectories(killed) == untimed_trajectories(whole)
