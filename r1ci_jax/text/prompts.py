"""What the policy is told, as data. The paper's own wording is not published; this is ours."""

from collections.abc import Mapping

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
"""Stands in front of the question for pretrained models; the toy model learns from examples."""

HINTS: Mapping[str, str] = {
    "code_agent": "",
    "codesteer": "",
    "all_text": "\nAnswer without code.",
    "all_code": "\nAnswer with code.",
}
"""What each way of answering adds to the question."""

CHECK_MESSAGE = "Check the answer with code."
"""CodeSteer's second user turn; the answer that follows it counts."""


def render_question(question: str, agent: str, *, instructions: str = "") -> str:
    """Returns the first user turn; `head` is `INSTRUCTIONS` for a pretrained model."""
    return instructions + question + HINTS[agent]
