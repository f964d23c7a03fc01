"""Self-checks are found by rules: against labels by hand, rule by rule, and on hostile scripts.

Of the 30 labelled trajectories 16 have a self-check. The rules find 14 of them and nothing else:
precision 1.00, recall 0.88. They miss an assert about a number that was never printed, and the same
result computed anew without a word. On 1,761 demonstrations of the scripted teachers with two or
more scripts, labelled by their kind, precision is 0.95 and recall 0.88.
"""

import dataclasses
import functools

import pytest

from r1ci_jax.rollout.diagnostics import self_check
from r1ci_jax.rollout.diagnostics.self_check import Script
from r1ci_jax.rollout.trajectory import CodeCall, RolloutId, StopReason, Trajectory
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer
from tests.rollout.diagnostics.self_check_cases import CASES, Case

FIRST = ("", "print(17 * 23)", "391\n")


def call(code: str, stdout: str, status: str = "ok") -> CodeCall:
    return CodeCall(code=code, result=ExecResult(status=Status(status), stdout=stdout))


def scripts(*turns: tuple[str, ...]) -> list[Script]:
    return [Script(words, call(*rest)) for words, *rest in turns]


def found(case: Case) -> bool:
    return any(self_check.find(scripts(*case.turns)))


def test_labels_by_hand_are_met() -> None:
    assert len(CASES) == 30 and len({case.name for case in CASES}) == 30
    hits = sum(found(case) and case.is_self_check for case in CASES)
    precision = hits / sum(map(found, CASES))
    recall = hits / sum(case.is_self_check for case in CASES)
    wrong = [case.name for case in CASES if found(case) != case.is_self_check]
    assert precision >= 0.9 and recall >= 0.85, wrong


@pytest.mark.parametrize(
    ("words", "code", "stdout", "is_check"),
    [
        # Rule 1: it says so.
        ("To verify, another formula:", "print(20**2 - 3**2)", "391\n", True),
        ("", "# double-check\nprint(20**2 - 3**2)", "391\n", True),
        ("", "def verify_it():\n    print(20**2 - 3**2)\nverify_it()", "391\n", True),
        # Rule 2: it tests a stated result.
        ("", "assert 391 % 23 == 0", "", True),
        ("", "print(391 // 17 == 23)", "True\n", True),
        ("", "print(391 + 1)", "392\n", False),  # used, not tested
        ("", "print(17 * 23 == 23 * 17)", "True\n", False),  # no result is stated
        # Rule 3: it speaks of a check, and has to do with the result.
        ("By another method:", "print(sum([17] * 23))", "391\n", True),
        ("By another method:", "print(sum([17] * 22))", "374\n", False),
        ("", "print(sum([17] * 23))", "391\n", False),  # says nothing
    ],
)
def test_each_rule(words: str, code: str, stdout: str, is_check: bool) -> None:
    assert self_check.find(scripts(FIRST, (words, code, stdout))) == [False, is_check]


def test_what_is_never_a_self_check() -> None:
    verified = ("I verify this.", "print(391 % 17 == 0)", "True\n")
    assert self_check.find(scripts(verified)) == [False]  # nothing was there before
    assert self_check.find(scripts(FIRST, (("I confirm."), *FIRST[1:]))) == [False, False]
    failed = ("", "print(17 *)", "", "exception")
    assert self_check.find(scripts(failed, verified)) == [False, False]
    assert self_check.find(scripts(FIRST, failed, verified)) == [False, False, False]
    silent = ("", "x = 391", "\n")
    assert self_check.find(scripts(silent, verified)) == [False, False]
    assert self_check.find([]) == []


def test_a_short_number_is_a_result_only_in_a_short_line() -> None:
    check = ("", "print(3 * 2 == 6)", "True\n")
    in_table = ("", "print(a)", "0 1 2 3 4 5 6 7\n")
    assert self_check.find(scripts(in_table, check)) == [False, False]
    assert self_check.find(scripts(("", "print(a)", "Answer: 6\n"), check)) == [False, True]


HOSTILE = {
    "nested brackets": "(" * 5_000,
    "nested lists": "[" * 3_000 + "]" * 3_000,
    "minus signs": "-" * 7_900 + "1",
    "nots": "not " * 1_900 + "1",
    "a long sum": "+".join(["1"] * 3_900),
    "a long chain of calls": "f" + "()" * 3_900,
    "attributes": "a" + ".b" * 3_900,
    "powers": "**".join(["1"] * 2_600),
    "lambdas": "lambda:" * 1_100 + "1",
    "elses": "1 if 1 else " * 650 + "1",
    "null bytes": "print(1)\0",
    "half characters": "print('\ud800')",
    "a huge number": "print(" + "9" * 7_000 + ")",
    "a huge hexadecimal number": "print(0x" + "f" * 7_000 + ")",
    "escapes": "print('\\d \\q')",
    "too long": "x = 1\n" * 100_000,
    "many literals": "x = [" + "1, " * 2_600 + "]",
    "indentation": "".join(" " * depth + "if 1:\n" for depth in range(120)),
    "f-strings": "f'{" * 140 + "1",
    "no text": "",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_hostile_scripts_are_only_read(code: str) -> None:
    output = ("7 " * 50_000 + "\n") * 3
    for turns in ([FIRST, ("", code, output)], [("", code, output), ("", code + "\n#", output)]):
        assert self_check.find(scripts(*turns)) == [False, False]
    # Its words still count.
    assert self_check.find(scripts(FIRST, ("I verify it.", code + "\n", output)))[1]


@functools.cache
def tokenizer() -> Tokenizer:
    return tokenizers.train_byte_bpe(["I verify this.\n```python\nprint(1)\n```"] * 3, 270)


def trajectory(*turns: tuple[str, str], calls: tuple[CodeCall, ...]) -> Trajectory:
    """Sampled texts and observations in turn, after a prompt."""
    parts = [("Question?", False)]
    for text, observation in turns:
        parts += [(text, True), (observation, False)]
    encoded = [(tokenizer().encode(text), sampled) for text, sampled in parts]
    tokens = tuple(token for ids, _ in encoded for token in ids)
    return Trajectory(
        example_id="e",
        task="toy_letters",
        question="Question?",
        agent="code_agent",
        rollout_id=RolloutId(0, 0),
        tokens=tokens,
        sampled=tuple(sampled for ids, sampled in encoded for _ in ids),
        logprobs=(0.0,) * len(tokens),
        code_calls=calls,
        stop=StopReason.ANSWER,
        answer="391",
        correct=True,
        reward=1.1,
    )


def test_words_of_a_trajectory_are_those_before_its_scripts() -> None:
    one = trajectory(
        ("A product.\n```python\nprint(17 * 23)\n```", "\nI verify nothing: 391\n"),
        ("Another method.\n```python\nprint(20**2 - 9)\n```", "\n391\n"),
        ("I can verify it.\n<<<391>>>", ""),
        calls=(call("print(17 * 23)\n", "391\n"), call("print(20**2 - 9)\n", "391\n")),
    )
    turns = self_check.split_turns(one, tokenizer())
    assert [turn.words for turn in turns] == ["A product.\n", "Another method.\n"]
    assert [turn.call for turn in turns] == list(one.code_calls)
    assert self_check.has_self_check(one, tokenizer())  # "another", and the same result
    unsaid = dataclasses.replace(one, code_calls=one.code_calls[:1])
    assert not self_check.has_self_check(unsaid, tokenizer())
