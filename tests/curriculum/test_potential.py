"""Potential and groups by hand, and a measurement that survives interruption."""

import dataclasses
from pathlib import Path

import pytest

from r1ci_jax.config import PotentialConfig
from r1ci_jax.curriculum import potential
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.runner import Request
from r1ci_jax.rollout.trajectory import CodeCall, StopReason, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.sandbox import ExecResult, Status
from tests.curriculum.counting_runner import CountingRunner, example

CONFIG = PotentialConfig()


def measure(
    runner: CountingRunner,
    count: int,
    path: Path,
    seen: list[int] | None = None,
    config: PotentialConfig = CONFIG,
    golds: str = "1",
):
    """Ask `count` questions, whose golds repeat those given."""
    return potential.measure(
        runner,  # pyright: ignore[reportArgumentType]  # a runner without a model
        [example(number, golds[number % len(golds)]) for number in range(count)],
        config,
        path,
        on_done=(seen if seen is not None else []).append,
    )


# Π = 4p(1-p) for p = k / 20, k = 0 to 10, and the group by edges .64, .48, .32; symmetric in p.
BY_HAND = [
    (0, 0.0, 4),
    (1, 0.19, 4),
    (2, 0.36, 3),
    (3, 0.51, 2),
    (4, 0.64, 1),
    (5, 0.75, 1),
    (6, 0.84, 1),
    (7, 0.91, 1),
    (8, 0.96, 1),
    (9, 0.99, 1),
    (10, 1.0, 1),
]


@pytest.mark.parametrize(("correct", "value", "group"), BY_HAND)
def test_every_attainable_potential_of_twenty_answers(
    correct: int, value: float, group: int
) -> None:
    for k in (correct, 20 - correct):
        assert potential.potential(k / 20) == value  # exactly: .64 stands on an edge
        assert potential.group_number(potential.potential(k / 20), CONFIG.lower_bounds) == group


@pytest.mark.parametrize(
    ("value", "group"),
    [
        (1.0, 1),
        (0.64, 1),
        (0.6399, 2),
        (0.48, 2),
        (0.4799, 3),
        (0.32, 3),
        (0.3199, 4),
        (0.0, 4),
    ],
)
def test_an_edge_belongs_to_the_group_above_it(value: float, group: int) -> None:
    assert potential.group_number(value, (0.64, 0.48, 0.32)) == group


def test_measurement_counts_the_answers_of_all_four_ways(tmp_path: Path) -> None:
    runner = CountingRunner({f"q{k}": k for k in range(21)})
    seen: list[int] = []
    graded = measure(runner, 21, tmp_path / "potential.jsonl", seen)
    expected = [*BY_HAND, *BY_HAND[-2::-1]]
    assert [(row.potential, row.group) for row in graded] == [pair[1:] for pair in expected]
    assert [row.accuracy for row in graded] == [k / 20 for k in range(21)]
    assert seen == [21]
    rows = metrics.read(tmp_path / "potential.jsonl")
    assert rows[3] == {
        "example_id": "q3",
        "task": "toy_letters",
        "p": 0.15,
        "p_low": pytest.approx(0.052369, abs=1e-6),
        "p_high": pytest.approx(0.360419, abs=1e-6),
        "chance": 1.0,
        "potential": 0.51,
        "group": 2,
        "answers": 20,
    }


def test_each_way_answers_at_each_temperature_with_its_own_random_numbers(tmp_path: Path) -> None:
    runner = CountingRunner({"q0": 1, "q1": 2})
    measure(runner, 2, tmp_path / "potential.jsonl")
    assert len({request.rollout_id for request in runner.requests}) == 40
    for agent in agents.AGENTS:
        asked = [request for request in runner.requests[:20] if request.agent is agent]
        assert tuple(request.sampling.temperature for request in asked) == (0.6, 0.8, 1.0, 1.1, 1.2)


def test_answers_that_the_interpreter_lost_do_not_count(tmp_path: Path) -> None:
    runner = CountingRunner({"q0": 4, "q1": 8}, {"q0": 12, "q1": 4})
    graded = measure(runner, 2, tmp_path / "potential.jsonl")
    assert [row.accuracy for row in graded] == [4 / 8, 8 / 16]
    assert [row["answers"] for row in metrics.read(tmp_path / "potential.jsonl")] == [8, 16]


def test_a_question_without_any_verdict_stops_the_measurement(tmp_path: Path) -> None:
    path = tmp_path / "potential.jsonl"
    with pytest.raises(UserError, match="q1") as caught:
        measure(CountingRunner({"q0": 4, "q1": 8}, {"q1": 20}), 2, path)
    assert "\n" not in str(caught.value)
    graded = measure(CountingRunner({"q0": 4, "q1": 8}), 2, path)
    assert [row.accuracy for row in graded] == [0.2, 0.4]


def test_a_resumed_measurement_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    count = 2 * potential.QUESTIONS_PER_BLOCK + 5
    correct = {f"q{number}": number % 21 for number in range(count)}
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    expected = measure(CountingRunner(correct), count, whole)

    with pytest.raises(KeyboardInterrupt):
        measure(CountingRunner(correct, breaks_at="q40"), count, cut)
    assert len(metrics.read(cut)) == potential.QUESTIONS_PER_BLOCK
    # Killed while it wrote the second block: two of its lines, the second one torn.
    lines = whole.read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:33]) + lines[33][:20])

    resumed, seen = CountingRunner(correct), []
    assert measure(resumed, count, cut, seen) == expected
    assert cut.read_bytes() == whole.read_bytes()
    assert seen == [32, 64, count]
    # The first block is known; the second runs whole, so that its neighbours are the same again.
    whole_block = [f"q{number}" for number in range(32, 64)]
    asked = list(dict.fromkeys(request.example.id for request in resumed.requests))
    assert asked == [*whole_block, *(f"q{number}" for number in range(64, count))]
    again = CountingRunner(correct)
    assert measure(again, count, cut) == expected and again.requests == []


# Two classes, six of eight questions of the first: c = 3/4, p' = max(0, 4p - 3), for p = k / 20.
ABOVE_CHANCE = [
    (0, 0.0, 4),
    (10, 0.0, 4),  # the paper's most promising question is a coin flip
    (15, 0.0, 4),
    (16, 0.64, 1),  # p = .8, p' = .2
    (17, 0.96, 1),  # p = .85, p' = .4
    (18, 0.96, 1),  # p = .9, p' = .6
    (19, 0.64, 1),  # p = .95, p' = .8
    (20, 0.0, 4),
]


def test_potential_above_chance_by_hand(tmp_path: Path) -> None:
    correct = {f"q{number}": k for number, (k, _, _) in enumerate(ABOVE_CHANCE)}
    path, config = tmp_path / "potential.jsonl", PotentialConfig(chance_corrected=True)
    graded = measure(CountingRunner(correct), 8, path, config=config, golds="11121112")
    assert [(row.potential, row.group) for row in graded] == [row[1:] for row in ABOVE_CHANCE]
    # p stays what was measured, and c stands beside it.
    assert [row.accuracy for row in graded] == [row[0] / 20 for row in ABOVE_CHANCE]
    records = metrics.read(path)
    assert {record["chance"] for record in records} == {0.75}
    assert [record["potential"] for record in records] == [row[1] for row in ABOVE_CHANCE]
    # Resumed, with nothing left to ask.
    again = measure(CountingRunner({}), 8, path, config=config, golds="11121112")
    assert again == graded
    # The paper's form does not look at c.
    paper = measure(CountingRunner(correct), 8, tmp_path / "paper.jsonl", golds="11121112")
    assert [row.potential for row in paper] == [
        potential.potential(row[0] / 20) for row in ABOVE_CHANCE
    ]


def test_chance_at_its_ends() -> None:
    # Without chance nothing changes; where a constant answer is always right nothing is learnt.
    for k in range(21):
        assert potential.above_chance(k / 20, 0.0) == k / 20
        assert potential.above_chance(k / 20, 1.0) == 0.0
    questions = [example(0, "1"), example(1, "2"), example(2, "1"), example(3, "")]
    assert potential.measure_chance(questions) == {"toy_letters": 0.5}
    assert potential.measure_chance([example(0, "")]) == {"toy_letters": 0.0}


def test_a_sandbox_that_fails_too_often_ends_the_measurement(tmp_path: Path) -> None:
    """Blocks of 32 questions: the first works, then every script is lost."""
    path = tmp_path / "potential.jsonl"
    lost = ExecResult(status=Status.INFRA_ERROR, detail="the fork server ended")

    class Breaking(CountingRunner):
        def _answer(self, request: Request) -> Trajectory:
            found = super()._answer(request)
            if request.rollout_id.group_id < 32 or request.rollout_id.sample_index > 0:
                return found
            call = CodeCall(code="print(1)\n", result=lost)
            return dataclasses.replace(found, code_calls=(call,), stop=StopReason.SANDBOX_FAULT)

    correct = {f"q{number}": number % 21 for number in range(64)}
    with pytest.raises(UserError, match="questions 33 to 64: the sandbox failed in 32 of 32"):
        measure(Breaking(correct), 64, path)
    assert [record["example_id"] for record in metrics.read(path)] == [f"q{n}" for n in range(32)]
    resumed = CountingRunner(correct)
    seen: list[int] = []
    measure(resumed, 64, path, seen)
    assert seen == [32, 64] and len(resumed.requests) == 32 * 20


# p = k / 20, Wilson's interval, and the groups that Π = 4p(1-p) has within it.
SPANS = [
    (0, 0.0, 0.161125, 2, 4),  # Π up to .541
    (1, 0.008881, 0.236131, 1, 4),  # .721
    (10, 0.299298, 0.700702, 1, 1),  # Π of .2993 is .839
    (20, 0.838875, 1.0, 2, 4),
]


@pytest.mark.parametrize(("correct", "low", "high", "first", "last"), SPANS)
def test_groups_within_the_interval_of_p(
    correct: int, low: float, high: float, first: int, last: int, tmp_path: Path
) -> None:
    path = tmp_path / "potential.jsonl"
    measure(CountingRunner({"q0": correct}), 1, path)
    [record] = metrics.read(path)
    assert (record["p_low"], record["p_high"]) == pytest.approx((low, high), abs=1e-6)
    assert potential.possible_groups(low, high, CONFIG) == (first, last)


def test_possible_groups_above_chance() -> None:
    config = PotentialConfig(chance_corrected=True)
    # c = 1/2: p' of .5 to .9 is 0 to .8, past 1/2; of .3 to .5 it is 0 alone.
    assert potential.possible_groups(0.5, 0.9, config, chance=0.5) == (1, 4)
    assert potential.possible_groups(0.3, 0.5, config, chance=0.5) == (4, 4)
