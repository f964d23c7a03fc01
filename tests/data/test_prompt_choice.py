"""model.prompts: a demonstration begins as a rollout does, and goes on as one does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.config import DatasetConfig, Experiment, ModelConfig
from r1ci_jax.data import build, datasets, encoding, external_demonstrations, scripted_teacher
from r1ci_jax.data.demonstrations import Demonstration, Segment, send_back
from r1ci_jax.data.external import selection
from r1ci_jax.data.external.selection import Rejection, Selection, Turn
from r1ci_jax.data.scripted import lengths
from r1ci_jax.data.scripted.scripted_teachers import ScriptedTeachers
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.trajectory import RolloutId
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import prompts
from tests.rollout.conftest import World
from tests.rollout.scripts import EXAMPLE, ONLY_ANSWER

CHOICES = {
    "none": prompts.NO_INSTRUCTIONS,
    "r1ci": prompts.INSTRUCTIONS,
    "paper": prompts.PAPER_INSTRUCTIONS,
}
EACH_CHOICE = pytest.mark.parametrize("choice", CHOICES)


def experiment(**model: Any) -> Experiment:
    return Experiment(
        name="tiny", dataset=DatasetConfig(tasks=("letters",)), model=ModelConfig(**model)
    )


def test_the_setting_chooses_and_its_default_depends_on_the_model() -> None:
    for choice, expected in CHOICES.items():
        for checkpoint in ("", "anywhere"):
            chosen = experiment(prompts=choice, checkpoint=checkpoint)
            assert build.instructions(chosen) is expected
    assert build.instructions(experiment()) is prompts.NO_INSTRUCTIONS
    assert build.instructions(experiment(checkpoint="anywhere")) is prompts.INSTRUCTIONS
    with pytest.raises(UserError, match=r"model.prompts must be one of auto, none, r1ci, paper"):
        experiment(prompts="ours")


@pytest.fixture(scope="module")
def examples(questions: DatasetConfig, data_dir: Path) -> list[Example]:
    return list(datasets.load_examples(data_dir, questions.tasks, "sft"))


def of_toy(
    examples: list[Example], interpreter: Any, instructions: Mapping[str, str]
) -> list[Demonstration]:
    return scripted_teacher.write_demonstrations(
        examples, interpreter, seed=3, instructions=instructions
    )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@EACH_CHOICE
def test_a_demonstration_begins_with_the_prompt_of_the_rollout(
    choice: str, examples: list[Example], interpreter: Any, world: World
) -> None:
    instructions = CHOICES[choice]
    runner = world.runner(ONLY_ANSWER, slots=1, prefill_rows=1, cache_length=4096)
    runner.instructions = instructions
    known = {example.id: example for example in examples}
    shown = of_toy(examples, interpreter, instructions)
    for each in shown:
        row = encoding.encode(each, world.tokenizer)
        example, agent = known[each.example_id], agents.get(each.agent)
        episode = runner.new_episode(
            Request(example=example, agent=agent, rollout_id=RolloutId(0, 0))
        )
        assert row.tokens_T.tolist()[: len(episode.tokens)] == episode.tokens
        assert row.sampled_T.tolist().index(True) >= len(episode.tokens)
    assert {each.agent for each in shown} == set(prompts.AGENT_NAMES)


def test_a_guides_turn_is_shown_and_not_learned(examples: list[Example], interpreter: Any) -> None:
    plain = of_toy(examples, interpreter, prompts.INSTRUCTIONS)
    shown = of_toy(examples, interpreter, prompts.PAPER_INSTRUCTIONS)
    guided = 0
    for each, without in zip(shown, plain, strict=True):
        if each.agent != "codesteer":
            assert each.segments == without.segments
            continue
        guided += 1
        answer, message, *rest = without.segments
        guide = Segment.from_user(prompts.PAPER_INSTRUCTIONS[prompts.GUIDE])
        says = Segment.masked("<<<Check the answer with code.>>>")
        assert each.segments == (answer, guide, says, message, *rest)
        assert agents.read_guidance(says.text) == message.text
        assert lengths.ESTIMATE.length(each) == (
            lengths.ESTIMATE.length(without) + lengths.ESTIMATE.count(says.text)
        )
    assert guided > 0


def test_the_file_of_a_guided_teacher_is_what_a_run_reads(interpreter: Any, tmp_path: Path) -> None:
    task = registry.get("number_multiply")
    asked = [task.generate(index, 5, 1) for index in range(30)]
    source = ScriptedTeachers(sandbox=interpreter, seed=1, instructions=prompts.PAPER_INSTRUCTIONS)
    made = source.teach(asked, Selection(70)).demonstrations
    path = tmp_path / "made.jsonl"
    selection.write(path, made)
    questions = DatasetConfig(tasks=("number_multiply",))
    found = external_demonstrations.read(str(path), questions)
    assert [*found.values()] == [*made]
    external_demonstrations.validate_against(str(path), found, asked)
    assert any(each.agent == "codesteer" for each in made)
    for each in made:
        agent = each.agent
        assert each.prompt.startswith(prompts.PAPER_INSTRUCTIONS[agent])


# --- Trajectories of others ---


def sent_back(reply: str, instructions: Mapping[str, str]) -> Demonstration | Rejection:
    turns = [Turn(text="<<<7>>>", reply=reply), Turn(text="<<<7>>>")]
    return selection.demonstration(EXAMPLE, turns, instructions=instructions)


def test_what_a_user_said_becomes_the_guides_words() -> None:
    made = sent_back("Are you sure?", prompts.PAPER_INSTRUCTIONS)
    assert isinstance(made, Demonstration) and made.agent == "codesteer"
    assert made.segments == (
        Segment.learned("<<<7>>>"),
        *send_back("Are you sure?", prompts.PAPER_INSTRUCTIONS),
        Segment.learned("<<<7>>>"),
    )
    plain = sent_back("Are you sure?", prompts.INSTRUCTIONS)
    assert isinstance(plain, Demonstration)
    assert plain.segments[1] == Segment.from_user("Are you sure?")


@pytest.mark.parametrize("reply", ["not <<<8>>>?", "run ```python\n1\n``` first", "a >>> b", "<7"])
def test_what_a_guide_cannot_say_makes_no_demonstration(reply: str) -> None:
    assert sent_back(reply, prompts.PAPER_INSTRUCTIONS) is Rejection.BAD_FORMAT
    assert isinstance(sent_back(reply, prompts.INSTRUCTIONS), Demonstration)
