"""What changes from stage to stage: each option by what it does, and all resumed bit for bit."""

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, override

import jax
import jax.numpy as jnp
import pytest

from r1ci_jax.config import GrpoConfig, PotentialConfig
from r1ci_jax.curriculum import potential
from r1ci_jax.curriculum.online import OnlineGroups
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.data.records import GradedExample
from r1ci_jax.errors import Resume
from r1ci_jax.grpo_config import StageConfig
from r1ci_jax.rollout.diagnostics import group_signal
from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.train import grpo
from r1ci_jax.train.checkpoint import CheckpointManager
from r1ci_jax.train.policy import Params, Policy
from r1ci_jax.train.rollout_collector import RolloutCollector
from tests.train.tiny_training import (
    CONFIG,
    RecordingRunner,
    Stopped,
    assert_equal,
    dumped,
    logged,
    make_recording_runner,
    tokenizer,
    training_run,
    write_until,
)

STAGES = [
    Stage(number=1, split="group1", steps=4),
    Stage(number=2, split="group1+group2", steps=2),
]
EVERYTHING = dataclasses.replace(
    CONFIG,
    steps_per_stage=(4, 2),
    checkpoint_every=2,
    stages=StageConfig(
        reset_reference=True,
        reset_optimizer=True,
        lr=(1e-2, 5e-3),
        replay_fraction=(0.0, 0.5),
        advance_accuracy=0.9,
        advance_window=2,
    ),
)
"""Every answer is right, so that stage 1 ends after two steps and stage 2 has four."""
POTENTIAL = PotentialConfig(samples_per_agent=1, temperatures=(1.0,))


def questions(group: int) -> list[Example]:
    """Four questions of a group."""
    task = registry.get("toy_letters")
    return [task.generate(4 * group + i, seed=0, difficulty=1) for i in range(4)]


def load_examples(split: str) -> list[Example]:
    names = split.split("+")
    return [each for name in names for each in questions(int(name.removeprefix("group")))]


class Judge(RecordingRunner):
    """Takes every answer for right, or those whose tokens have an even sum."""

    is_strict = False

    @override
    def score(
        self, episode: Episode, stop: StopReason, answer: str | None, is_local: bool = True
    ) -> Trajectory:
        found = super().score(episode, stop, answer, is_local)
        is_right = not self.is_strict or sum(found.tokens) % 2 == 0
        return dataclasses.replace(found, correct=is_right)


@pytest.fixture(scope="module")
def compiled(tiny_policy: Policy, box: Sandbox) -> Judge:
    made = make_recording_runner(tiny_policy, box)
    return Judge(made.engine, box, tokenizer(), made.limits)


@pytest.fixture
def judge(compiled: Judge) -> Iterator[Judge]:
    compiled.recorded, compiled.sampled, compiled.is_strict = [], [], False
    yield compiled


def train(
    policy: Policy,
    params: Params,
    runner: Judge,
    place: Path,
    config: GrpoConfig = EVERYTHING,
    online: OnlineGroups | None = None,
) -> Params:
    params = jax.tree.map(jnp.copy, params)
    run = training_run("grpo", place, seed=3)
    return grpo.train(
        policy, params, tokenizer(), STAGES, load_examples, runner, config, run, online=online
    )


@dataclasses.dataclass(frozen=True)
class Whole:
    """An uninterrupted training with every option."""

    place: Path
    params: Params
    asked: list[list[str]]
    """Ids of each step's questions."""


@pytest.fixture(scope="module")
def whole(
    tiny_policy: Policy,
    first_params: Params,
    compiled: Judge,
    tmp_path_factory: pytest.TempPathFactory,
) -> Whole:
    place = tmp_path_factory.mktemp("whole")
    compiled.recorded, compiled.is_strict = [], False
    trained = train(tiny_policy, first_params, compiled, place)
    asked = [[request.example.id for request in step[::4]] for step in compiled.recorded]
    return Whole(place, trained, asked)


def test_options_do_what_they_say(whole: Whole) -> None:
    found = logged(whole.place)
    assert [row["curriculum/stage"] for row in found] == [1, 1, 2, 2, 2, 2]
    assert [row["optim/lr"] for row in found] == pytest.approx([1e-2] * 2 + [5e-3] * 4)
    # The reference is the policy that a stage begins with.
    kl = [row["optim/kl"] for row in found]
    assert max(kl[0], kl[2]) < 1e-6 < 1e-5 < min(kl[1], *kl[3:])
    # One of two questions is of the group before.
    groups = [{each.id for each in questions(group)} for group in (1, 2)]
    for step, asked in enumerate(whole.asked):
        counts = [sum(name in group for name in asked) for group in groups]
        assert counts == ([2, 0] if step < 2 else [1, 1])


@pytest.mark.parametrize("last", [3, 4, 6], ids=["at the border", "behind it", "in the stage"])
def test_a_training_with_every_option_resumes_exactly(
    tiny_policy: Policy,
    tiny_params: Params,
    judge: Judge,
    whole: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    last: int,
) -> None:
    every = 1 if last == 4 else 2
    config = dataclasses.replace(EVERYTHING, checkpoint_every=every)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(last))
        train(tiny_policy, tiny_params, judge, tmp_path, config)
    with CheckpointManager(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() == {3: 2, 4: 3, 6: 4}[last]
    assert_equal(train(tiny_policy, tiny_params, judge, tmp_path, config), whole.params)
    assert logged(tmp_path) == logged(whole.place)


def test_a_training_that_was_preempted_behind_the_reset_resumes_exactly(
    tiny_policy: Policy,
    tiny_params: Params,
    judge: Judge,
    whole: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    collect = RolloutCollector.collect
    config = dataclasses.replace(EVERYTHING, checkpoint_every=100)

    def collect_until_the_border(collector: RolloutCollector, step: int) -> Any:
        if step == 2:
            raise Resume("stopped")
        return collect(collector, step)

    with monkeypatch.context() as patch, pytest.raises(Resume):
        patch.setattr(RolloutCollector, "collect", collect_until_the_border)
        train(tiny_policy, tiny_params, judge, tmp_path, config)
    assert_equal(train(tiny_policy, tiny_params, judge, tmp_path, config), whole.params)
    assert logged(tmp_path) == logged(whole.place)


def test_checkpoints_hold_the_reference_only_where_it_changes(
    tiny_policy: Policy, tiny_params: Params, judge: Judge, whole: Whole, tmp_path: Path
) -> None:
    def saved(place: Path) -> int:
        return sum(
            path.stat().st_size
            for path in (place / "checkpoints" / "6").rglob("*")
            if path.is_file()
        )

    kept = dataclasses.replace(EVERYTHING.stages, reset_reference=False)
    for name, config in (
        ("kept", dataclasses.replace(EVERYTHING, stages=kept)),
        ("without", dataclasses.replace(EVERYTHING, kl_coef=0.0)),
    ):
        train(tiny_policy, tiny_params, judge, tmp_path / name, config)
    # Parameters and two moments; the reference is as large as the parameters.
    assert saved(tmp_path / "kept") < 0.85 * saved(whole.place)
    assert saved(tmp_path / "without") < 0.85 * saved(whole.place)
    kl = [row["optim/kl"] for row in logged(tmp_path / "kept")]
    assert kl[0] < 1e-6 < 1e-4 < min(kl[1:])


def test_with_lora_the_reference_is_that_of_the_adapters(
    tiny_policy: Policy,
    tiny_params: Params,
    judge: Judge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = dataclasses.replace(tiny_policy.train_config, lora_rank=2)
    small = dataclasses.replace(tiny_policy, train_config=settings)
    expected = train(small, tiny_params, judge, tmp_path / "whole")
    kl = [row["optim/kl"] for row in logged(tmp_path / "whole")]
    assert max(kl[0], kl[2]) < 1e-6 and min(kl[1], *kl[3:]) > max(kl[0], kl[2])
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(6))
        train(small, tiny_params, judge, tmp_path / "stopped")
    assert_equal(train(small, tiny_params, judge, tmp_path / "stopped"), expected)
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")


def test_an_early_end_with_trajectories_in_flight_resumes_exactly(
    tiny_policy: Policy,
    tiny_params: Params,
    judge: Judge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = dataclasses.replace(EVERYTHING, max_staleness=1)
    expected = train(tiny_policy, tiny_params, judge, tmp_path / "whole", config)
    # What is in flight after two steps is the third.
    stages = [row["curriculum/stage"] for row in logged(tmp_path / "whole")]
    assert stages == [1, 1, 1, 2, 2, 2]
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(3))
        train(tiny_policy, tiny_params, judge, tmp_path / "stopped", config)
    resumed = train(tiny_policy, tiny_params, judge, tmp_path / "stopped", config)
    assert_equal(resumed, expected)
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")


# --- measured again ------------------------------------------------------------------------------


def measured_twice(runner: Judge, place: Path) -> OnlineGroups:
    """Groups that are measured again after steps 2 and 4; at first, each of its own number."""
    graded = [
        GradedExample(example=each, group=group, accuracy=0.5, potential=1.0)
        for group in (1, 2)
        for each in questions(group)
    ]
    place.mkdir(exist_ok=True)
    return OnlineGroups(
        runner, graded, POTENTIAL, arm="grpo", every=2, path=place / "remeasured.jsonl"
    )


def assert_diagnostics_follow(place: Path, remeasured: list[dict[str, Any]]) -> None:
    """Diagnostics describe the groups that were last measured before the step."""
    groups = {0: {each.id: group for group in (1, 2) for each in questions(group)}, 2: {}, 4: {}}
    for record in remeasured:
        groups[record["step"]][record["example_id"]] = record["group"]
    assert groups[0] != groups[2] != groups[4]
    found = metrics.read(place / "diagnostics.jsonl")
    for step, sampled in enumerate(dumped(place, 6)):
        now = groups[step - step % 2]
        wanted = collections.Counter(str(now[one.example_id]) for one in sampled)
        parts = [row for row in found if row["step"] == step + 1]
        described = {
            row["name"]: row["trajectories"] for row in parts if row["by"] == "potential_group"
        }
        assert described == wanted
        # The chance of a group with signal is that of the pass rates of the same measurement.
        rates = {r["example_id"]: r["p"] for r in remeasured if r["step"] == step - step % 2}
        chances = [group_signal.expected_signal_fraction(rates.get(one.example_id, 0.5), 4)
                   for one in sampled]  # fmt: skip
        logged_row = logged(place)[step]
        assert logged_row["group/expected_signal_fraction"] == pytest.approx(
            sum(chances) / len(chances)
        )


@pytest.mark.parametrize("last", [2, 5], ids=["first", "second"])
def test_a_training_that_is_stopped_while_it_measures_resumes_exactly(
    tiny_policy: Policy,
    tiny_params: Params,
    judge: Judge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    last: int,
) -> None:
    judge.is_strict = True
    monkeypatch.setattr(potential, "QUESTIONS_PER_BLOCK", 4)
    config = dataclasses.replace(
        CONFIG, steps_per_stage=(4, 2), checkpoint_every=2, dump_rollouts=True
    )

    def run(name: str) -> Params:
        online = measured_twice(judge, tmp_path / name)
        return train(tiny_policy, tiny_params, judge, tmp_path / name, config, online)

    expected = run("whole")
    found = logged(tmp_path / "whole")
    assert [row["curriculum/stage"] for row in found] == [1, 1, 1, 1, 2, 2]
    # Eight questions, four agents, one answer each: counted in the step after a measurement.
    costs = [row.get("curriculum/remeasured_rollouts") for row in found]
    assert costs == [None, None, 32, None, 32, None]
    records = metrics.read(tmp_path / "whole" / "remeasured.jsonl")
    assert [record["step"] for record in records] == [2] * 8 + [4] * 8
    assert len({record["p"] for record in records}) > 1
    assert_diagnostics_follow(tmp_path / "whole", records)

    append, written = metrics.JsonlLog.append, [0]

    def append_until_the_second_block(log: metrics.JsonlLog, record: Any) -> None:
        if log.path.name == "remeasured.jsonl":
            written[0] += 1
            if written[0] == (5 if last == 2 else 13):
                raise Stopped
        append(log, record)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.JsonlLog, "append", append_until_the_second_block)
        run("stopped")
    assert len(metrics.read(tmp_path / "stopped" / "remeasured.jsonl")) == written[0] - 1
    assert_equal(run("stopped"), expected)
    assert logged(tmp_path / "stopped") == found
    assert metrics.read(tmp_path / "stopped" / "remeasured.jsonl") == records
