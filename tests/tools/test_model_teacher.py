"""Rejection sampling from a model: what is kept is right, distinct, limited, and resumed."""

import dataclasses
import itertools
import pathlib

import pytest

from r1ci_jax.config import DatasetConfig, ObservationRule, TurnLimits
from r1ci_jax.data import encoding, external_demonstrations
from r1ci_jax.data.external import selection
from r1ci_jax.data.external.selection import Made, Rejection, Selection
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.runtime import metrics
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import prompts, protocol
from r1ci_jax.tools.synth import model_teacher
from r1ci_jax.tools.synth.model_teacher import ModelTeacher
from r1ci_jax.tools.synth.model_teacher_config import ModelTeacherConfig
from tests.rollout.conftest import StandIn, World, prints
from tests.rollout.scripts import (
    CODE_THEN_ANSWER,
    ENDLESS,
    EXAMPLE,
    GUIDED,
    MIXED,
    ONLY_ANSWER,
    ONLY_CODE,
    ONLY_EOS,
    echo,
    request,
)

LIMITS = TurnLimits(max_code_calls=3, max_new_tokens=60, max_observation_tokens=40)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def questions(count: int) -> list[Example]:
    """The same question, asked with more and more courtesy."""
    return [
        Example(
            **{
                **vars(EXAMPLE),
                "id": f"toy_arithmetic/d1/s0/{number}",
                "question": EXAMPLE.question + " Please." * number,
            }
        )
        for number in range(count)
    ]


def teach(runner: Runner, path: pathlib.Path, most: int = 70, **settings) -> Made:
    config = ModelTeacherConfig(**{"samples_per_question": 6, **settings})
    teacher = ModelTeacher(runner=runner, config=config, path=path)
    return teacher.teach(questions(8), Selection(most))


def test_correct_trajectories_are_kept_and_can_be_trained_on(
    world: World, tmp_path: pathlib.Path
) -> None:
    made = teach(world.runner(MIXED, StandIn(echo)), tmp_path / "samples.jsonl")
    assert made.demonstrations and made.rejected[Rejection.WRONG]
    for kept in made.demonstrations:
        for before, after in zip(kept.segments, kept.segments[1:], strict=False):
            if after.role == "observation":
                result = echo(protocol.last_code(before.text) or "")
                assert after.text == protocol.observation(result)
                assert before.sampled == (result.status is Status.OK)
        assert protocol.final_answer(kept.segments[-1].text) == "7"
    counts = {each.example_id for each in made.demonstrations}
    assert len(counts) == len(made.demonstrations)  # one of each question
    out = tmp_path / "made.jsonl"
    selection.write(out, made.demonstrations)
    found = external_demonstrations.read(str(out), DatasetConfig(tasks=("toy_arithmetic",)))
    external_demonstrations.validate_against(str(out), found, questions(8))
    external_demonstrations.validate_by_execution(str(out), found, StandIn(echo))


def test_temperatures_go_round_and_solved_questions_are_left_alone(
    world: World, tmp_path: pathlib.Path
) -> None:
    seen: list[tuple[str, int, float]] = []

    class Noted(Runner):
        def run_batches(self, batches, **rest):
            noted = []
            for batch in batches:
                seen.extend(
                    (each.example.id, each.rollout_id.sample_index, each.sampling.temperature)
                    for each in batch
                )
                noted.append(batch)
            yield from super().run_batches(noted, **rest)

    runner = world.runner(MIXED, StandIn(echo))
    runner.__class__ = Noted
    made = teach(runner, tmp_path / "samples.jsonl", temperatures=(0.6, 1.0, 1.2))
    assert {sample: t for _, sample, t in seen}.items() <= dict(
        enumerate((0.6, 1.0, 1.2) * 2)
    ).items()
    for kept in made.demonstrations:
        samples = [sample for name, sample, _ in seen if name == kept.example_id]
        assert samples == list(range(len(samples)))
    unsolved = {each.id for each in questions(8)} - {e.example_id for e in made.demonstrations}
    for name in unsolved:
        assert sum(each == name for each, _, _ in seen) == 6


def test_a_task_has_enough_and_scripts_are_distinct(world: World, tmp_path: pathlib.Path) -> None:
    made = teach(world.runner(ONLY_ANSWER), tmp_path / "1.jsonl", most=3)
    assert len(made.demonstrations) == 3 and made.rejected == {Rejection.ENOUGH: 5}
    made = teach(world.runner(CODE_THEN_ANSWER), tmp_path / "2.jsonl", samples_per_question=2)
    assert len(made.demonstrations) == 1 and set(made.rejected) == {Rejection.DUPLICATE}


def test_an_interrupted_run_continues_and_gives_the_same(
    world: World, tmp_path: pathlib.Path
) -> None:
    whole = teach(world.runner(MIXED, StandIn(echo)), tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:11]) + lines[11][:30])
    again = teach(world.runner(MIXED, StandIn(echo)), tmp_path / "cut.jsonl")
    assert again == whole
    assert (tmp_path / "cut.jsonl").read_text() == "".join(lines)
    # A finished one samples nothing.
    assert teach(world.runner(ENDLESS), tmp_path / "cut.jsonl") == whole
    records = metrics.read(tmp_path / "cut.jsonl")
    with metrics.JsonlLog(tmp_path / "other.jsonl") as log:
        log.append(records[0] | {"rejection": "NO_SUCH"})
    with pytest.raises(UserError, match="of another version"):
        teach(world.runner(MIXED, StandIn(echo)), tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    ("script", "agent", "reason"),
    [
        (ENDLESS, agents.CodeAgent(), Rejection.CUT_OFF),
        (ONLY_EOS, agents.CodeAgent(), Rejection.NO_ANSWER),
        (ONLY_CODE, agents.CodeAgent(), Rejection.MANY_SCRIPTS),
        (ONLY_CODE, agents.AllText(), Rejection.UNFINISHED_TURN),
        (ONLY_CODE, agents.AllCode(), Rejection.WRONG),
    ],
)
def test_what_is_no_demonstration_has_its_reason(
    world: World, script, agent: agents.Agent, reason: Rejection
) -> None:
    (trajectory,) = world.runner(script, limits=LIMITS).run([request(agent=agent)])
    assert model_teacher.demonstrate(EXAMPLE, trajectory, world.tokenizer, {}) is reason


def test_every_agent_of_the_paper_gives_demonstrations(world: World) -> None:
    made = {}
    for agent in agents.AGENTS:
        printed = "7\n" if agent.name == "all_code" else "ok!\n"
        box = prints(printed)
        script = ONLY_ANSWER if agent.name in ("all_text", "codesteer") else CODE_THEN_ANSWER
        (trajectory,) = world.runner(script, box).run([request(agent=agent)])
        made[agent.name] = model_teacher.demonstrate(EXAMPLE, trajectory, world.tokenizer, {})
        assert not isinstance(made[agent.name], Rejection) and made[agent.name].correct
    assert [s.role for s in made["codesteer"].segments] == ["assistant", "user", "assistant"]
    assert made["all_code"].segments[-1].text == "<<<7>>>"


def contexts(trajectory: Trajectory) -> list[list[int]]:
    """What the policy read before each of its turns."""
    pairs = zip(trajectory.tokens, trajectory.sampled, strict=True)
    return [
        [token for token, _ in members]
        for sampled, members in itertools.groupby(pairs, key=lambda pair: pair[1])
        if not sampled
    ]


@pytest.mark.parametrize("rule", ["clip", "replace"])
@pytest.mark.parametrize("agent", [agents.CodeAgent(), agents.CodeSteer()], ids=lambda a: a.name)
@pytest.mark.parametrize("is_guided", [False, True])
def test_a_demonstration_is_encoded_as_the_rollout_read_it(
    world: World, agent: agents.Agent, rule: ObservationRule, is_guided: bool
) -> None:
    """Up to the answer that is learned: a guide that lets it stand is left out."""
    limits = dataclasses.replace(
        LIMITS, max_new_tokens=120, max_observation_tokens=60, observation_rule=rule
    )
    instructions = {prompts.GUIDE: prompts.CHECK_MESSAGE} if is_guided else {}
    box = StandIn(lambda code: ExecResult(status=Status.OK, stdout="ok" * 40 * ("no" in code)))
    # Whatever is shown ends in a line feed, as the marks before the policy's turn do.
    script = {**GUIDED, **dict.fromkeys(("!\n", ")\n", "ok\n"), GUIDED["\n"])}
    script = {key: value for key, value in script.items() if world.has_token(key)}
    runner = world.runner(script, box, limits=limits, cache_length=600)
    runner.instructions = instructions
    requests = [request(number, agent=agent) for number in range(40)]
    checked, shortened, guided = 0, 0, 0
    for each in runner.run(requests):
        made = model_teacher.demonstrate(EXAMPLE, each, world.tokenizer, instructions)
        if isinstance(made, Rejection):
            continue
        ids = encoding.encode(made, world.tokenizer, limits=limits).tokens_T.tolist()
        assert world.tokenizer.decode(each.tokens).startswith(world.tokenizer.decode(ids[:-1]))
        # The policy may sample its words in other tokens; what it reads is the same to the token.
        for context in contexts(each)[: 1 + len(made.segments) // 2]:
            assert any(ids[at : at + len(context)] == context for at in range(len(ids)))
        checked += 1
        shortened += any("no" in call.code for call in each.code_calls)
        guided += len(each.guide_starts) > 1
    assert checked > 4 and shortened > 0
    assert (guided > 0) is (is_guided and agent.name == "codesteer")


def test_a_fault_of_the_sandbox_is_nobodys(world: World) -> None:
    box = StandIn(lambda code: ExecResult(status=Status.INFRA_ERROR))
    (trajectory,) = world.runner(CODE_THEN_ANSWER, box).run([request()])
    offered = model_teacher.demonstrate(EXAMPLE, trajectory, world.tokenizer, {})
    assert offered is Rejection.SANDBOX_FAULT


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match=r"teacher\.agents"):
        ModelTeacherConfig(agents=("gpt",))
    with pytest.raises(UserError, match=r"teacher\.top_p"):
        ModelTeacherConfig(top_p=0.0)
