"""Agents are small: the four of the paper, and the one of CONTRIBUTING.md as it is there."""

import dataclasses
import inspect
from pathlib import Path

import pytest

from r1ci_jax.config import DemonstrationConfig
from r1ci_jax.data import demonstrations
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.text import prompts
from tests.rollout.scripts import CODE_THEN_ANSWER, request

ROOT = Path(__file__).parents[2]


def test_the_agent_of_contributing_uses_its_tool(world, printing) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (source,) = [
        part.split("```")[0] for part in text.split("```python\n")[1:] if "# my_agent.py" in part
    ]
    assert len(source.splitlines()) < 40
    module: dict = {"__name__": "my_agent"}
    exec(compile(source, "my_agent.py", "exec"), module)  # our own documentation
    sandbox = printing("never asked")
    agent = module["LookUp"]({"print('ok!')": "seven!"})
    # The policy of the test answers after text that ends like that.
    script = {**CODE_THEN_ANSWER, "\n": {"```": 1.0}, "!\n": "<<<"}
    (trajectory,) = world.runner(script, sandbox).run([request(agent=agent)])
    context = [t for t, own in zip(trajectory.tokens, trajectory.sampled, strict=True) if not own]
    shown = world.tokenizer.decode(context)
    assert agent.hint in shown and shown.endswith("\nprint('ok!'): seven!\n")
    assert (trajectory.stop, trajectory.answer) == (StopReason.ANSWER, "7")
    assert sandbox.codes == [] and trajectory.code_calls == () and trajectory.agent == "look_up"


@pytest.mark.parametrize("agent", agents.AGENTS, ids=lambda agent: agent.name)
def test_the_papers_agents_are_short(agent: agents.Agent) -> None:
    assert len(inspect.getsource(type(agent)).splitlines()) < 80


def test_the_names_of_the_agents_agree_everywhere() -> None:
    names = {agent.name for agent in agents.AGENTS}
    assert len(names) == len(agents.AGENTS)
    assert names == set(prompts.AGENT_NAMES) == set(prompts.HINTS) == set(demonstrations.AGENTS)
    assert names <= {field.name for field in dataclasses.fields(DemonstrationConfig)}
    assert [agents.get(name).name for name in prompts.AGENT_NAMES] == list(prompts.AGENT_NAMES)
