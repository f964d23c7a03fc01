"""Retirement of questions: pass rates by hand, and their state."""

import dataclasses
import json

from r1ci_jax.curriculum.retirement import PassRates
from r1ci_jax.rollout.trajectory import RolloutId, StopReason, Trajectory


def answers(example_id: str, scores: str) -> list[Trajectory]:
    """Trajectories of one question: o is correct, x is wrong, - was lost by the sandbox."""
    base = Trajectory(
        example_id=example_id,
        task="toy_letters",
        question="How many?",
        agent="code_agent",
        rollout_id=RolloutId(0, 0),
        tokens=(),
        sampled=(),
        logprobs=(),
        code_calls=(),
        stop=StopReason.ANSWER,
        answer="7",
        correct=False,
        reward=0.0,
    )
    stops = {"-": StopReason.SANDBOX_FAULT}
    return [
        dataclasses.replace(base, correct=score == "o", stop=stops.get(score, base.stop))
        for score in scores
    ]


def test_the_rate_runs_over_all_groups_and_must_be_above_the_threshold() -> None:
    rates = PassRates(0.75)
    rates.record(answers("a", "ooxx") + answers("b", "ooox") + answers("c", "oooo"))
    # 2/4, 3/4 and 4/4.
    assert [rates.is_retired(each) for each in "abcd"] == [False, False, True, False]
    rates.record(answers("a", "oooo") + answers("b", "oo--"))
    # 6/8 and 5/6: what the sandbox lost does not count.
    assert [rates.is_retired(each) for each in "abcd"] == [False, True, True, False]
    assert rates.num_retired == 2


def test_a_question_of_which_all_answers_were_lost_stays() -> None:
    rates = PassRates(0.5)
    rates.record(answers("a", "----"))
    assert not rates.is_retired("a") and rates.num_retired == 0


def test_the_state_is_the_counts() -> None:
    rates = PassRates(0.5)
    rates.record(answers("b", "oox") + answers("a", "x"))
    state = json.loads(json.dumps(rates.state()))
    assert state == {"pass_rates": {"a": [0, 1], "b": [2, 3]}}
    again = PassRates(0.5)
    again.restore({"other": 1, **state})
    assert again.state() == rates.state() and again.is_retired("b")
    again.record(answers("b", "xxx"))
    assert not again.is_retired("b") and rates.is_retired("b")


def test_without_a_threshold_nothing_is_kept() -> None:
    rates = PassRates(1.0)
    rates.restore({"of a checkpoint": "without rates"})
    rates.record(answers("a", "oooo"))
    assert rates.state() == {} and not rates.is_on and not rates.is_retired("a")
