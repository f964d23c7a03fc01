"""The instructions of an agent promise what that agent does, and nothing else."""

import pytest

from r1ci_jax.rollout import agents
from r1ci_jax.text import prompts, protocol

CODE = agents.ModelTurn(code="print(1)", answer=None, num_answers=0, text="")


def _prompt(agent: agents.Agent) -> str:
    return prompts.render_question("Is 1009 prime?", agent.name, instructions=prompts.INSTRUCTIONS)


@pytest.mark.parametrize("agent", agents.AGENTS, ids=lambda agent: agent.name)
def test_a_prompt_says_what_its_agent_does_with_code(agent: agents.Agent) -> None:
    prompt = _prompt(agent)
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


def test_the_question_is_read_once_and_follows_the_instructions() -> None:
    for agent in agents.AGENTS:
        prompt = _prompt(agent)
        assert prompt.count("Is 1009 prime?") == 1
        assert prompt.startswith(prompts.INSTRUCTIONS[agent.name] + "Is 1009 prime?")
        assert prompts.render_question("Q", agent.name) == "Q" + agent.hint


def test_every_agent_has_instructions_and_an_unknown_one_those_of_the_code_agent() -> None:
    assert set(prompts.INSTRUCTIONS) == set(prompts.AGENT_NAMES)
    code_agent = prompts.INSTRUCTIONS["code_agent"]
    assert prompts.instructions_of("my_agent", prompts.INSTRUCTIONS) == code_agent
    assert prompts.instructions_of("my_agent", prompts.NO_INSTRUCTIONS) == ""
