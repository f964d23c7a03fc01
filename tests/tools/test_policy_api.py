"""`r1ci_jax.Policy`: it answers as `r1ci eval` does, and repeats itself by its seed."""

from pathlib import Path
from typing import override

import numpy as np
import pytest

import r1ci_jax
from r1ci_jax import Policy
from r1ci_jax.cli.main import main
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks import registry
from tests.rollout.scripts import CODE_TEXT, CODE_THEN_ANSWER, MIXED
from tests.scripted_checkpoint import write_checkpoint, write_run

SHORT = {"context": 200, "max_new_tokens": 60, "prompts": "none", "ask_for_answer": False}
"""Options for policies of scripts, which know no instructions."""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mixed") / "model"
    write_checkpoint(place, MIXED)
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "run"
    write_run(place, {"sft": 0, "grpo_curriculum": 1})
    return place


def test_a_question_is_solved_with_code(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "model", CODE_THEN_ANSWER)
    with Policy.from_pretrained(tmp_path / "model", temperature=0.0, **SHORT) as policy:
        found = policy.solve("Compute 3+4.")
        assert found.answer == "7" and found.stop is StopReason.ANSWER
        assert [(each.code, each.result.stdout) for each in found.code_calls] == [
            (CODE_TEXT, "ok!\n")
        ]
        assert policy.text(found) == (
            "```python \nprint('ok!')\n```\nCode Execution Results:\nok!\n<<<7>>>"
        )
        task = registry.get("toy_arithmetic")
        example = task.generate(index=0, seed=0, difficulty=1)
        assert policy.solve(example).correct == task.score(example, "7").correct
        # The policy of words alone writes the same, and its code is not run.
        assert policy.solve("Compute 3+4.", agent="all_text").code_calls == ()
        box = policy._runner.sandbox if policy._runner else None
    assert isinstance(box, Sandbox)
    with pytest.raises(RuntimeError):
        box.run("print(1)")


def shown(policy: Policy, trajectory: Trajectory) -> tuple[str, str, str]:
    return trajectory.example_id, trajectory.stop.value, policy.text(trajectory)


def test_many_questions_are_answered_as_in_an_evaluation(mixed: Path, tmp_path: Path) -> None:
    words = ("--tasks", "toy_letters", "--questions", "6", "--agents", "code_agent", "--seed", "5")
    flags = ("--prompts", "none", "--no-ask-for-answer", "--temperature", "1", "--slots", "4")
    sizes = ("--context", "200", "--max-tokens", "60", "--workdir", str(tmp_path))
    assert main(["eval", str(mixed), *words, *flags, *sizes]) == 0
    records = metrics.read(tmp_path / "trajectories.jsonl")
    asked = metrics.read(tmp_path / "questions.jsonl")
    policy = Policy.from_pretrained(mixed, temperature=1.0, seed=5, **SHORT)
    task = registry.get("toy_letters")
    examples = [
        task.generate(int(number), int(seed[1:]), int(level[1:]))
        for _, level, seed, number in (each["id"].split("/") for each in asked)
    ]
    with Sandbox() as box:
        runner = policy.runner(box, slots=4)
        found = runner.run(policy.requests(examples))
    assert [shown(policy, each) for each in found] == [
        (each["example_id"], each["stop"], "".join(part["text"] for part in each["segments"]))
        for each in records
    ]
    assert len({policy.text(each) for each in found}) > 1


def test_a_series_of_questions_is_that_of_the_seed(mixed: Path) -> None:
    series = []
    for seed in (3, 3, 4):
        with Policy.from_pretrained(mixed, temperature=1.0, seed=seed, **SHORT) as policy:
            series.append([policy.solve("Compute 3+4.").tokens for _ in range(5)])
    assert series[0] == series[1] != series[2]
    assert len(set(series[0])) > 1


class Short(agents.Agent):
    """Ends at the first block."""

    name = "short"

    @override
    def act(self, turn: agents.ModelTurn) -> agents.Action:
        return agents.Finish(stop=StopReason.ANSWER, answer="mine")


def test_requests_are_numbered_and_may_have_an_agent_of_ones_own(mixed: Path) -> None:
    policy = Policy.from_pretrained(mixed, **{**SHORT, "ask_for_answer": True})
    asked = policy.requests(["a", "b"], samples=3)
    assert [tuple(each.rollout_id) for each in asked] == [(i, j) for i in (0, 1) for j in range(3)]
    assert isinstance(asked[0].agent, agents.AnswerRequest)
    own = Short()
    assert [each.agent for each in policy.requests(["a"], agent=own)] == [own]
    with policy:
        assert policy.solve("a", agent=own).answer == "mine"


def test_models_of_a_run_have_its_settings(run: Path) -> None:
    newest, sft = Policy.from_run(run), Policy.from_run(str(run), "sft")
    assert repr(newest) == "Policy('run/grpo_curriculum')"
    assert repr(Policy.from_run(run, "curriculum")) == repr(newest)
    assert sft.settings.sampler.cache_length == 128 and sft.settings.limits.max_new_tokens == 12
    first, second = (np.asarray(each.model.weights.embed_VD) for each in (newest, sft))
    assert first.shape == second.shape and (first != second).any()
    with sft:
        found = sft.solve("How many?")
    assert found.stop in (StopReason.MAX_TOKENS, StopReason.EOS) and sum(found.sampled) <= 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tempratur": 1.0}, "no option 'tempratur'; there are: dtype, context"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"context": 10**6}, "the model holds 32768 tokens"),
        ({"max_new_tokens": 200, "context": 200}, "no room for a prompt"),
    ],
)
def test_options_are_checked(mixed: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Policy.from_pretrained(mixed, **options)


def test_names_are_checked(mixed: Path, run: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        Policy.from_pretrained("nowhere")
    with pytest.raises(UserError, match=r"is a run; use Policy.from_run"):
        Policy.from_pretrained(run)
    with pytest.raises(UserError, match="is not a run directory"):
        Policy.from_run(mixed.parent)
    with pytest.raises(UserError, match="no model 'dpo'; it has: grpo_curriculum, sft"):
        Policy.from_run(run, "dpo")
    policy = Policy.from_pretrained(mixed, **SHORT)
    with pytest.raises(UserError, match="there is no agent 'coder'; did you mean codesteer"):
        policy.requests(["a"], agent="coder")
    with pytest.raises(UserError, match="a question is a text or an Example"):
        policy.requests([7])  # type: ignore[list-item]
    with pytest.raises(AttributeError, match="no attribute 'Polcy'"):
        r1ci_jax.Polcy  # type: ignore  # noqa: B018
