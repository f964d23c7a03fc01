"""Scripts and requests that the tests of rollouts share; see conftest.py for what a script is."""

import itertools

from r1ci_jax.config import SamplingParams
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.trajectory import RolloutId
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.tasks.base import Example

EOS = "<|im_end|>"
ANSWER = {"<<<": "7", "7": ">>>"}
CODE = {
    "```": "python", "python": " \n", " \n": "print", "print": "('", "('": "ok", "ok": "!')\n",
    "!')\n": "``", "``": "`",
}  # fmt: skip
CODE_TEXT = "print('ok!')\n"
ONLY_ANSWER = {"\n": "<<<", **ANSWER}
ONLY_EOS = {"\n": EOS}
ONLY_CODE = {"\n": "```", "!\n": "```", **CODE}
CODE_THEN_ANSWER = {"\n": "```", "!\n": "<<<", **CODE, **ANSWER}
ENDLESS = {"\n": "a", "a": "b", "b": "a"}
MIXED = {
    # Any number of scripts, two scripts to choose from, right and wrong answers, and no answer.
    "\n": {"```": 0.5, "<<<": 0.3, EOS: 0.2},
    "!\n": {"```": 0.4, "<<<": 0.5, EOS: 0.1},
    **CODE,
    "('": {"ok": 0.5, "no": 0.5},
    "no": "!')\n",
    "<<<": {"7": 0.5, "8": 0.3, "9": 0.2},
    **dict.fromkeys("789", ">>>"),
}
ENDING, CODING = "TeRmInatE", "coDE"
"""Words of a guide, spelled so that each letter has one successor: capitals do not matter."""
GUIDED = {
    # Scripts, answers and words of a guide; no answer at times.
    "\n": {"```": 0.25, "<<<": 0.65, EOS: 0.1},
    "!\n": {"```": 0.3, "<<<": 0.6, EOS: 0.1},
    **CODE,
    "('": {"ok": 0.5, "no": 0.5},
    "no": "!')\n",
    "<<<": {"7": 0.5, "8": 0.26, "T": 0.12, "c": 0.12},
    **dict(itertools.pairwise(ENDING)),
    **dict(itertools.pairwise(CODING)),
    **dict.fromkeys("78E", ">>>"),
}

EXAMPLE = Example(
    id="toy_arithmetic/d1/s0/0",
    task="toy_arithmetic",
    question="Compute 3+4.",
    answer="7",
    difficulty=1,
    metadata='{"expression": "3+4"}',
)
CODE_AGENT = agents.CodeAgent()


def request(
    group_id: int = 0,
    sample_index: int = 0,
    *,
    agent: agents.Agent = CODE_AGENT,
    temperature: float = 1.0,
    question: str = EXAMPLE.question,
) -> Request:
    example = Example(**{**vars(EXAMPLE), "question": question})
    return Request(
        example=example,
        agent=agent,
        rollout_id=RolloutId(group_id, sample_index),
        sampling=SamplingParams(temperature=temperature),
    )


def ragged(count: int) -> list[Request]:
    """Requests with prompts of different lengths."""
    return [
        request(number, number % 3, question="Compute 3+4." + " Please." * (number % 5))
        for number in range(count)
    ]


def echo(code: str) -> ExecResult:
    """What the interpreter would print for the scripts of these tests."""
    return ExecResult(status=Status.OK, stdout=code.partition("'")[2].partition("'")[0] + "\n")
