"""Groups that are measured again: by the current answers, resumed, and never mixed up."""

import json
from pathlib import Path

import pytest

from r1ci_jax.config import PotentialConfig
from r1ci_jax.curriculum import potential
from r1ci_jax.curriculum.online import RECORD_FIELDS, OnlineGroups
from r1ci_jax.curriculum.schedule import StageSchedule
from r1ci_jax.curriculum.stages import curriculum_stages
from r1ci_jax.grpo_config import GrpoConfig
from r1ci_jax.runtime import metrics
from tests.curriculum.counting_runner import CountingRunner, example

CONFIG = PotentialConfig()
COUNT = potential.QUESTIONS_PER_BLOCK + 3
FIRST = {f"q{number}": number % 21 for number in range(COUNT)}
LATER = {f"q{number}": (number + 7) % 21 for number in range(COUNT)}


def make(runner: CountingRunner, path: Path, arm: str = "grpo_online") -> OnlineGroups:
    questions = [example(number) for number in range(COUNT)]
    graded = potential.grade(questions, {name: k / 20 for name, k in FIRST.items()}, CONFIG)
    return OnlineGroups(
        runner,  # pyright: ignore[reportArgumentType]  # a runner without a model
        graded,
        CONFIG,
        arm=arm,
        every=3,
        path=path,
    )


def ids(groups: OnlineGroups, split: str) -> list[str]:
    return [each.id for each in groups.load(split)]


def expected(correct: dict[str, int], *groups: int) -> list[str]:
    values = {name: potential.potential(k / 20) for name, k in correct.items()}
    bounds = CONFIG.lower_bounds
    return [name for name, x in values.items() if potential.group_number(x, bounds) in groups]


def test_questions_move_to_the_groups_of_the_new_answers(tmp_path: Path) -> None:
    path = tmp_path / "remeasured.jsonl"
    runner = CountingRunner(LATER)
    online = make(runner, path)
    online.restore(0, None)
    assert [online.is_due(step) for step in (0, 1, 3, 4, 6)] == [False, False, True, False, True]
    assert ids(online, "group1+group2") == expected(FIRST, 1, 2)
    values = online.measure(3)
    assert ids(online, "group1+group2") == expected(LATER, 1, 2) != expected(FIRST, 1, 2)
    assert ids(online, "group4") == expected(LATER, 4)
    assert values["curriculum/remeasured_rollouts"] == COUNT * 20 == len(runner.requests)
    assert values["curriculum/group4"] == len(expected(LATER, 4))
    records = metrics.read(path, required=RECORD_FIELDS)
    assert {(record["arm"], record["step"]) for record in records} == {("grpo_online", 3)}
    assert [record["p"] for record in records] == [k / 20 for k in LATER.values()]


def test_no_answer_shares_its_random_numbers_with_another(tmp_path: Path) -> None:
    runner = CountingRunner(LATER)
    online = make(runner, tmp_path / "remeasured.jsonl")
    online.restore(0, None)
    for step in (3, 6):
        online.measure(step)
    assert len({request.rollout_id for request in runner.requests}) == 2 * COUNT * 20
    # A training's own trajectories have small sample indices.
    assert min(request.rollout_id.sample_index for request in runner.requests) == 1 << 20


def test_a_measurement_that_was_killed_goes_on(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    make(CountingRunner(LATER), whole).measure(3)
    with pytest.raises(KeyboardInterrupt):
        make(CountingRunner(LATER, breaks_at="q33"), cut).measure(3)
    assert len(metrics.read(cut)) == potential.QUESTIONS_PER_BLOCK
    runner = CountingRunner(LATER)
    online = make(runner, cut)
    online.restore(3, make(runner, cut).state())
    values = online.measure(3)
    assert cut.read_bytes() == whole.read_bytes()
    assert len(runner.requests) == 3 * 20  # the first block was known
    assert values["curriculum/remeasured_rollouts"] == COUNT * 20  # and counts all the same
    assert ids(online, "group1") == expected(LATER, 1)


def test_a_checkpoint_holds_the_groups(tmp_path: Path) -> None:
    path = tmp_path / "remeasured.jsonl"
    online = make(CountingRunner(LATER), path)
    assert online.state() == {"remeasured": {"step": 0, "p": {}}}
    online.measure(3)
    saved = json.loads(json.dumps(online.state()))
    path.unlink()  # the file is for people to read
    resumed = make(CountingRunner({}), path)
    resumed.restore(4, saved)
    for split in ("group1", "group2+group3", "group4"):
        assert ids(resumed, split) == ids(online, split)
    assert resumed.state() == saved


def test_resuming_drops_the_measurements_after_it_and_those_alone(tmp_path: Path) -> None:
    path = tmp_path / "remeasured.jsonl"
    for arm in ("grpo_online", "grpo_other"):
        online = make(CountingRunner(LATER), path, arm)
        for step in (3, 6):
            online.measure(step)
    make(CountingRunner({}), path).restore(5, {"remeasured": {"step": 3, "p": _p(LATER)}})
    found = {(record["arm"], record["step"]) for record in metrics.read(path)}
    assert found == {("grpo_online", 3), ("grpo_other", 3), ("grpo_other", 6)}
    make(CountingRunner({}), path).restore(0, None)
    found = {(record["arm"], record["step"]) for record in metrics.read(path)}
    assert found == {("grpo_other", 3), ("grpo_other", 6)}


def _p(correct: dict[str, int]) -> dict[str, float]:
    return {name: k / 20 for name, k in correct.items()}


def test_empty_first_groups_open_the_next_one_early(tmp_path: Path) -> None:
    never = dict.fromkeys(FIRST, 0) | {"q5": 2}  # all in group 4 but one, which is in group 3
    online = make(CountingRunner(never), tmp_path / "remeasured.jsonl")
    online.measure(3)
    assert ids(online, "group1") == ids(online, "group1+group2") == ["q5"]
    assert ids(online, "group2") == []
    assert len(ids(online, "group1+group2+group3+group4")) == COUNT


def test_parts_end_where_the_questions_are_measured_again(tmp_path: Path) -> None:
    online = make(CountingRunner(LATER), tmp_path / "remeasured.jsonl")
    steps = (4, 3, 0, 3)
    stages = curriculum_stages(steps, {1: 1, 2: 1, 3: 1, 4: 1})
    made = StageSchedule(stages, lambda _: [], GrpoConfig(steps_per_stage=steps), online)
    spans = list(made.spans(0))
    assert [(span.stage.number, span.steps) for span in spans] == [
        (1, range(3)), (1, range(3, 4)), (2, range(4, 6)), (2, range(6, 7)), (4, range(7, 9)),
        (4, range(9, 10)),
    ]  # fmt: skip
    assert [made.is_measured_again(span) for span in spans] == [
        False, True, False, True, False, True,
    ]  # fmt: skip
    assert [span.is_stage_start for span in spans] == [True, False, True, False, True, False]
    # Resumed inside a part nothing is measured; at its start, again.
    assert [made.is_measured_again(next(made.spans(done))) for done in (3, 5, 6)] == [
        True, False, True,
    ]  # fmt: skip
    assert next(made.spans(5)).steps == range(4, 6)
