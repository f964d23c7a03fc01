"""The instructions of an agent promise what that agent does, and nothing else."""

from collections.abc import Mapping

import pytest

from r1ci_jax.rollout import agents
from r1ci_jax.text import prompts, protocol

CODE = agents.ModelTurn(code="print(1)", answer=None, num_answers=0, text="")
BOTH = pytest.mark.parametrize(
    "instructions", [prompts.INSTRUCTIONS, prompts.PAPER_INSTRUCTIONS], ids=["r1ci", "paper"]
)
EACH_AGENT = pytest.mark.parametrize("agent", agents.AGENTS, ids=lambda agent: agent.name)


def _prompt(agent: agents.Agent, instructions: Mapping[str, str]) -> str:
    return prompts.render_question("Is 1009 prime?", agent.name, instructions=instructions)


@EACH_AGENT
def test_a_prompt_says_what_its_agent_does_with_code(agent: agents.Agent) -> None:
    prompt = _prompt(agent, prompts.INSTRUCTIONS)
    action = agent.act(CODE)
    runs_code = isinstance(action, agents.RunCode)
    assert ("Python script" in prompt and protocol.CODE_OPEN.decode() in prompt) is runs_code
    is_continued = isinstance(action, agents.RunCode) and not action.is_answer
    assert (protocol.OBSERVATION_PREFIX in prompt) is is_continued
    assert ("another script" in prompt) is is_continued
    # Where the script's output is the answer, there is nothing to put into answer marks.
    ends_with_the_output = runs_code and not is_continued
    assert ("<<<answer>>>" in prompt) is not ends_with_the_output
    assert ("Everything that it prints is taken as your final answer" in prompt) is (
        ends_with_the_output
    )


@EACH_AGENT
def test_the_papers_prompt_says_what_its_agent_does_with_code(agent: agents.Agent) -> None:
    prompt = _prompt(agent, prompts.PAPER_INSTRUCTIONS)
    action = agent.act(CODE)
    runs_code = isinstance(action, agents.RunCode)
    assert (protocol.CODE_OPEN.decode() in prompt) is runs_code
    assert ("`print`" in prompt) is runs_code and ("single script" in prompt) is runs_code
    is_continued = isinstance(action, agents.RunCode) and not action.is_answer
    assert ("Stop as soon as the script is complete" in prompt) is is_continued
    assert ("write more code" in prompt) is is_continued
    ends_with_the_output = runs_code and not is_continued
    assert ("<<<answer>>> at the end of your response" in prompt) is not ends_with_the_output
    assert ("what it prints is taken as your answer" in prompt) is ends_with_the_output
    assert ("no code to be run" in " ".join(prompt.split())) is (agent.name == "all_text")


@BOTH
def test_the_question_is_read_once_and_follows_the_instructions(
    instructions: Mapping[str, str],
) -> None:
    for agent in agents.AGENTS:
        prompt = _prompt(agent, instructions)
        assert prompt.count("Is 1009 prime?") == 1
        assert prompt.startswith(instructions[agent.name] + "Is 1009 prime?")
        assert prompts.render_question("Q", agent.name) == "Q" + agent.hint


@BOTH
def test_every_agent_has_instructions_and_an_unknown_one_those_of_the_code_agent(
    instructions: Mapping[str, str],
) -> None:
    assert set(instructions) - {prompts.GUIDE} == set(prompts.AGENT_NAMES)
    code_agent = instructions["code_agent"]
    assert prompts.instructions_of("my_agent", instructions) == code_agent
    assert prompts.instructions_of("my_agent", prompts.NO_INSTRUCTIONS) == ""


@BOTH
def test_the_answer_marks_of_the_instructions_are_no_answer(
    instructions: Mapping[str, str],
) -> None:
    for agent in prompts.AGENT_NAMES:
        assert protocol.final_answer(instructions[agent]) is None


def test_the_guide_is_told_every_word_that_decides() -> None:
    guide = prompts.PAPER_INSTRUCTIONS[prompts.GUIDE]
    for word in (prompts.RETURN_ANSWER, prompts.TERMINATE):
        assert f"<<<{word}>>>" in guide and agents.read_guidance(f"<<<{word}>>>") is None
    assert f"<<<{prompts.ASK_FOR_CODE}>>>" in guide
    asked = agents.read_guidance(f"<<<{prompts.ASK_FOR_CODE}>>>")
    assert asked == prompts.CODE_REQUEST
    assert prompts.GUIDE not in prompts.INSTRUCTIONS


@EACH_AGENT
def test_boxed_instructions_differ_by_where_the_answer_stands(agent: agents.Agent) -> None:
    marked, boxed = (
        _prompt(agent, each) for each in (prompts.INSTRUCTIONS, prompts.BOXED_INSTRUCTIONS)
    )
    assert "<<<" not in boxed and prompts.choose("boxed", is_pretrained=True)
    if agent.name == "all_code":
        assert boxed == marked
    else:
        assert "\\boxed{}" in boxed
        assert (
            boxed.partition("\\boxed{}")[0].removesuffix("in ")
            == (marked.partition("between triple")[0])
        )


def test_who_was_told_of_boxes_is_asked_for_one() -> None:
    assert "\\boxed{}" in prompts.answer_request(prompts.BOXED_INSTRUCTIONS)
    for instructions in (prompts.INSTRUCTIONS, prompts.PAPER_INSTRUCTIONS, {}):
        assert prompts.answer_request(instructions) == prompts.ANSWER_REQUEST
