"""Prompts of the policy. The paper's wording is not published; this is ours."""

from collections.abc import Mapping
from typing import Literal, get_args

AgentName = Literal["code_agent", "all_text", "all_code", "codesteer"]
AGENT_NAMES: tuple[AgentName, ...] = get_args(AgentName)
"""Agents of the paper's Table 2; rollout/agents.py implements them."""

_ANSWER = """\
between triple angle brackets: <<<answer>>>. Put nothing but the answer between them, in the form \
that the problem asks for.

Problem:
"""

_TEXT_AND_CODE = f"""\
Solve the problem below. Think step by step.

Whenever exact computation, search or checking would help, you may write a Python script:
```python
# one complete script; print what you need to see
```
Each script is run as soon as you close the block, in a fresh process that remembers nothing of \
earlier scripts, and what it prints is appended after the line "Code Execution Results:". Errors \
and time-outs are shown there too. Then go on: use the result, mend the script, check the answer \
with another script, or reason on in words. Text and code may alternate as the problem needs.

When you are sure, give the final answer once, outside code, {_ANSWER}"""

_TEXT_ONLY = f"""\
Solve the problem below in words alone. Think step by step.

When you are sure, give the final answer once, {_ANSWER}"""

_CODE_ONLY = """\
Solve the problem below with one complete Python script:
```python
# print the answer and nothing else
```
The script is run once, as soon as you close the block. Everything that it prints is taken as your \
final answer: you neither see the output nor write anything after it. So print the answer alone, \
in the form that the problem asks for.

Problem:
"""

INSTRUCTIONS: Mapping[str, str] = {
    "code_agent": _TEXT_AND_CODE,
    "codesteer": _TEXT_AND_CODE,
    "all_text": _TEXT_ONLY,
    "all_code": _CODE_ONLY,
}
"""Instructions before the question for pretrained models, by agent: each says what that agent does
with code and answers. The toy model has none; it learns from examples."""

NO_INSTRUCTIONS: Mapping[str, str] = {}
"""Instructions of a model that is trained from scratch."""

HINTS: Mapping[str, str] = {
    "code_agent": "",
    "codesteer": "",
    "all_text": "\nAnswer without code.",
    "all_code": "\nAnswer with code.",
}
"""Each agent appends its text to the question."""

CHECK_MESSAGE = "Check the answer with code."
"""CodeSteer's second user message; the answer that follows it counts."""


def instructions_of(agent: str, instructions: Mapping[str, str]) -> str:
    """Return the text before an agent's questions; a user's own agent has the Code Agent's."""
    return instructions.get(agent, instructions.get("code_agent", ""))


def render_question(
    question: str, agent: str, *, instructions: Mapping[str, str] = NO_INSTRUCTIONS
) -> str:
    """Return the first user message; pretrained models get `INSTRUCTIONS`, others none."""
    return instructions_of(agent, instructions) + question + HINTS[agent]
