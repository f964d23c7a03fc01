"""Agents are small: the four of the paper, and the one of CONTRIBUTING.md as it is there."""

import dataclasses
import inspect
import itertools
from pathlib import Path

import pytest

from r1ci_jax.config import DemonstrationConfig
from r1ci_jax.data import demonstrations
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.text import prompts
from tests.rollout.scripts import MIXED, request

USING = {**MIXED, " \n": "k", "k": " ", " ": "ok", "ok": "!')\n"}
"""A block asks how often k occurs in ok!')."""


def test_the_agent_of_contributing_uses_its_tool(world, printing, own_modules: Path) -> None:
    assert len((own_modules / "my_agent.py").read_text().splitlines()) < 40
    agent = agents.get("my_agent:Counter")
    assert agents.get("my_agent:Counter") is agent  # one object serves all trajectories
    sandbox = printing("never asked")
    asked = [request(number, agent=agent) for number in range(12)]
    found = world.runner(USING, sandbox).run(asked)
    for each in found:
        sampled = itertools.groupby(zip(each.tokens, each.sampled, strict=True), lambda p: p[1])
        parts = [(own, world.tokenizer.decode([t for t, _ in run])) for own, run in sampled]
        assert not parts[0][0] and agent.hint in parts[0][1]
        # Each block is followed by the tool's text, unless a limit came before it.
        blocks = [(text, after[1]) for (own, text), after in itertools.pairwise(parts) if own]
        assert all(text == "```python \nk ok!')\n```" for text, _ in blocks)
        assert all(after == "\n1\n" for _, after in blocks)
        assert each.code_calls == () and each.agent == "counter"
    assert sandbox.codes == []
    assert any(sum(each.sampled) > 20 and each.stop is StopReason.ANSWER for each in found)


SECOND = """
from r1ci_jax.rollout import agents

class Other(agents.CodeAgent):
    name = "counter"

class Nameless(agents.Agent):
    def act(self, turn):
        raise NotImplementedError

class Table(agents.CodeAgent):
    name = "table"
    def __init__(self, table):
        self.table = table

class Same(agents.CodeAgent):
    pass
"""


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["code_agnet"], "there is no agent 'code_agnet'; did you mean code_agent? choose from"),
        (["my_agnet:Counter"], "there is no module my_agnet for the agent my_agnet:Counter"),
        (["my_agent:Conter"], "has no Conter for the agent; did you mean my_agent:Counter?"),
        (["second:Nameless"], "second:Nameless is no agent: it needs a name, a hint and act"),
        (["second:Table"], "second:Table: TypeError: "),
        (["second:Same"], "second:Same has the name 'code_agent' of another agent"),
        (["my_agent:Counter", "second:Other"], "and my_agent:Counter are both named 'counter'"),
    ],
)
def test_a_wrong_agent_is_one_line(own_modules: Path, places: list[str], message: str) -> None:
    (own_modules / "second.py").write_text(SECOND)
    with pytest.raises(UserError) as caught:
        agents.get_all(places)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("agent", agents.AGENTS, ids=lambda agent: agent.name)
def test_the_papers_agents_are_short(agent: agents.Agent) -> None:
    assert len(inspect.getsource(type(agent)).splitlines()) < 80


def test_the_names_of_the_agents_agree_everywhere() -> None:
    names = {agent.name for agent in agents.AGENTS}
    assert len(names) == len(agents.AGENTS)
    assert names == set(prompts.AGENT_NAMES) == set(prompts.HINTS) == set(demonstrations.AGENTS)
    assert names <= {field.name for field in dataclasses.fields(DemonstrationConfig)}
    assert [agents.get(name).name for name in prompts.AGENT_NAMES] == list(prompts.AGENT_NAMES)
