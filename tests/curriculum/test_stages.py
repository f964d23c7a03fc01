"""Stages: what the curriculum reads, and what it is compared with."""

from r1ci_jax.curriculum import stages
from r1ci_jax.curriculum.stages import Stage

STEPS = (10, 20, 30, 40)
CUMULATIVE = [
    Stage(number=1, split="group1", steps=10),
    Stage(number=2, split="group1+group2", steps=20),
    Stage(number=3, split="group1+group2+group3", steps=30),
    Stage(number=4, split="group1+group2+group3+group4", steps=40),
]


def test_stage_s_reads_groups_one_to_s() -> None:
    assert stages.curriculum_stages(STEPS, {1: 5, 2: 5, 3: 5, 4: 5}) == CUMULATIVE


def test_an_empty_group_between_full_ones_changes_nothing() -> None:
    assert stages.curriculum_stages(STEPS, {1: 5, 2: 0, 4: 1}) == CUMULATIVE


def test_empty_first_groups_open_the_next_one_early() -> None:
    made = stages.curriculum_stages(STEPS, {1: 0, 2: 0, 3: 7, 4: 1})
    splits = [CUMULATIVE[2].split, CUMULATIVE[2].split, CUMULATIVE[2].split, CUMULATIVE[3].split]
    assert [stage.split for stage in made] == splits
    assert [stage.steps for stage in made] == list(STEPS)


def test_without_any_question_every_stage_reads_all_groups() -> None:
    made = stages.curriculum_stages(STEPS, {})
    assert {stage.split for stage in made} == {CUMULATIVE[3].split}


def test_uniform_training_spends_the_same_steps_on_all_questions() -> None:
    (stage,) = stages.uniform_stages(STEPS)
    assert (stage.split, stage.steps) == (CUMULATIVE[3].split, 100)


def test_uniform_training_with_borders_has_all_questions_in_every_stage() -> None:
    made = stages.uniform_stages(STEPS, has_borders=True)
    assert [(stage.number, stage.steps) for stage in made] == [(1, 10), (2, 20), (3, 30), (4, 40)]
    assert {stage.split for stage in made} == {CUMULATIVE[3].split}


def test_groups_that_a_stage_adds() -> None:
    found = [stages.new_and_earlier(stage, CUMULATIVE) for stage in CUMULATIVE]
    assert found == [
        ("group1", ""),
        ("group2", "group1"),
        ("group3", "group1+group2"),
        ("group4", "group1+group2+group3"),
    ]
    # The first three stages are the same groups: the second and the third add none.
    early = stages.curriculum_stages(STEPS, {3: 7, 4: 1})
    assert [stages.new_and_earlier(stage, early)[0] for stage in early] == [
        "group1+group2+group3", "", "", "group4",
    ]  # fmt: skip
