"""Carry-over, dump and replay in training: whole groups, exact log-probabilities, exact resume."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import override

import jax
import numpy as np
import pytest

from r1ci_jax.config import GrpoConfig
from r1ci_jax.curriculum.retirement import PassRates
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import SignalConfig
from r1ci_jax.rollout import serialize
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.replay import Replay
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.rollout.trajectory_source import TrajectorySource
from r1ci_jax.runtime import metrics
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import registry
from r1ci_jax.train import grpo_step, microbatching, rollout_collector
from r1ci_jax.train.objective.loss_settings import LossSettings
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.tiny_training import (
    CONFIG,
    LIMITS,
    SAMPLER,
    RecordingRunner,
    Stopped,
    Whole,
    assert_equal,
    dumped,
    load_examples,
    make_recording_runner,
    tokenizer,
    train,
    write_until,
)

CARRYING = dataclasses.replace(
    CONFIG, max_staleness=2, dump_rollouts=True, checkpoint_every=2, sequence_lengths=(128,)
)
STAGES = [
    Stage(number=1, split="group1", steps=2),
    Stage(number=2, split="group1+group2", steps=4),
]
# A row ends when its cache is full, and so the later the shorter its question.
RAGGED = dataclasses.replace(SAMPLER, slots=12, chunk_steps=4)
LONG = dataclasses.replace(LIMITS, max_new_tokens=100)


class OneTokenSource(TrajectorySource):
    """Answers every request with one token."""

    @override
    def run(
        self, requests: Iterable[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        return [
            Trajectory(
                example_id=request.example.id,
                task=request.example.task,
                question=request.example.question,
                agent=request.agent.name,
                rollout_id=request.rollout_id,
                tokens=(1, 2),
                sampled=(False, True),
                logprobs=(0.0, -1.0),
                code_calls=(),
                stop=StopReason.ANSWER,
                answer="1",
                correct=True,
                reward=1.0,
            )
            for request in requests
        ]


@pytest.fixture
def ragged(tiny_policy: Policy, box: Sandbox) -> RecordingRunner:
    return make_recording_runner(tiny_policy, box, RAGGED, LONG)


def groups(trajectories: Sequence[Trajectory]) -> list[int]:
    members = CARRYING.rollouts_per_prompt
    found = [trajectory.rollout_id[0] for trajectory in trajectories]
    assert found == [number for number in found[::members] for _ in range(members)]
    return found[::members]


@pytest.fixture(scope="module")
def whole(
    tiny_policy: Policy,
    first_params: Params,
    box: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Whole:
    place = tmp_path_factory.mktemp("whole")
    runner = make_recording_runner(tiny_policy, box, RAGGED, LONG)
    return Whole(place, train(tiny_policy, first_params, runner, place, CARRYING, STAGES))


def test_carrying_training_asks_all_of_a_stage_within_it(whole: Whole) -> None:
    steps = [groups(trajectories) for trajectories in dumped(whole.place, 6)]
    assert [len(found) for found in steps] == [2] * 6
    # Stages do not mix, and each question of theirs is trained on once.
    assert sorted(steps[0] + steps[1]) == [0, 1, 2, 3]
    assert sorted(number for found in steps[2:] for number in found) == list(range(4, 12))
    rows = metrics.read(whole.place / "metrics.jsonl")
    assert rows[0]["group/staleness_max"] == rows[2]["group/staleness_max"] == 0
    assert max(row["group/staleness_max"] for row in rows) in (1, 2)
    for row, found in zip(rows, steps, strict=True):
        first = 0 if row["step"] <= 2 else 2
        # A batch is started a step ahead of its own, the first two of a stage with the first.
        born = [max(number // 2 - 1, first) for number in found]
        ages = [row["step"] - 1 - each for each in born]
        assert (row["group/staleness_mean"], row["group/staleness_max"]) == (
            np.mean(ages),
            max(ages),
        )


def test_every_token_keeps_the_probability_it_was_sampled_with(
    tiny_policy: Policy, tiny_params: Params, ragged: RecordingRunner
) -> None:
    other = jax.tree.map(lambda leaf: leaf * 1.05, tiny_params)
    scores = jax.jit(tiny_policy.logprobs_and_entropy)
    collector = rollout_collector.RolloutCollector(
        ragged, load_examples("group1+group2"), CARRYING, steps=range(5), seed=3
    )
    ragged.load(tiny_policy.to_sampler_weights(Weights(tiny_params)))
    collector.collect(0)
    ragged.load(tiny_policy.to_sampler_weights(Weights(other)))
    _, trajectories, values = collector.collect(1)
    assert values["group/staleness_max"] == 1
    stale = [trajectory for trajectory in trajectories if trajectory.num_stale_tokens]
    # Some were cut in their middle.
    assert any(
        any(each.sampled[: each.num_stale_tokens]) and any(each.sampled[each.num_stale_tokens :])
        for each in stale
    )
    fresh_tokens = 0
    for each in stale:
        sampled = np.array(each.sampled[1:])
        is_stale = np.arange(1, len(each.tokens)) < each.num_stale_tokens
        recorded = np.array(each.logprobs[1:])
        for params, chosen in ((tiny_params, sampled & is_stale), (other, sampled & ~is_stale)):
            tokens_BT = np.zeros((1, 128), np.int32)
            tokens_BT[0, : len(each.tokens)] = each.tokens
            computed_T = np.asarray(scores(Weights(params), tokens_BT)[0])[0, : len(recorded)]
            np.testing.assert_allclose(recorded[chosen], computed_T[chosen], atol=1e-4)
        fresh_tokens += int((sampled & ~is_stale).sum())
    # The ratio of the loss is to those; the check is over tokens of the same weights alone.
    (batch, *_) = microbatching.split_microbatches(
        stale, np.ones(len(stale)), CARRYING, tokenizer().pad_id
    )
    settings = dataclasses.replace(LossSettings.of(CARRYING), kl_coef=0.0)
    total, (gap, _) = grpo_step.accumulate_gradients(
        grpo_step.zero_accumulator(other, settings),
        Weights(other),
        batch,
        policy=tiny_policy,
        temperature=CARRYING.temperature,
        settings=settings,
    )
    assert gap.max <= 1e-4 and 0 < float(gap.num_tokens) <= fresh_tokens
    assert float(total.sums.ratio_deviation) > 0


def test_a_stopped_carrying_training_ends_as_an_uninterrupted_one(
    whole: Whole,
    tiny_policy: Policy,
    first_params: Params,
    box: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run() -> Params:
        runner = make_recording_runner(tiny_policy, box, RAGGED, LONG)
        return train(tiny_policy, first_params, runner, tmp_path, CARRYING, STAGES)

    # In the middle of a stage and of its groups: the checkpoint is that of step 4.
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(6))
        run()
    assert_equal(run(), whole.params)
    left, right = (
        [
            {key: value for key, value in row.items() if not key.startswith(("time", "rate"))}
            for row in metrics.read(place / "metrics.jsonl")
        ]
        for place in (whole.place, tmp_path)
    )
    assert left == right and len(left) == 6 and right[4]["group/staleness_max"] > 0


def test_replayed_carrying_training_equals_the_dumped_one(
    whole: Whole, tiny_policy: Policy, first_params: Params, tmp_path: Path
) -> None:
    replay = Replay(whole.place / "rollouts")
    assert_equal(train(tiny_policy, first_params, replay, tmp_path, CARRYING, STAGES), whole.params)
    assert dumped(tmp_path, 6) == dumped(whole.place, 6)
    other = [Stage(number=1, split="group2+group1+group2", steps=6)]
    with pytest.raises(UserError, match="another experiment or seed"):
        train(tiny_policy, first_params, replay, tmp_path / "other", CARRYING, other)


def test_replayed_training_equals_the_dumped_one(
    tiny_policy: Policy, first_params: Params, ragged: RecordingRunner, tmp_path: Path
) -> None:
    config = dataclasses.replace(CARRYING, max_staleness=0)
    stages = [Stage(number=1, split="group1", steps=2)]
    kept = train(tiny_policy, first_params, ragged, tmp_path / "kept", config, stages)
    replay = Replay(tmp_path / "kept" / "rollouts")
    assert_equal(train(tiny_policy, first_params, replay, tmp_path / "again", config, stages), kept)


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(UserError, match=r"grpo\.max_staleness"):
        GrpoConfig(max_staleness=-1)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_a_stage_ends_when_the_questions_that_it_draws_from_are_retired(share: float) -> None:
    config = GrpoConfig(prompts_per_step=4, signal=SignalConfig(retire_above=0.9))
    make = registry.get("toy_letters").generate
    questions = [make(index, seed=0, difficulty=1) for index in range(8)]
    new, earlier = questions[:4], questions[4:]
    rates = PassRates(config.signal.retire_above)
    solved = {example.id: [8, 8] for example in questions[:-1]}
    rates.restore({"pass_rates": solved | {earlier[-1].id: [0, 8]}})
    collector = rollout_collector.RolloutCollector(
        OneTokenSource(), new, config, steps=range(1), seed=1, earlier=earlier,
        earlier_share=share, pass_rates=rates,
    )  # fmt: skip
    sampled = collector.collect(0).sampled
    # A tenth of four questions is none, so the unsolved earlier one is never drawn.
    asked = {trajectory.example_id for trajectory in sampled}
    assert asked == ({earlier[-1].id} if share == 0.5 else set())


def test_a_dump_that_has_a_group_in_part_is_refused(tmp_path: Path) -> None:
    make = registry.get("toy_letters").generate
    questions = [make(index, seed=0, difficulty=1) for index in range(2)]
    config = GrpoConfig(
        prompts_per_step=2, rollouts_per_prompt=2, max_staleness=1, replay_rollouts=str(tmp_path)
    )
    sampling = dataclasses.replace(config, max_staleness=0, replay_rollouts="")
    dumped = rollout_collector.RolloutCollector(
        OneTokenSource(), questions, sampling, steps=range(1), seed=3
    ).collect(0)
    serialize.write(serialize.step_path(tmp_path, 1), dumped.sampled)
    more = dataclasses.replace(config, rollouts_per_prompt=4)
    for wanted in (config, more):
        collector = rollout_collector.RolloutCollector(
            Replay(tmp_path), questions, wanted, steps=range(1), seed=3
        )
        if wanted is config:
            assert collector.collect(0).sampled == dumped.sampled
        else:
            with pytest.raises(UserError, match=r"grpo\.rollouts_per_prompt"):
                collector.collect(0)
