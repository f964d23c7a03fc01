"""Stopped at random moments and run again, the same run comes out, bit for bit.

`R1CI_KILLS=20 pytest -s tests/pipeline/test_kill.py` kills more often. The moments are drawn anew
each time and printed; `R1CI_KILL_SEED` draws the same ones again, as far as a clock allows.
"""

import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.cli.main import RESUME_EXIT_STATUS
from r1ci_jax.data import batching
from r1ci_jax.evaluate import evaluation
from r1ci_jax.runtime import metrics
from r1ci_jax.train import checkpoint, policy
from tests.load import PATIENCE

KILLS = int(os.environ.get("R1CI_KILLS", "2"))

# All stages with a model that compiles fast. It sees each demonstration often enough to write code,
# so that GRPO has observations, advantages and gradients to get wrong. Each row of metrics also
# says which examples its step saw.
EXPERIMENT = """
import collections
import zlib

from r1ci_jax.runtime import metrics
from r1ci_jax.config import *
from r1ci_jax.data import batching
from r1ci_jax.evaluate import evaluation
from r1ci_jax.model import presets, qwen2
from r1ci_jax.sandbox import Limits, SandboxConfig

presets.PRESETS["micro"] = qwen2.Qwen2Config(
    vocab_size=320, width=48, layers=1, query_heads=2, kv_heads=1, head_dim=16, mlp_width=64,
    tied=True,
)
evaluation.TRAJECTORIES_PER_SLOT = 0  # a block for each question
seen = collections.deque()  # of the steps whose metrics are not written yet
next_batch, write = batching.Batches.__next__, metrics.MetricsWriter.write

def noted(batches):
    batch = next_batch(batches)
    rows = getattr(batch, "tokens_BT", batch)
    names = [row.id.encode() if hasattr(row, "id") else row.tobytes() for row in rows]
    # A row of padding is no example.
    seen.append([zlib.crc32(name) for name in names if any(name)])
    return batch

def write_seen(writer, stage, step, values):
    names = [] if stage == "potential" else seen.popleft()
    write(writer, stage, step, {**values, **{f"seen/{i}": name for i, name in enumerate(names)}})

batching.Batches.__next__ = noted
metrics.MetricsWriter.write = write_seen

def get_config(variant=""):
    return Experiment(
        name="micro",
        model=ModelConfig(preset="micro", tokenizer_vocab=320),
        dataset=DatasetConfig(
            tasks=("toy_letters", "toy_gcd_lcm"), difficulties=(1,),
            sft_per_task=12, grpo_per_task=4, eval_per_task=1,
        ),
        demonstrations=DemonstrationConfig(code=0.9, repair=0.0, check=0.0, direct=0.1),
        sandbox=SandboxConfig(limits=Limits(cpu_seconds=5.0, wall_seconds=60.0), workers=2),
        sampler=SamplerConfig(
            slots=8, cache_length=192, chunk_steps=16, prefill_buckets=(64,), prefill_rows=8
        ),
        limits=TurnLimits(max_code_calls=2, max_new_tokens=64, max_observation_tokens=32),
        sft=SftConfig(
            epochs=60, batch_size=4, sequence_length=192, lr=1e-2, checkpoint_every=15
        ),
        potential=PotentialConfig(samples_per_agent=1, temperatures=(1.0,)),
        grpo=GrpoConfig(
            prompts_per_step=3, rollouts_per_prompt=4, steps_per_stage=(2, 6, 1, 1), lr=1e-3,
            sequence_lengths=(192,), microbatch_tokens=8 * 192, checkpoint_every=2,
        ),
    )
"""
TRAININGS = ("sft", "grpo_curriculum", "grpo_uniform")


class Run:
    """`r1ci run` in a process of its own, and what it said."""

    def __init__(self, file: Path, workdir: Path) -> None:
        self.log = workdir.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "r1ci_jax", "run", str(file), "--workdir", str(workdir)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_for_work(self) -> None:
        """Until its first stage starts, or it has ended with only its report left."""
        deadline = time.monotonic() + PATIENCE
        while ": start" not in self.said and self.process.poll() is None:
            assert time.monotonic() < deadline, "no stage ever started"
            time.sleep(0.01)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def finish(self) -> None:
        assert self.wait(PATIENCE) and self.process.returncode == 0, self.said


def rows(workdir: Path, stage: str | None = None) -> list[dict[str, Any]]:
    found = metrics.read(workdir / "metrics.jsonl")
    return [row for row in found if stage is None or row["stage"] == stage]


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in row.items()
        if not key.startswith(("time", "rate/", "rollout/dropped"))
    }


def untimed_trajectories(workdir: Path) -> list[dict[str, Any]]:
    found = metrics.read(workdir / "trajectories.jsonl")
    for call in (call for row in found for call in row["code_calls"]):
        del call["wall_seconds"]
    return found


def final(file: Path, workdir: Path, model: str) -> list[np.ndarray]:
    with pytest.MonkeyPatch.context() as patched:  # what the file replaces is put back
        patched.setattr(batching.Batches, "__next__", batching.Batches.__next__)
        patched.setattr(metrics.MetricsWriter, "write", metrics.MetricsWriter.write)
        patched.setattr(evaluation, "TRAJECTORIES_PER_SLOT", evaluation.TRAJECTORIES_PER_SLOT)
        experiment = experiments.load(str(file))
    shapes = policy.load(experiment, workdir / "tokenizer").policy.abstract_params
    loaded, _ = checkpoint.load_params(workdir / "checkpoints" / model / "final", shapes)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(loaded)]


def stop(run: Run, workdir: Path, how: signal.Signals) -> None:
    """Stop it now; what SIGTERM promised is kept."""
    run.process.send_signal(how)
    assert run.wait(PATIENCE), "it went on"
    status = run.process.returncode
    if how == signal.SIGKILL or status == 0:  # it had just done its last stage
        assert status in (-signal.SIGKILL, 0), run.said
        return
    if status == -signal.SIGTERM:  # after its last stage nothing is left to save
        assert "report" in json.loads((workdir / "stages.json").read_text()), run.said
        return
    assert status == RESUME_EXIT_STATUS, run.said
    last = run.said.splitlines()[-1]
    told = re.fullmatch(
        r"r1ci: stopped by SIGTERM( after (\w+) step (\d+))?; the same command resumes", last
    )
    assert told is not None, last
    if told[1] is not None:
        stage, step = told[2], int(told[3])
        assert [row["step"] for row in rows(workdir, stage)] == list(range(1, step + 1))
        with checkpoint.CheckpointManager(workdir / "checkpoints" / stage) as checkpoints:
            assert (checkpoints.latest() or 0) == step, "a finished step was not saved"


def leave_half_an_evaluation(workdir: Path) -> None:
    """What one leaves that was killed between the rows of two tasks."""
    if workdir.exists() and not (workdir / "results.jsonl").exists():
        with metrics.JsonlLog(workdir / "results.jsonl") as log:
            log.append({"model": "untrained", "task": "toy_letters", "n": 0, "correct": 0})


def interruptions(seed: str, seconds: float) -> Iterator[tuple[signal.Signals, float]]:
    """SIGKILL and SIGTERM in turn, each at some moment of the work that a run has.

    Of the first part of it, so that most are in time: whoever resumes has less left, and compiles.
    """
    draw = random.Random(seed)
    for how in itertools.cycle((signal.SIGKILL, signal.SIGTERM)):
        yield how, draw.uniform(0, 0.6 * seconds)


def assert_every_example_once_an_epoch(found: Sequence[dict[str, Any]]) -> None:
    seen = [value for row in found for key, value in row.items() if key.startswith("seen/")]
    assert seen
    everything = set(seen)
    for epoch in itertools.batched(seen, len(everything)):
        assert len(set(epoch)) == len(epoch)


def assert_same(file: Path, stopped: Path, whole: Path) -> None:
    for stage in TRAININGS:
        found, wanted = rows(stopped, stage), rows(whole, stage)
        assert [row["step"] for row in found] == list(range(1, len(wanted) + 1))
        assert [timeless(row) for row in found] == [timeless(row) for row in wanted]
        by_curriculum = itertools.groupby(found, key=lambda row: row.get("curriculum/stage"))
        for _, members in by_curriculum:
            assert_every_example_once_an_epoch(list(members))
    assert len(rows(stopped)) == len(rows(whole))
    for model in TRAININGS:
        pairs = zip(final(file, stopped, model), final(file, whole, model), strict=True)
        assert all(np.array_equal(left, right) for left, right in pairs), model
    for name in ("potential.jsonl", "evaluation.jsonl", "results.jsonl"):
        assert metrics.read(stopped / name) == metrics.read(whole / name)
    assert untimed_trajectories(stopped) == untimed_trajectories(whole)


def test_a_run_stopped_at_random_moments_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    file, whole = tmp_path / "micro.py", tmp_path / "whole"
    file.write_text(EXPERIMENT)
    seed = os.environ.get("R1CI_KILL_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"R1CI_KILL_SEED={seed}", flush=True)
    with contextlib.ExitStack() as stack:

        def start(workdir: Path) -> Run:
            run = Run(file, workdir)
            stack.callback(run.process.kill)
            return run

        run = start(whole)
        run.wait_for_work()
        began = time.monotonic()
        run.finish()
        moments = interruptions(seed, time.monotonic() - began)
        # The runs had something to get wrong.
        assert len(rows(whole, "grpo_curriculum")) == len(rows(whole, "grpo_uniform")) == 10
        trained = rows(whole, "grpo_curriculum")
        assert sum(row["tool/calls_per_traj"] for row in trained) > 1
        assert any(row["group/zero_advantage_fraction"] < 1 for row in trained)

        kills = 0
        for number in itertools.count():
            # A run that ends before its next moment is compared, and another one begins.
            if kills >= KILLS:
                break
            stopped = tmp_path / f"stopped{number}"
            run = start(stopped)
            while kills < KILLS:
                run.wait_for_work()
                how, moment = next(moments)
                if run.wait(moment):
                    break
                stop(run, stopped, how)
                kills += how == signal.SIGKILL
                at = {stage: len(rows(stopped, stage)) for stage in TRAININGS}
                print(
                    f"{stopped.name}: {how.name} after {moment:.2f} s of work, at {at}", flush=True
                )
                leave_half_an_evaluation(stopped)
                run = start(stopped)
            run.finish()
            assert_same(file, stopped, whole)
            assert json.loads((stopped / "stages.json").read_text()).keys() >= {"eval", "report"}
