"""A small training with the real sampler and the real jail, for the tests of the trainer."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np

from r1ci_jax.config import GrpoConfig, SamplerConfig, TurnLimits
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.rollout import serialize
from r1ci_jax.rollout.diagnostics.group_signal import Grades
from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.runtime import metrics
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import protocol
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import grpo
from r1ci_jax.train.policy import Params, Policy
from r1ci_jax.train.training_run import TrainingRun

CONFIG = GrpoConfig(
    prompts_per_step=2,
    rollouts_per_prompt=4,
    steps_per_stage=(2, 2, 0, 0),
    lr=1e-2,
    sequence_lengths=(64, 128),
    microbatch_tokens=4 * 128,
    kl_coef=0.1,
    checkpoint_every=3,
)
STAGES = [
    Stage(number=1, split="group1", steps=2),
    Stage(number=2, split="group1+group2", steps=3),
]


@functools.cache
def tokenizer() -> Tokenizer:
    """About 300 tokens."""
    texts = ["How many 'a' in 'banana'? ```python\nprint(1)\n``` <<<3>>> Execution Results"] * 3
    return tokenizers.train_byte_bpe(texts, 300)


def load_examples(split: str) -> list[Example]:
    """Four examples in group 1, four more in group 2."""
    count = 4 * len(split.split("+"))
    return [registry.get("toy_letters").generate(i, seed=0, difficulty=1) for i in range(count)]


class RecordingRunner(Runner):
    """Records what it samples, and rewards low tokens: an untrained policy earns nothing else."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.recorded: list[list[Request]] = []
        self.sampled: list[list[Trajectory]] = []

    def run(
        self, requests: Iterable[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        self.recorded.append(list(requests))
        self.sampled.append(super().run(self.recorded[-1], on_done=on_done))
        return self.sampled[-1]

    @override
    def score(
        self, episode: Episode, stop: StopReason, answer: str | None, is_local: bool = True
    ) -> Trajectory:
        low = np.less(episode.tokens, self.tokenizer.vocab_size / 2)
        found = super().score(episode, stop, answer, is_local)
        return dataclasses.replace(found, reward=float(np.mean(low)))


SAMPLER = SamplerConfig(
    slots=8, cache_length=128, chunk_steps=8, prefill_buckets=(64,), prefill_rows=8
)
LIMITS = TurnLimits(max_code_calls=1, max_new_tokens=24, max_observation_tokens=32)


def make_recording_runner(
    policy: Policy, box: Sandbox, sampler: SamplerConfig = SAMPLER, limits: TurnLimits = LIMITS
) -> RecordingRunner:
    table = stop_automaton.token_table(protocol.stop_machine(), tokenizer().token_bytes())
    engine = Engine(
        policy.config, sampler, table, stop_token_ids=tokenizer().stop_token_ids, seed=5
    )
    return RecordingRunner(engine, box, tokenizer(), limits)


def training_run(name: str, place: Path, *, seed: int) -> TrainingRun:
    place.mkdir(exist_ok=True)
    return TrainingRun(
        name=name,
        seed=seed,
        checkpoints_dir=place / "checkpoints",
        metrics_path=place / "metrics.jsonl",
        trajectories_path=place / "trajectories.jsonl",
        diagnostics_path=place / "diagnostics.jsonl",
        rollouts_dir=place / "rollouts",
        diverged_dir=place / "diverged",
    )


def train(
    policy: Policy,
    params: Params,
    source: TrajectorySource,
    place: Path,
    config: GrpoConfig = CONFIG,
    stages: list[Stage] = STAGES,
    grades: Grades | None = None,
) -> Params:
    params = jax.tree.map(jnp.copy, params)
    run = training_run("grpo", place, seed=3)
    return grpo.train(
        policy, params, tokenizer(), stages, load_examples, source, config, run, grades=grades
    )


class Stopped(Exception):
    """Stands for anything that ends a run."""


def write_until(last: int) -> Callable[..., None]:
    """Replace `MetricsWriter.write`: the run ends in the middle of step `last`."""
    write = metrics.MetricsWriter.write

    def write_some(writer: metrics.MetricsWriter, stage: str, step: int, values: Any) -> None:
        if step == last:
            raise Stopped
        write(writer, stage, step, values)

    return write_some


@dataclasses.dataclass(frozen=True)
class Whole:
    """An uninterrupted training."""

    place: Path
    params: Params


def logged(place: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, without times and rates."""
    return [
        {key: row[key] for key in row if not key.startswith(("time", "rate/", "rollout/dropped"))}
        for row in metrics.read(place / "metrics.jsonl")
    ]


def dumped(place: Path, steps: int) -> list[list[Trajectory]]:
    """The trajectories of each step, as `grpo.dump_rollouts` wrote them."""
    paths = (serialize.step_path(place / "rollouts", step + 1) for step in range(steps))
    return [serialize.read(path) for path in paths]


def assert_equal(left: Params, right: Params) -> None:
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(one, other)
