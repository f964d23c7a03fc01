"""Prompts of the policy. The paper's wording is not published; this is ours."""

from collections.abc import Mapping
from typing import Literal, get_args

INSTRUCTIONS = """\
Solve the problem below. Think step by step.

Whenever exact computation, search or checking would help, you may write a Python script:
```python
# one complete script; print what you need to see
```
Each script is run as soon as you close the block, in a fresh process that remembers nothing of \
earlier scripts, and what it prints is appended after the line "Code Execution Results:". Errors \
and time-outs are shown there too. Then go on: use the result, mend the script, check the answer \
with another script, or reason on in words. Text and code may alternate as the problem needs.

When you are sure, give the final answer once, outside code, between triple angle brackets: \
<<<answer>>>. Put nothing but the answer between them, in the form that the problem asks for.

Problem:
"""
"""Instructions before the question for pretrained models; the toy model learns from examples."""

AgentName = Literal["code_agent", "all_text", "all_code", "codesteer"]
AGENT_NAMES: tuple[AgentName, ...] = get_args(AgentName)
"""Agents of the paper's Table 2; rollout/agents.py implements them."""

HINTS: Mapping[str, str] = {
    "code_agent": "",
    "codesteer": "",
    "all_text": "\nAnswer without code.",
    "all_code": "\nAnswer with code.",
}
"""Each agent appends its text to the question."""

CHECK_MESSAGE = "Check the answer with code."
"""CodeSteer's second user message; the answer that follows it counts."""


def render_question(question: str, agent: str, *, instructions: str = "") -> str:
    """Return the first user message; pretrained models get `INSTRUCTIONS`, others none."""
    return instructions + question + HINTS[agent]
