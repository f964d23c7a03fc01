"""Agents are small: the four of the paper, and the one of CONTRIBUTING.md as it stands there."""

import inspect
from pathlib import Path

import pytest

from r1ci_jax.rollout import agents
from r1ci_jax.rollout.trajectory import StopReason
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
    # The policy of the test answers behind what ends like that.
    script = {**CODE_THEN_ANSWER, "\n": {"```": 1.0}, "!\n": "<<<"}
    (trajectory,) = world.runner(script, sandbox).run([request(agent=agent)])
    given = [t for t, own in zip(trajectory.tokens, trajectory.sampled, strict=True) if not own]
    shown = world.tokenizer.decode(given)
    assert agent.hint in shown and shown.endswith("\nprint('ok!'): seven!\n")
    assert (trajectory.stop, trajectory.answer) == (StopReason.ANSWER, "7")
    assert sandbox.codes == [] and trajectory.code_calls == () and trajectory.agent == "look_up"


@pytest.mark.parametrize("agent", agents.AGENTS, ids=lambda agent: agent.name)
def test_the_papers_agents_are_short(agent: agents.Agent) -> None:
    assert len(inspect.getsource(type(agent)).splitlines()) < 80
