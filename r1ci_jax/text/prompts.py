"""Prompts of the policy, and of CodeSteer's guide: ours, and the paper's in our words.

The paper's Table 1 is not published as text. What is known of it stands, word for word, in the
re-typed prompts of TUMIX (arXiv 2510.01279, same first author): its Code Agent has the sentence on
the single script that an independent note on the paper quotes. The prompts of All Text and All Code
there are those of CodeSteer (arXiv 2502.04350), whose repository also has the guide's. `paper` says
what those say, in the same order, in words of our own; that it is the paper's is an inference.

CodeSteer's guide also gets the verdict of a checking script and a complexity score of the code, and
chooses between text and code before the first answer. Ours has neither, and sees the conversation.
"""

from collections.abc import Mapping
from typing import Final, get_args

from r1ci_jax.config import EvalPromptChoice
from r1ci_jax.grpo_config import AgentName

AGENT_NAMES: tuple[AgentName, ...] = get_args(AgentName)
"""Names of all agents."""

GUIDE: Final = "guide"
"""Key of the guide's prompt among the instructions, beside the names of the agents."""

_MARKED = """\
between triple angle brackets: <<<answer>>>. Put nothing but the answer between them, in the form \
that the problem asks for.

Problem:
"""

_BOXED = """\
in \\boxed{}. Put nothing but the answer in the box, in the form that the problem asks for.

Problem:
"""

_TEXT_AND_CODE = """\
Solve the problem below. Think step by step.

Whenever exact computation, search or checking would help, you may write a Python script:
```python
# one complete script; print what you need to see
```
Each script is run as soon as you close the block, in a fresh process that remembers nothing of \
earlier scripts, and what it prints is appended after the line "Code Execution Results:". Errors \
and time-outs are shown there too. Then go on: use the result, mend the script, check the answer \
with another script, or reason on in words. Text and code may alternate as the problem needs.

When you are sure, give the final answer once, outside code, """

_TEXT_ONLY = """\
Solve the problem below in words alone. Think step by step.

When you are sure, give the final answer once, """

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
    "code_agent": _TEXT_AND_CODE + _MARKED,
    "codesteer": _TEXT_AND_CODE + _MARKED,
    "all_text": _TEXT_ONLY + _MARKED,
    "all_code": _CODE_ONLY,
}
"""Our instructions before the question, by agent: each says what that agent does with code and
answers. CodeSteer has no guide in them: one fixed sentence sends the first answer back."""

REQUEST: Final = "answer_request"
"""Key of the request for a missing answer among the instructions, where it is not ours."""

BOXED_INSTRUCTIONS: Mapping[str, str] = {
    "code_agent": _TEXT_AND_CODE + _BOXED,
    "codesteer": _TEXT_AND_CODE + _BOXED,
    "all_text": _TEXT_ONLY + _BOXED,
    "all_code": _CODE_ONLY,
    REQUEST: "Write the final answer to the problem again, in \\boxed{}, and nothing else.",
}
"""Our instructions for a model that was not trained here: published ones know LaTeX's box. Small
ones copy the word between our marks, and a repetition penalty makes the closing mark unlikely."""

_PAPER_HEAD = """\
A user asks a question, and you solve it: first reason and think, then give the user the final \
answer.

While you think, you may write Python code that searches, optimizes or computes efficiently. Open \
its block with ```python. A block must be one single script that shows its results with `print`. \
Stop as soon as the script is complete: the code interpreter then runs it, and returns to you what \
it prints and its errors.

As soon as you are ready, give the final answer directly as <<<answer>>> at the end of your \
response. Until then go on with your reasoning, and write more code where it helps.

Question:
"""

_PAPER_TEXT_ONLY = """\
Go through the question step by step, and list all the points that need care. Then work towards \
the final answer step by step, and give it as <<<answer>>> at the end of your response. Write no \
code to be run.

Question:
"""

_PAPER_CODE_ONLY = """\
Solve the question by your skill in Python. If it helps, first lay out your plan and your steps in \
words. Then write one block of code and no other, as one single script; open it with ```python. \
It is run, and what it prints is taken as your answer. So the last `print` must show each number \
or choice of the answer, in the form that the question asks for.

Question:
"""

RETURN_ANSWER: Final = "Return Answer"
"""The guide writes it between answer marks to let the last answer stand."""
TERMINATE: Final = "Terminate"
"""The guide writes it when further attempts would not help; the last answer stands as well."""
ASK_FOR_CODE: Final = "Code"
"""The guide writes it to have the question answered by code."""

_PAPER_GUIDE = f"""\
Now act as the guide, and do not solve the question yourself. Look again at the question, and at \
all answers, code and outputs so far. Does the last answer meet every condition of the question? \
Does the code search or compute in earnest, or does it only print what had been guessed?
- To improve the answer or the code, write what the next attempt must do: <<<guidance>>>.
- To have the question answered by code: <<<{ASK_FOR_CODE}>>>.
- If the last answer is right: <<<{RETURN_ANSWER}>>>.
- If further attempts would not help: <<<{TERMINATE}>>>.
End with exactly one of these."""

PAPER_INSTRUCTIONS: Mapping[str, str] = {
    "code_agent": _PAPER_HEAD,
    "codesteer": _PAPER_HEAD,
    "all_text": _PAPER_TEXT_ONLY,
    "all_code": _PAPER_CODE_ONLY,
    GUIDE: _PAPER_GUIDE,
}
"""The paper's instructions in our words, and the prompt of CodeSteer's guide."""

NO_INSTRUCTIONS: Mapping[str, str] = {}
"""Instructions of a model that learns from demonstrations alone what to do."""

HINTS: Mapping[str, str] = {
    "code_agent": "",
    "codesteer": "",
    "all_text": "\nAnswer without code.",
    "all_code": "\nAnswer with code.",
}
"""Each agent appends its text to the question."""

CHECK_MESSAGE = "Check the answer with code."
"""User message that sends CodeSteer's first answer back where there is no guide; the scripted
teachers' guide says it too."""
ANSWER_REQUEST = (
    "Write the final answer to the problem again, and nothing else. Put <<< before it and >>> "
    "behind it."
)
"""User message to a model that ended its message without an answer (`eval.ask_for_answer`). It
shows neither a placeholder nor an example: small models copy them."""
CODE_REQUEST = "Answer the question again: write one Python script that computes the answer."
"""User message where the guide asks for code."""


def choose(choice: EvalPromptChoice, *, is_pretrained: bool) -> Mapping[str, str]:
    """Return the instructions that `model.prompts` names; `auto` depends on the model.

    Only `r1ci eval` has `boxed`: a reward counts no answer but that between the marks.
    """
    match choice:
        case "auto":
            return INSTRUCTIONS if is_pretrained else NO_INSTRUCTIONS
        case "none":
            return NO_INSTRUCTIONS
        case "r1ci":
            return INSTRUCTIONS
        case "boxed":
            return BOXED_INSTRUCTIONS
        case "paper":
            return PAPER_INSTRUCTIONS


def instructions_of(agent: str, instructions: Mapping[str, str]) -> str:
    """Return the text before an agent's questions; a user's own agent has the Code Agent's."""
    return instructions.get(agent, instructions.get("code_agent", ""))


def answer_request(instructions: Mapping[str, str]) -> str:
    """Return the message to a model that ended its message without an answer."""
    return instructions.get(REQUEST, ANSWER_REQUEST)


def render_question(
    question: str, agent: str, *, instructions: Mapping[str, str] = NO_INSTRUCTIONS
) -> str:
    """Return the first user message: instructions, question and the agent's hint."""
    return instructions_of(agent, instructions) + question + HINTS[agent]
