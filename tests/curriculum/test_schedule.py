"""The steps of stages: as planned, ended early by accuracy, cut by measurements, and resumed."""

import dataclasses
import json
from collections.abc import Sequence

import pytest

from r1ci_jax.curriculum.schedule import StageSchedule
from r1ci_jax.curriculum.stages import curriculum_stages, uniform_stages
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import GrpoConfig, StageConfig
from r1ci_jax.tasks.base import Example

SIZES = {1: 2, 2: 2, 3: 2, 4: 2}
RULE = StageConfig(advance_accuracy=0.5, advance_window=2)


def load(split: str) -> list[Example]:
    """One question per group, named by it."""
    return [
        Example(id=name, task="", question="", answer="", difficulty=1) for name in split.split("+")
    ]


def schedule(
    steps: tuple[int, ...], stages: StageConfig = RULE, *, max_staleness: int = 0
) -> StageSchedule:
    config = GrpoConfig(steps_per_stage=steps, stages=stages, max_staleness=max_staleness)
    return StageSchedule(curriculum_stages(steps, SIZES), load, config)


def follow(made: StageSchedule, accuracies: Sequence[float], done: int = 0) -> list[int]:
    """Record these accuracies step by step; return the stage of each step."""
    found = []
    for span in made.spans(done):
        for step in span.steps_after(done):
            if step == len(accuracies):
                return found
            found.append(span.stage.number)
            made.record(step + 1, accuracies[step])
    return found


def test_without_a_rule_stages_have_their_steps() -> None:
    made = schedule((2, 0, 3, 1), StageConfig())
    spans = list(made.spans(0))
    assert [(span.stage.number, span.steps) for span in spans] == [
        (1, range(2)), (3, range(2, 5)), (4, range(5, 6)),
    ]  # fmt: skip
    assert [span.changes_stage for span in spans] == [False, True, True]
    assert follow(made, [1.0] * 6) == [1, 1, 3, 3, 3, 4]
    # Resumed after 3 steps: in the middle of the span, which keeps all its steps.
    first, second = made.spans(3)
    assert first.steps == range(2, 5) and first.is_resumed and not first.changes_stage
    assert list(first.steps_after(3)) == [3, 4]
    assert not second.is_resumed and second.changes_stage


def test_the_last_step_of_a_stage_belongs_to_it() -> None:
    made = schedule((2, 3), StageConfig())
    found = [made.state(done)["curriculum"] for done in range(6)]
    assert [(each["stage"], each["step"]) for each in found] == [
        (1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3),
    ]  # fmt: skip
    assert made.state(4) == {"curriculum": {"stage": 2, "split": "group1+group2", "step": 2}}


def test_a_stage_ends_once_the_mean_of_its_window_reaches_the_accuracy() -> None:
    # Means of two: .3, .5 ends stage 1 after its third step; .9 in the next are two of its own.
    accuracies = [0.2, 0.4, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
    made = schedule((5, 3, 2, 2))
    # Stage 2 keeps its budget of 3 and ends after 2, stage 3 needs its 2 steps for the window.
    assert follow(made, accuracies) == [1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4]
    assert made.num_steps == 12


def test_steps_left_over_go_to_the_last_stage_that_has_any() -> None:
    assert follow(schedule((4, 2, 0)), [1.0] * 6) == [1, 1, 2, 2, 2, 2]
    # The only stage with steps never ends early, and no stage does that is too bad.
    assert follow(schedule((0, 4, 0)), [1.0] * 4) == [2, 2, 2, 2]
    assert follow(schedule((3, 3)), [0.4] * 6) == [1, 1, 1, 2, 2, 2]


def test_a_stage_with_a_batch_in_flight_takes_one_step_more() -> None:
    made = schedule((5, 3), max_staleness=1)
    assert follow(made, [1.0] * 8) == [1, 1, 1, 2, 2, 2, 2, 2]
    # Where no step would be saved, the plan stays.
    assert follow(schedule((3, 3), max_staleness=1), [1.0] * 6) == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("max_staleness", [0, 1])
def test_a_resumed_schedule_goes_on_as_an_uninterrupted_one(max_staleness: int) -> None:
    accuracies = [0.2, 0.9, 0.2, 0.9, 0.9, 0.1, 0.2, 0.9, 0.9, 0.3, 0.3, 0.3]
    steps = (4, 4, 3, 1)
    whole = schedule(steps, max_staleness=max_staleness)
    expected = follow(whole, accuracies)
    assert len(set(expected)) == 4 and expected != [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4]
    for done in range(len(accuracies)):
        stopped = schedule(steps, max_staleness=max_staleness)
        assert follow(stopped, accuracies[:done]) == expected[:done]
        saved = json.loads(json.dumps(stopped.state(done)))
        resumed = schedule(steps, max_staleness=max_staleness)
        resumed.restore(done, saved)
        assert follow(resumed, accuracies, done) == expected[done:]
        assert resumed.state(12) == whole.state(12)


def test_a_checkpoint_of_another_curriculum_is_refused() -> None:
    saved = schedule((2, 3), StageConfig()).state(2)
    with pytest.raises(AssertionError, match="of another curriculum"):
        schedule((1, 4), StageConfig()).restore(2, saved)


def test_replay_takes_earlier_groups_apart() -> None:
    rule = StageConfig(replay_fraction=(0.0, 0.5, 0.25, 0.0))
    made = schedule((1, 1, 1, 1), rule)
    first, second, third, last = (made.questions(span) for span in made.spans(0))
    assert (first.examples, first.earlier) == (load("group1"), None)
    assert (second.examples, second.earlier) == (load("group2"), load("group1"))
    assert (third.examples, third.earlier) == (load("group3"), load("group1+group2"))
    assert [each.earlier_share for each in (second, third, last)] == [0.5, 0.25, 0.0]


def test_replay_has_no_effect_where_a_stage_adds_nothing() -> None:
    rule = StageConfig(replay_fraction=(0.5, 0.5))
    config = GrpoConfig(steps_per_stage=(1, 1), stages=rule)
    made = StageSchedule(uniform_stages((1, 1), has_borders=True), load, config)
    for span in made.spans(0):
        found = made.questions(span)
        assert found.earlier is None and len(found.examples) == 2

    def load_some(split: str) -> list[Example]:
        return [each for each in load(split) if each.id != "group2"]

    made = StageSchedule(curriculum_stages((1, 1), SIZES), load_some, config)
    assert [made.questions(span).earlier for span in made.spans(0)] == [None, None]


def test_settings_per_stage_need_one_entry_each() -> None:
    for name in ("lr", "replay_fraction"):
        stages = dataclasses.replace(StageConfig(), **{name: (0.5, 0.5)})
        with pytest.raises(UserError, match=f"grpo.stages.{name} = .* one entry per stage"):
            GrpoConfig(steps_per_stage=(1, 1, 1), stages=stages)
