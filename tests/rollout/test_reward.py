"""The reward of trajectories by the paper's numbers and by others, worked by hand."""

import dataclasses
from collections.abc import Sequence

import pytest

from r1ci_jax.grpo_config import RewardConfig
from r1ci_jax.rollout import serialize, summaries
from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import CodeCall, RewardTerms, StopReason, Trajectory
from r1ci_jax.sandbox import ExecResult, Status
from tests.rollout import scripts

CODE = "```python\nprint(7)\n```"
OPEN_CODE = "```python\nprint("
RIGHT, WRONG = "It is <<<7>>>", "<<<8>>>"
ANSWER, EOS = StopReason.ANSWER, StopReason.EOS
PAPER = RewardConfig()
CALLS = RewardConfig(turn_penalty_counts="code_calls")
OTHER = RewardConfig(correct=2.0, format=0.5, turn_penalty=0.25)
SILENT = RewardConfig(format=0.0)
# Turns, why they ended, settings, turns without penalty; reward = correct + format + penalty, void
# turns.
TABLE = [
    # Short ones: right or wrong, with and without code.
    ([RIGHT], ANSWER, PAPER, 6, 1.1, (1.0, 0.1, 0.0), 0),
    ([WRONG], ANSWER, PAPER, 6, 0.1, (0.0, 0.1, 0.0), 0),
    ([CODE, RIGHT], ANSWER, PAPER, 6, 1.1, (1.0, 0.1, 0.0), 0),
    # The seventh turn is one too many; as code calls, the seventh call.
    ([CODE] * 5 + [RIGHT], ANSWER, PAPER, 6, 1.1, (1.0, 0.1, 0.0), 0),
    ([CODE] * 6 + [RIGHT], ANSWER, PAPER, 6, 1.0, (1.0, 0.1, -0.1), 0),
    ([CODE] * 6 + [WRONG], ANSWER, PAPER, 6, 0.0, (0.0, 0.1, -0.1), 0),
    ([CODE] * 6 + [RIGHT], ANSWER, CALLS, 6, 1.1, (1.0, 0.1, 0.0), 0),
    ([CODE] * 7 + [RIGHT], ANSWER, CALLS, 6, 1.0, (1.0, 0.1, -0.1), 0),
    # No answer: the format is broken, and the last turn is void unless it closed a block.
    (["It is 7."], EOS, PAPER, 6, -0.1, (0.0, -0.1, 0.0), 1),
    ([CODE, "It is 7."], EOS, PAPER, 6, -0.1, (0.0, -0.1, 0.0), 1),
    ([CODE, OPEN_CODE], StopReason.MAX_TOKENS, PAPER, 6, -0.1, (0.0, -0.1, 0.0), 1),
    (["Well, well"], StopReason.MAX_TURN_TOKENS, PAPER, 6, -0.1, (0.0, -0.1, 0.0), 1),
    (["It is <<<7"], StopReason.WALL_TIME, PAPER, 6, -0.1, (0.0, -0.1, 0.0), 1),
    ([CODE], StopReason.CONTEXT_FULL, PAPER, 6, -0.1, (0.0, -0.1, 0.0), 0),
    ([CODE] * 9, StopReason.MAX_CODE_CALLS, PAPER, 6, -0.2, (0.0, -0.1, -0.1), 0),
    ([CODE] * 4, StopReason.MAX_TURNS, PAPER, 3, -0.2, (0.0, -0.1, -0.1), 0),
    ([CODE], StopReason.SANDBOX_FAULT, PAPER, 6, -0.1, (0.0, -0.1, 0.0), 0),
    # A right answer in broken format; an empty answer.
    ([f"``` so {RIGHT}"], ANSWER, PAPER, 6, 0.9, (1.0, -0.1, 0.0), 0),
    (["<<<>>>"], ANSWER, PAPER, 6, -0.1, (0.0, -0.1, 0.0), 0),
    # Other amounts.
    ([CODE, RIGHT], ANSWER, OTHER, 1, 2.25, (2.0, 0.5, -0.25), 0),
    ([RIGHT], ANSWER, SILENT, 6, 1.0, (1.0, 0.0, 0.0), 0),
]
NOT_RUN = (StopReason.MAX_CODE_CALLS, StopReason.MAX_TURNS)
"""The last block is not run."""


@pytest.fixture(scope="module")
def runner(world) -> Runner:
    return world.runner(scripts.ONLY_EOS)


def score(
    runner: Runner,
    turns: Sequence[str],
    stop: StopReason,
    config: RewardConfig = PAPER,
    penalty_after: int = 6,
) -> Trajectory:
    """Score a trajectory of these turns as the runner does."""
    episode = Episode(request=scripts.request())
    episode.append_context(runner.tokenizer.encode("Compute 3+4."))
    for number, text in enumerate(turns):
        ids = runner.tokenizer.encode(text)
        episode.append_completion(ids, [-1.0] * len(ids))
        if text == CODE and not (stop in NOT_RUN and number == len(turns) - 1):
            status = Status.INFRA_ERROR if stop is StopReason.SANDBOX_FAULT else Status.OK
            result = ExecResult(status=status, stdout="7\n")
            episode.code_calls.append(CodeCall(code="print(7)\n", result=result))
            episode.append_context(runner.tokenizer.encode("\nCode Execution Results:\n7\n"))
    runner.reward_config, runner.turn_penalty_after = config, penalty_after
    text = turns[-1].partition("<<<")[2].partition(">>>")[0]
    return runner.score(episode, stop, text if stop is ANSWER else None)


@pytest.mark.parametrize("row", TABLE)
def test_rewards_and_their_terms_by_hand(runner: Runner, row) -> None:
    turns, stop, config, penalty_after, reward, terms, num_void_turns = row
    made = score(runner, turns, stop, config, penalty_after)
    assert made.reward == pytest.approx(reward)
    assert made.reward_terms == terms and made.reward == RewardTerms(*terms).total
    assert made.num_void_turns == num_void_turns
    assert config is SILENT or made.keeps_format == (terms[1] > 0)
    assert made.correct == (terms[0] > 0)


def test_terms_are_stored_logged_and_read_back(runner: Runner) -> None:
    right = score(runner, [CODE, RIGHT], ANSWER)
    wrong = score(runner, ["It is 7."], EOS)
    assert [serialize.trajectory_from_json(serialize.trajectory_to_json(each)) for each in
            (right, wrong)] == [right, wrong]  # fmt: skip
    found = summaries.compute_metrics([right, wrong])
    terms = {name: value for name, value in found.items() if name.startswith("reward_term/")}
    assert terms == pytest.approx(
        {"reward_term/correct": 0.5, "reward_term/format": 0.0, "reward_term/turn_penalty": 0.0}
    )
    record = summaries.to_record(right, runner.tokenizer, stage="grpo", step=1)
    assert record["reward_terms"] == {"correct": 1.0, "format": 0.1, "turn_penalty": 0.0}


def test_what_an_earlier_version_stored_has_no_terms(runner: Runner) -> None:
    made = score(runner, [RIGHT], ANSWER)
    saved = serialize.trajectory_to_json(made)
    for name in ("reward_terms", "keeps_format", "num_void_turns"):
        del saved[name]
    old = serialize.trajectory_from_json(saved)
    assert old == dataclasses.replace(
        made, reward_terms=None, keeps_format=None, num_void_turns=None
    )
    assert "reward_term/format" not in summaries.compute_metrics([made, old])


def test_the_reward_is_the_sum_of_its_terms() -> None:
    assert RewardTerms(1.0, -0.1, -0.1).total == pytest.approx(0.8)
