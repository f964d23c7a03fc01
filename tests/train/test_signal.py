"""Refill, resampling, retirement and masks in training: what is trained on, and exact resume."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.config import GrpoConfig
from r1ci_jax.curriculum.retirement import PassRates
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import SignalConfig
from r1ci_jax.rollout import group_selection
from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.replay import Replay
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.train import grpo_step, microbatching
from r1ci_jax.train.objective.advantages import group_advantages
from r1ci_jax.train.policy import Params, Policy, Weights
from r1ci_jax.train.rollout_collector import RolloutCollector
from tests.train.test_grpo import summed_gradients, trajectory
from tests.train.tiny_training import (
    CONFIG,
    Stopped,
    Whole,
    assert_equal,
    dumped,
    load_examples,
    logged,
    make_recording_runner,
    tokenizer,
    train,
    write_until,
)

MEMBERS = CONFIG.rollouts_per_prompt
REFILL = SignalConfig(refill_rounds=2)
EVERYTHING = SignalConfig(
    refill_rounds=2,
    oversampling=2,
    retire_above=0.3,
    mask_void_turns=True,
    masked_in_baseline=False,
)
STAGES = [
    Stage(number=1, split="group1", steps=2),
    Stage(number=2, split="group1+group2", steps=4),
]


class Scorer(Runner):
    """Calls answers correct by a rule, and a third of them void: an untrained policy's all are."""

    rule: Callable[[Episode], bool]

    @override
    def score(
        self, episode: Episode, stop: StopReason, answer: str | None, is_local: bool = True
    ) -> Trajectory:
        found = super().score(episode, stop, answer, is_local)
        correct = self.rule(episode)
        return dataclasses.replace(
            found,
            correct=correct,
            reward=correct + found.reward,
            num_void_turns=int(sum(episode.tokens) % 3 == 0),
        )


def by_chance(episode: Episode) -> bool:
    """True for a fifth of all: of four, all are wrong in 41 % of the groups."""
    return sum(episode.tokens) % 5 == 0


def make_scorer(
    policy: Policy, box: Sandbox, rule: Callable[[Episode], bool] = by_chance
) -> Scorer:
    made = make_recording_runner(policy, box)
    scorer = Scorer(made.engine, made.sandbox, made.tokenizer, made.limits)
    scorer.rule = rule
    return scorer


def with_signal(signal: SignalConfig, **changes) -> GrpoConfig:
    return dataclasses.replace(CONFIG, signal=signal, dump_rollouts=True, **changes)


@pytest.fixture
def loaded(tiny_policy: Policy, tiny_params: Params, box: Sandbox) -> Scorer:
    scorer = make_scorer(tiny_policy, box)
    scorer.load(tiny_policy.to_sampler_weights(Weights(tiny_params)))
    return scorer


def collector(source: Scorer, config: GrpoConfig) -> RolloutCollector:
    examples = load_examples("group1+group2")
    return RolloutCollector(source, examples, config, steps=range(9), seed=3)


# --- a step ---


def test_a_refilled_step_is_its_groups_with_signal(loaded: Scorer) -> None:
    asked: list[list[int]] = []
    kept = 0
    collecting = collector(loaded, with_signal(REFILL))
    for step in range(4):
        sampled, trained, values = collecting.collect(step)
        groups = group_selection.by_group(sampled)
        ids = [group[0].rollout_id.group_id for group in groups]
        # The ids of a step are a range of its own.
        assert ids == list(range(step * 6, step * 6 + len(groups)))
        asked.append(ids)
        right = [sum(each.correct for each in group) for group in groups]
        wanted = [group for group, count in zip(groups, right, strict=True) if 0 < count < MEMBERS]
        assert trained == [each for group in wanted for each in group]
        signal = {place: 0 < count < MEMBERS for place, count in enumerate(right)}
        totals = group_selection.groups_to_ask(signal, 2, 2)
        assert len(groups) == totals[-1]
        assert (
            values["group/zero_variance_before_refill"] == [signal[0], signal[1]].count(False) / 2
        )
        assert values["group/zero_variance_after_refill"] == 1 - len(wanted) / 2
        assert values["group/refill_rounds"] == len(set(totals)) - 1
        if wanted:
            assert values["group/rollouts_per_kept_group"] == len(sampled) / len(wanted)
        kept += len(wanted)
    assert max(map(len, asked)) > 2, "no step was refilled"
    assert kept > 4


def test_questions_of_refills_are_the_next_ones(loaded: Scorer) -> None:
    plain, refilled = (
        [
            group[0].example_id
            for step in range(steps)
            for group in group_selection.by_group(found.collect(step).sampled)
        ]
        for found, steps in (
            (collector(loaded, CONFIG), 9),
            (collector(loaded, with_signal(REFILL)), 3),
        )
    )
    assert len(refilled) > 6
    assert refilled == plain[: len(refilled)]


def test_questions_of_dropped_groups_come_again(
    loaded: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_extended, drawn = Scorer.run_extended, []

    def draws_ahead(self, requests, extend, *, start_early):
        def extend_and_start_early(group):
            asked = extend(group)
            drawn.extend(start_early(1000))
            return asked

        return run_extended(self, requests, extend_and_start_early)

    plain = collector(loaded, with_signal(REFILL))
    expected = [(plain.collect(step).sampled, plain.state()) for step in range(3)]
    monkeypatch.setattr(Scorer, "run_extended", draws_ahead)
    ahead = collector(loaded, with_signal(REFILL))
    assert [(ahead.collect(step).sampled, ahead.state()) for step in range(3)] == expected
    begun = {each.rollout_id for each in drawn}
    assert begun - {each.rollout_id for sampled, _ in expected for each in sampled}, "none dropped"


def test_oversampled_groups_are_thinned_out(loaded: Scorer) -> None:
    config = with_signal(SignalConfig(oversampling=3))
    sampled, trained, _ = collector(loaded, config).collect(0)
    assert len(sampled) == 2 * 3 * MEMBERS and len(trained) == 2 * MEMBERS
    for group, kept in zip(
        group_selection.by_group(sampled), group_selection.by_group(trained), strict=True
    ):
        assert kept == group_selection.resample(group, MEMBERS, seed=3)


def test_retired_questions_are_not_asked_again(loaded: Scorer) -> None:
    config = with_signal(SignalConfig(retire_above=0.3))
    collecting, rates = collector(loaded, config), PassRates(0.3)
    num_retired = 0
    for step in range(8):
        sampled, _, values = collecting.collect(step)
        assert not any(rates.is_retired(each.example_id) for each in sampled)
        rates.record(sampled)
        assert values["curriculum/retired"] == rates.num_retired
        num_retired = rates.num_retired
        if num_retired == 8:
            break
    assert num_retired > 1


def test_refill_and_partial_rollouts_exclude_each_other() -> None:
    with pytest.raises(UserError, match=r"grpo\.signal\.refill_rounds = 2 .* set one to 0"):
        with_signal(REFILL, max_staleness=1)


@pytest.mark.parametrize("signal", [SignalConfig(oversampling=2), SignalConfig(retire_above=0.3)])
def test_partial_rollouts_are_selected_when_their_group_is_complete(
    loaded: Scorer, signal: SignalConfig
) -> None:
    collecting = collector(loaded, with_signal(signal, max_staleness=1))
    for step in range(9):
        sampled, trained, _ = collecting.collect(step)
        sizes = collections.Counter(each.rollout_id.group_id for each in sampled)
        assert set(sizes.values()) <= {MEMBERS * signal.oversampling}
        assert len(trained) in (len(sizes) * MEMBERS, 0)
    assert collecting.state()["partial_rollouts"] == []


# --- training ---


Start = Callable[..., Params]


@pytest.fixture(scope="module")
def start(tiny_policy: Policy, first_params: Params, box: Sandbox) -> Start:
    """Starts or resumes a training in a directory; a rule says which answers are correct."""

    def start(
        place: Path,
        config: GrpoConfig,
        stages: Sequence[Stage] = STAGES,
        rule: Callable[[Episode], bool] = by_chance,
    ) -> Params:
        scorer = make_scorer(tiny_policy, box, rule)
        return train(tiny_policy, first_params, scorer, place, config, stages)

    return start


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = tmp_path_factory.mktemp("whole")
    return Whole(place, start(place, with_signal(EVERYTHING, checkpoint_every=2)))


def test_the_training_refills_thins_out_masks_and_retires(whole: Whole) -> None:
    found = logged(whole.place)
    assert [row["step"] for row in found] == list(range(1, 7))
    assert max(row.get("group/refill_rounds", 0) for row in found) > 0
    assert max(row.get("group/masked_fraction", 0) for row in found) > 0
    assert found[-1]["curriculum/retired"] > 0
    ids = [each.rollout_id for step in dumped(whole.place, 6) for each in step]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("last", [3, 6])
def test_a_stopped_training_ends_as_an_uninterrupted_one(
    whole: Whole, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    config = with_signal(EVERYTHING, checkpoint_every=2)
    # The checkpoint is that at the end of stage 1, or one in the middle of stage 2.
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(last))
        start(tmp_path, config)
    assert_equal(start(tmp_path, config), whole.params)
    assert logged(tmp_path) == logged(whole.place)
    assert dumped(tmp_path, 6) == dumped(whole.place, 6)


def test_a_replayed_training_equals_the_dumped_one(
    whole: Whole, tiny_policy: Policy, first_params: Params, tmp_path: Path
) -> None:
    replay = Replay(whole.place / "rollouts")
    config = with_signal(EVERYTHING, checkpoint_every=2)
    again = train(tiny_policy, first_params, replay, tmp_path, config, STAGES)
    assert_equal(again, whole.params)


def test_without_any_signal_nothing_changes_and_it_is_said(
    start: Start, first_params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = with_signal(SignalConfig(refill_rounds=1), checkpoint_every=1)
    stages = [Stage(number=1, split="group1", steps=2)]
    after = start(tmp_path, config, stages, lambda _: False)
    assert_equal(after, first_params)
    found = logged(tmp_path)
    assert [row["group/zero_variance_after_refill"] for row in found] == [1.0, 1.0]
    assert all(row["accuracy"] == 0.0 and "optim/loss" not in row for row in found)
    assert [len(step) for step in dumped(tmp_path, 2)] == [16, 16]
    warned = capsys.readouterr().err
    assert "GRPO step 1: no group has signal; the step changes nothing" in warned


def test_when_all_questions_are_retired_the_rest_of_the_stage_is_idle(
    start: Start,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_signal(SignalConfig(retire_above=0.5), checkpoint_every=1)
    stages = [
        Stage(number=1, split="group1", steps=4),
        Stage(number=2, split="group1+group2", steps=1),
    ]

    def run(place: Path) -> Params:
        return start(place, config, stages, lambda _: True)

    whole = run(tmp_path / "whole")
    # Four questions, two a step; then none until the next stage, which has four more.
    assert [len(step) for step in dumped(tmp_path / "whole", 5)] == [8, 8, 0, 0, 8]
    found = logged(tmp_path / "whole")
    assert [row["curriculum/retired"] for row in found] == [2, 4, 4, 4, 6]
    assert [("optim/loss" in row, "accuracy" in row) for row in found[2:4]] == [(False, False)] * 2
    first = [each.example_id for step in dumped(tmp_path / "whole", 2) for each in step]
    last = [each.example_id for each in dumped(tmp_path / "whole", 5)[4]]
    assert not set(first) & set(last)
    warned = capsys.readouterr().err
    assert "GRPO step 3: all questions of the stage are retired; the step changes nothing" in warned
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(4))
        run(tmp_path / "stopped")
    assert_equal(run(tmp_path / "stopped"), whole)
    assert logged(tmp_path / "stopped") == found


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_a_training_samples_no_more_when_its_budget_is_spent(
    start: Start,
    tiny_policy: Policy,
    first_params: Params,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    max_staleness: int,
) -> None:
    # Eight trajectories a step: the third step spends it. Groups in flight by then are finished.
    config = with_signal(
        SignalConfig(), rollout_budget=17, checkpoint_every=1, max_staleness=max_staleness
    )
    num_steps = 3 + max_staleness
    stages = [Stage(number=1, split="group1+group2", steps=num_steps + 2)]
    whole = start(tmp_path / "whole", config, stages)
    sizes = [len(step) for step in dumped(tmp_path / "whole", num_steps + 2)]
    assert sizes == [8] * num_steps + [0, 0]
    said = (
        f"GRPO step {num_steps + 1}: the budget of 17 rollouts is spent; the step changes nothing"
    )
    assert said in capsys.readouterr().err

    shorter = [dataclasses.replace(stages[0], steps=num_steps)]
    unlimited = dataclasses.replace(config, rollout_budget=0)
    assert_equal(start(tmp_path / "shorter", unlimited, shorter), whole)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(2))
        start(tmp_path / "stopped", config, stages)
    assert_equal(start(tmp_path / "stopped", config, stages), whole)
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")
    replay = Replay(tmp_path / "whole" / "rollouts")
    again = train(tiny_policy, first_params, replay, tmp_path / "again", config, stages)
    assert_equal(again, whole)


# --- the loss ---


def test_a_masked_trajectory_counts_in_the_baseline_or_not(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    rewards = [1.0, 0.0, 1.0, 0.0]
    group = [trajectory(tiny_policy, tiny_params, n, reward) for n, reward in enumerate(rewards)]
    group[2] = dataclasses.replace(group[2], is_masked=True)
    # All four: mean 1/2, deviation 1/2. Without the masked one: mean 1/3, deviation √2/3.
    for counts, wanted in ((True, [1, -1, 0, -1]), (False, [2**0.5, -(0.5**0.5), 0, -(0.5**0.5)])):
        config = with_signal(SignalConfig(masked_in_baseline=counts))
        found = grpo_step.compute_advantages(group, config)
        assert found.shape == (1, 4)
        np.testing.assert_allclose(found[0], wanted, atol=1e-5)


def test_a_masked_trajectory_has_no_gradient_and_is_not_in_the_denominator(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    reference = jax.tree.map(lambda leaf: leaf * 1.01, tiny_params)
    config = with_signal(SignalConfig(masked_in_baseline=True))

    def batch(tokens_of: int, is_masked: bool = True) -> list[Trajectory]:
        made = [trajectory(tiny_policy, tiny_params, n, float(n % 2)) for n in range(8)]
        other = trajectory(tiny_policy, tiny_params, tokens_of, 1.0)
        made[3] = dataclasses.replace(other, rollout_id=made[3].rollout_id, is_masked=is_masked)
        return made

    found = [
        summed_gradients(tiny_policy, tiny_params, reference, batch(n), config) for n in (3, 77)
    ]
    assert_equal(*found)
    plain = summed_gradients(tiny_policy, tiny_params, reference, batch(3, False), config)
    with pytest.raises(AssertionError):
        assert_equal(found[0], plain)
    advantages = grpo_step.compute_advantages(batch(3), config).reshape(-1)
    microbatches = microbatching.split_microbatches(
        batch(3), advantages, config, tokenizer().pad_id
    )
    assert sum(int(each.sampled_BT.any(axis=1).sum()) for each in microbatches) == 7


def test_a_smaller_batch_compiles_nothing(tiny_policy: Policy, tiny_params: Params) -> None:
    jitted: list[Any] = [group_advantages, grpo_step.accumulate_gradients]
    config = with_signal(SignalConfig(), prompts_per_step=3)
    made = [trajectory(tiny_policy, tiny_params, n, float(n % 2)) for n in range(12)]
    programs: list[int] = []
    for count in (12, 8, 4, 0):
        advantages = grpo_step.compute_advantages(made[:count], config)
        assert advantages.shape == (count // MEMBERS, MEMBERS)
        if count:
            np.testing.assert_allclose(advantages, [[-1, 1, -1, 1]] * len(advantages), atol=1e-5)
            summed_gradients(tiny_policy, tiny_params, tiny_params, made[:count], config)
        programs.append(sum(function._cache_size() for function in jitted))
    assert len(set(programs)) == 1


def test_fewer_groups_are_shared_out_over_the_minibatches(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    config = with_signal(SignalConfig(), prompts_per_step=6, num_minibatches=3)
    made = [trajectory(tiny_policy, tiny_params, n, float(n % 2)) for n in range(24)]

    def sizes(num_groups: int) -> list[int]:
        some = made[: num_groups * MEMBERS]
        advantages = grpo_step.compute_advantages(some, config)
        assert advantages.shape == (num_groups, MEMBERS)
        batches = microbatching.make_minibatches(some, advantages, config, tokenizer().pad_id)
        return [
            sum(int(jnp.any(each.sampled_BT, axis=1).sum()) for each in batch) for batch in batches
        ]

    assert [sizes(count) for count in (6, 5, 2, 1, 0)] == [[8, 8, 8], [4, 8, 8], [4, 4], [4], []]
