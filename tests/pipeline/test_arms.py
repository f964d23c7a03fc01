"""An experiment's arms: each is trained with its own order and settings, and evaluated."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, override

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
from r1ci_jax.data import build
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import tables
from r1ci_jax.model import presets, qwen2
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import base, registry
from r1ci_jax.tools.report import page
from r1ci_jax.train import checkpoint, load_model
from r1ci_jax.train import policy as policies
from r1ci_jax.train.policy import Params, Policy, Weights

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
FROZEN = dataclasses.replace(
    GRPO, lr=0.0, steps_per_stage=(0, 1, 0, 0), turn_penalty_after=1, temperature=0.6
)
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
        Arm(name="grpo_frozen", grpo=FROZEN),
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


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Trajectories of one call of the runner, with what the runner was told."""

    agents: set[str]
    temperatures: set[float]
    penalty_after: int
    trajectories: list[Trajectory]


def record_runs(monkeypatch: pytest.MonkeyPatch) -> list[Sampled]:
    """Note from now on what every runner samples."""
    recorded: list[Sampled] = []
    run, run_batches = Runner.run, Runner.run_batches

    def note(runner: Runner, requests: list[Request], found: list[Trajectory]) -> None:
        recorded.append(
            Sampled(
                {request.agent.name for request in requests},
                {request.sampling.temperature for request in requests},
                runner.turn_penalty_after,
                found,
            )
        )

    def noted(runner: Runner, requests: Iterable[Request], **settings: Any) -> list[Trajectory]:
        asked = list(requests)
        found = run(runner, asked, **settings)
        note(runner, asked, found)
        return found

    def noted_batches(
        runner: Runner, batches: Iterable[Sequence[Request]], **settings: Any
    ) -> Generator[list[Trajectory]]:
        asked, found = [list(batch) for batch in batches], list[Trajectory]()
        for made in run_batches(runner, asked, **settings):
            found += made
            yield made
        note(runner, list(itertools.chain(*asked)), found)

    monkeypatch.setattr(Runner, "run", noted)
    monkeypatch.setattr(Runner, "run_batches", noted_batches)
    return recorded


@functools.partial(jax.jit, static_argnames=("policy", "temperature"))
def score(policy: Policy, params: Params, tokens_BT: jax.Array, *, temperature: float) -> jax.Array:
    weights = Weights(params)
    return policy.logprobs_and_entropy(weights, tokens_BT, temperature=temperature).logprobs_BT


def mismatch(directory: RunDir, model: str, sampled: Sampled) -> float:
    """Largest difference between the recorded log-probabilities and those by a model's weights."""
    policy, _ = policies.load(EXPERIMENT, directory.tokenizer)
    if model == "untrained":
        params = policies.load_untrained(EXPERIMENT, policy)
    else:
        path = directory.checkpoints / model / "final"
        params, _ = checkpoint.load_params(path, policy.abstract_params)
    tokens_BT = np.zeros((8, 192), np.int32)
    for row, one in enumerate(sampled.trajectories):
        tokens_BT[row, : len(one.tokens)] = one.tokens
    [temperature] = sampled.temperatures
    found_BT = np.asarray(score(policy, params, tokens_BT, temperature=temperature))
    differences = [
        np.abs(found_BT[row, : len(one.tokens) - 1] - one.logprobs[1:])[list(one.sampled[1:])]
        for row, one in enumerate(sampled.trajectories)
    ]
    return float(np.concatenate(differences).max())


def test_arms_are_trained_evaluated_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(presets.PRESETS, "micro", MICRO)  # pyright: ignore[reportArgumentType]
    recorded = record_runs(monkeypatch)
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
    # Every stage samples from the weights that it is about, and an arm by its own settings.
    potential, *trainings, _, _, _, _, _ = recorded
    evaluated = dict(zip(MODELS, recorded[-5:], strict=True))
    assert len(potential.agents) == 4 and len(trainings) == 5
    assert [each.penalty_after for each in trainings] == [6, 6, 1, 6, 6]
    assert [each.temperatures for each in trainings] == [{1.0}, {1.0}, {0.6}, {1.0}, {1.0}]
    samples = [("sft", potential), *(("sft", trainings[i]) for i in (0, 2, 3)), *evaluated.items()]
    for model, sampled in samples:
        assert mismatch(directory, model, sampled) < 1e-3
    for model in set(MODELS) - {"untrained"}:
        assert mismatch(directory, "untrained", evaluated[model]) > 0.1
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


class FewQuestions(base.Task):
    """A task of three published questions, which its splits have to share."""

    name = "few_questions"
    suite = "mine"
    split = "train"
    kind = "reasoning"
    answer_format = "an integer"
    difficulties = (1,)

    @override
    def count(self) -> int:
        return 3

    @override
    def generate(self, index: int, seed: int, difficulty: int) -> base.Example:
        return base.Example(
            id=f"{self.name}/{index}",
            task=self.name,
            question=f"What is {index} and 1?",
            answer=str(index + 1),
            difficulty=1,
        )

    @override
    def score(self, example: base.Example, answer_text: str) -> base.Verdict:
        return base.Verdict(correct=answer_text == example.answer, reason="")


@pytest.fixture
def few_questions() -> Iterator[str]:
    registry.register(FewQuestions.name, f"{__name__}:{FewQuestions.__name__}", suite="mine")
    yield FewQuestions.name
    registry.unregister(FewQuestions.name)


def test_a_split_without_a_question_is_refused_before_any_training(
    tmp_path: Path, few_questions: str
) -> None:
    dataset = DatasetConfig(
        tasks=(few_questions,), difficulties=(1,), sft_per_task=70, grpo_per_task=2, eval_per_task=1
    )
    experiment = dataclasses.replace(EXPERIMENT, dataset=dataset)
    with RunDir.open(tmp_path / "run", experiment) as directory:
        build.build_questions(experiment, directory.data, jobs=1)
        run = pipeline.Run(experiment, directory, None)
        empty = next(split for split in ("grpo", "eval") if not run.load_examples(split))
        with pytest.raises(UserError, match=f"the split '{empty}' has no question"):
            pipeline.check_splits(run)
