"""Conversations of others: every form gives the same demonstration, and nothing is believed."""

import collections
import concurrent.futures
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, cast

import hypothesis
import hypothesis.strategies as st
import pytest

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import datasets, external_demonstrations
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.data.external import conversation_formats, conversation_import, selection
from r1ci_jax.data.external.conversation_import import Questions
from r1ci_jax.data.external.selection import Made, Rejection, Selection
from r1ci_jax.data.scripted_teacher import Interpreter
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.tasks.base import Example

Record = dict[str, Any]


def question(number: int, text: str, answer: str, *, task: str = "toy_base_conversion") -> Example:
    return Example(
        id=f"{task}/d1/s0/{number}",
        task=task,
        question=text,
        answer=json.dumps(answer),
        difficulty=1,
    )


SHOWN = question(1, "Write 271 in base 8.", "417")
SECOND = question(2, "Write 64 in base 8.", "100")
HELD_OUT = question(3, "Write 65 in base 8.", "101")
LONG = question(4, "Write 1000000 in base 8.", "3641100")
QUESTIONS = Questions({"sft": [SHOWN, SECOND, LONG], "grpo": [], "eval": [HELD_OUT]})
CODE = "print(oct(271)[2:])"


def bring(
    tmp_path: pathlib.Path, interpreter: Interpreter, records: list[Any], **rest: Any
) -> Made:
    path = tmp_path / "others.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    collected = Selection(70)
    return conversation_import.import_file(path, QUESTIONS, interpreter, collected, **rest)


def talk(*turns: tuple[str, str]) -> Record:
    """An OpenAI record: the question, then the turns."""
    first = {"role": "user", "content": "Solve this.\n\nWrite  271 in base 8.\nUse code."}
    return {"messages": [first, *({"role": who, "content": text} for who, text in turns)]}


def call(arguments: Any, name: str = "python") -> Record:
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": "By oct.",
        "tool_calls": [{"id": "1", "function": function}],
    }


FENCED = f"By oct.\n```python\n{CODE}\n```"
HEAD = {"role": "user", "content": SHOWN.question}
OUTPUT = {"role": "tool", "tool_call_id": "1", "content": "417\n"}
LAST = {"role": "assistant", "content": "It is <<<417>>>."}

CALL = json.dumps({"name": "run_python", "arguments": {"code": CODE}})


def said(*turns: tuple[str, str]) -> Record:
    """A ShareGPT record: the question, then the turns."""
    first = {"from": "human", "value": SHOWN.question}
    return {"conversations": [first, *({"from": who, "value": text} for who, text in turns)]}


FORMS: dict[str, Record] = {
    "openai, fences": {"messages": [HEAD, {"role": "assistant", "content": FENCED}, OUTPUT, LAST]},
    "openai, output by the user": talk(
        ("assistant", FENCED),
        ("user", "Code Execution Results:\n417"),
        ("assistant", "It is <<<417>>>"),
    ),
    "openai, all in one message": talk(
        ("assistant", f"{FENCED}\n```output\n417\n```\nIt is <<<417>>>")
    ),
    "openai, tool call": {"messages": [HEAD, call(json.dumps({"code": CODE})), OUTPUT, LAST]},
    "openai, bare code": {"messages": [HEAD, call(CODE, "code_interpreter"), OUTPUT, LAST]},
    "openai, parts of text": {
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": SHOWN.question}]},
            call(json.dumps({"code": CODE})),
            OUTPUT,
            LAST,
        ]
    },
    "sharegpt, function call": said(
        ("gpt", "By oct."),
        ("function_call", CALL),
        ("observation", "417"),
        ("gpt", "It is \\boxed{417}"),
    ),
    "sharegpt, tags": said(
        ("gpt", f"By oct.\n<tool_call>\n{CALL}\n</tool_call>"),
        ("human", "<tool_response>\n417\n</tool_response>"),
        ("gpt", "It is <answer> 417 </answer>"),
    ),
    "llama-factory": {
        "instruction": "Solve this.",
        "input": SHOWN.question,
        "history": [],
        "output": f"{FENCED}\n```output\n417\n```\nIt is $\\boxed{{417}}$.",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_demonstration(
    form: str, interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    for chosen in ("auto", form.partition(",")[0]):
        made = bring(tmp_path, interpreter, [FORMS[form]], form=chosen)
        assert not made.rejected
        (kept,) = made.demonstrations
        texts = [segment.text for segment in kept.segments]
        assert texts == [FENCED, "\nCode Execution Results:\n417\n", "It is <<<417>>>"]
        assert [segment.sampled for segment in kept.segments] == [True, False, True]
        assert (kept.example_id, kept.agent, kept.kind) == (SHOWN.id, "code_agent", "code")


def test_what_is_kept_can_be_trained_on(interpreter: Interpreter, tmp_path: pathlib.Path) -> None:
    other = talk(("assistant", "8 * 33 = 264, so 264 + 7 is <<<417>>>."))
    made = bring(tmp_path, interpreter, [FORMS["openai, fences"], other])
    path = tmp_path / "made" / "made.jsonl"
    selection.write(path, made.demonstrations)
    found = external_demonstrations.read(str(path), DatasetConfig(tasks=(SHOWN.task,)))
    assert list(found.values()) == list(made.demonstrations)
    external_demonstrations.validate_against(str(path), found, [SHOWN])
    external_demonstrations.validate_by_execution(str(path), found, interpreter)


def ask(text: str, **rest: Any) -> Record:
    """A record with another first message, answered at once."""
    return {"messages": [HEAD | {"content": text}, LAST], **rest}


def ask_long(text: str) -> Record:
    """A record that answers the question with the long answer."""
    return {"messages": [HEAD | {"content": LONG.question}, {"role": "assistant", "content": text}]}


def use(arguments: Any, name: str = "python") -> Record:
    return {"messages": [HEAD, call(arguments, name), OUTPUT, LAST]}


RANDOM = "```python\nimport os\nprint(os.urandom(9))\n```\nIt is <<<417>>>"
NINE = "".join(f"```python\nprint({n})\n```\n" for n in range(9))
BOTH = f"{SHOWN.question}\n{SECOND.question}"

KNOWN = f"```python\nprint('{10**6:o}')\n```\nSo <<<{10**6:o}>>>"

FAULTS: dict[str, tuple[Any, Rejection]] = {
    "not an object": (7, Rejection.UNREADABLE),
    "unknown form": ({"text": "hello"}, Rejection.UNREADABLE),
    "unknown role": (talk(("narrator", "hello")), Rejection.UNREADABLE),
    "no text": (talk(("assistant", cast(str, 5))), Rejection.UNREADABLE),
    "no answer at all": ({"messages": [HEAD]}, Rejection.UNREADABLE),
    "other question": (ask("Write 2719 in base 8."), Rejection.NO_QUESTION),
    "a longer number": (ask("Write 271 in base 8.5"), Rejection.NO_QUESTION),
    "two questions": (ask(BOTH), Rejection.NO_QUESTION),
    "held out": (ask(HELD_OUT.question), Rejection.OTHER_SPLIT),
    "held out, other id": (ask(HELD_OUT.question, id=SHOWN.id), Rejection.OTHER_SPLIT),
    "wrong answer": (talk(("assistant", "It is <<<416>>>")), Rejection.WRONG),
    "no marks": (talk(("assistant", "It is 417.")), Rejection.NO_ANSWER),
    "other output": (
        talk(("assistant", FENCED), ("tool", "416"), ("assistant", "<<<417>>>")),
        Rejection.OTHER_OUTPUT,
    ),
    "other tool": (use('{"q": "271"}', "search"), Rejection.OTHER_TOOL),
    "a call without code": (use({"a": "1", "b": "2"}), Rejection.UNREADABLE),
    "stray output": ({"messages": [HEAD, OUTPUT, LAST]}, Rejection.STRAY_OUTPUT),
    "fence in code": (use({"code": 'print("""\n```\n""")'}), Rejection.FENCE_IN_CODE),
    "chatter": (
        talk(("assistant", "Hm."), ("user", "Go on."), ("assistant", "<<<417>>>")),
        Rejection.UNFINISHED_TURN,
    ),
    "random output": (talk(("assistant", RANDOM)), Rejection.UNSTEADY),
    "control characters": (talk(("assistant", "\x1b]0;owned\x07 <<<417>>>")), Rejection.CONTROL),
    "too long": (talk(("assistant", "la " * 40_000 + "<<<417>>>")), Rejection.TOO_LONG),
    "many scripts": (talk(("assistant", f"{NINE}<<<417>>>")), Rejection.MANY_SCRIPTS),
    "a known answer": (ask_long(KNOWN), Rejection.KNOWN_ANSWER),
    "other fences": (
        talk(("assistant", "```text\nhm\n```\nIt is <<<417>>>")),
        Rejection.BAD_FORMAT,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_rejected_is_counted_by_reason(
    fault: str, interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    record, reason = FAULTS[fault]
    made = bring(tmp_path, interpreter, [record, FORMS["openai, fences"]])
    assert made.rejected == {reason: 1}
    assert len(made.demonstrations) == 1
    assert made.summary() == ["1 demonstrations kept", f"1 rejected: {reason}"]


def test_the_same_scripts_count_once_and_a_task_has_enough(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    again = talk(("assistant", f"Let us see.\n```python\n{CODE}\n```\nSo <<<417>>>"))
    other = talk(("assistant", "```python\nprint('%o' % 271)\n```\nSo <<<417>>>"))
    path = tmp_path / "others.json"  # one JSON list
    path.write_text(json.dumps([FORMS["openai, fences"], again, other]))
    made = conversation_import.import_file(path, QUESTIONS, interpreter, Selection(1))
    assert made.rejected == {Rejection.DUPLICATE: 1, Rejection.ENOUGH: 1}


def test_several_turns_are_preferred_up_to_their_share() -> None:
    one, several = (
        [
            Demonstration(
                example_id=str(number),
                task="letters",
                agent="code_agent",
                kind="code",
                prompt="",
                segments=(
                    *[Segment.learned(f"```python\nprint({number})\n```")] * turns,
                    Segment.learned("<<<1>>>"),
                ),
                correct=True,
            )
            for number in range(turns * 10, turns * 10 + 4)
        ]
        for turns in (1, 2)
    )
    collected = Selection(4, multi_turn=0.5)
    assert [collected.offer(each) for each in one] == [None] * 4
    assert not collected.is_full("letters")
    reasons = [collected.offer(each) for each in several]
    assert reasons == [None, None, Rejection.ENOUGH, Rejection.ENOUGH]
    assert collected.demonstrations == [*one[:2], *several[:2]]
    assert collected.is_full("letters") and collected.per_task["letters"] == 4
    assert collected.rejected == {Rejection.ENOUGH: 4}


def test_bare_lists_of_messages_are_conversations(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    bare = FORMS["openai, fences"]["messages"]
    for records in ([bare], [bare, FORMS["openai, fences"]]):
        made = bring(tmp_path, interpreter, records)
        assert len(made.demonstrations) == 1
        assert sum(made.rejected.values()) == len(records) - 1  # the same again


def test_failing_scripts_and_wrong_first_answers_are_read_and_not_learned(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    trace = (
        "Traceback (most recent call last):\n  File x.py\nNameError: name 'octal' is not defined"
    )
    repaired = talk(
        ("assistant", "```python\nprint(octal(271))\n```"),
        ("tool", trace),
        ("assistant", f"Mend it.\n{FENCED}"),
        ("tool", "417"),
        ("assistant", "<<<417>>>"),
    )
    steered = talk(
        ("assistant", "I guess <<<420>>>"),
        ("user", "Check it."),
        ("assistant", "```python\nprint('%o' % 271)\n```"),
        ("tool", "417"),
        ("assistant", "<<<417>>>"),
    )
    made = bring(tmp_path, interpreter, [repaired, steered])
    assert not made.rejected
    first, second = made.demonstrations
    assert (first.kind, second.kind) == ("repair", "code")
    assert (first.agent, second.agent) == ("code_agent", "codesteer")
    for kept in (first, second):
        assert [s.sampled for s in kept.segments] == [False, False, True, False, True]


def test_a_check_of_what_words_have_found_is_kept(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    check = (
        "By powers of 8 I find 3641100.\n```python\nprint(0o3641100 == 10**6)\n```\n<<<3641100>>>"
    )
    assert len(bring(tmp_path, interpreter, [ask_long(check)]).demonstrations) == 1


def test_a_script_alone_answers_by_what_it_prints(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    (kept,) = bring(tmp_path, interpreter, [talk(("assistant", FENCED))]).demonstrations
    assert kept.agent == "all_code" and kept.segments[-1].text == "<<<417>>>"
    assert kept.prompt.endswith("Answer with code.")


def test_a_file_of_strangers_never_ends_the_import(
    interpreter: Interpreter, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_formats, "MAX_RECORD_BYTES", 2000)
    good = json.dumps(FORMS["openai, fences"]).encode()
    deep = b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}"
    lines = [
        b"not json",
        b"\xff\xfe",
        deep,
        b'"' + b"x" * 9000 + b'"',
        b'{"messages": [1]}',
        b"",
        good,
    ]
    path = tmp_path / "others.jsonl"
    path.write_bytes(b"\n".join(lines))
    made = conversation_import.import_file(path, QUESTIONS, interpreter, Selection(70))
    assert made.rejected == {Rejection.UNREADABLE: 5} and len(made.demonstrations) == 1
    with pytest.raises(UserError, match="cannot read"):
        conversation_import.import_file(tmp_path / "none", QUESTIONS, interpreter, Selection(70))


def _as_openai(demonstration: Demonstration) -> Record:
    roles = {"assistant": "assistant", "observation": "tool", "user": "user"}
    messages = [{"role": roles[s.role], "content": s.text} for s in demonstration.segments]
    return {"messages": [{"role": "user", "content": demonstration.prompt}, *messages]}


def _as_sharegpt(demonstration: Demonstration) -> Record:
    roles = {"assistant": "gpt", "observation": "observation", "user": "human"}
    said = [{"from": roles[s.role], "value": s.text} for s in demonstration.segments]
    return {"conversations": [{"from": "human", "value": demonstration.prompt}, *said]}


@pytest.mark.parametrize("form", [_as_openai, _as_sharegpt])
def test_the_scripted_teachers_own_come_back_as_they_were(
    form: Callable[[Demonstration], Record],
    demonstrations: list[Demonstration],
    questions: DatasetConfig,
    data_dir: pathlib.Path,
    interpreter: Interpreter,
    tmp_path: pathlib.Path,
) -> None:
    splits = ("sft", "grpo", "eval")
    asked = Questions(
        {s: list(datasets.load_examples(data_dir, questions.tasks, s)) for s in splits}
    )
    path = tmp_path / "others.jsonl"
    path.write_text("".join(json.dumps(form(each)) + "\n" for each in demonstrations))
    made = conversation_import.import_file(path, asked, interpreter, Selection(70))
    assert not set(made.rejected) - {Rejection.DUPLICATE}
    expected = {each.example_id: each.segments for each in demonstrations}
    assert len(made.demonstrations) > 0.8 * len(demonstrations)
    for kept in made.demonstrations:
        assert kept.segments == expected[kept.example_id]
    kinds = collections.Counter(each.kind for each in made.demonstrations)
    assert set(kinds) == {"direct", "code", "repair", "several"}


PIECES = (
    *("<<<", "417", ">>>", "```python\n", "```\n", "\n", "print(417)", "```output\n", "$", " "),
    *("<tool_call>", "</tool_call>", CALL, "\\boxed{", "}", "<answer>", "</answer>", "Answer: "),
    *("\u2028", "é", "\x00", "<tool_response>", "</tool_response>"),
)
TEXT = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
ODD = st.recursive(
    st.one_of(TEXT, st.none(), st.integers(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(("role", "content", "name", "arguments", "code")), inner),
    ),
    max_leaves=6,
)
ROLE = st.sampled_from(("assistant", "assistant", "tool", "user", "system"))
MESSAGE = st.fixed_dictionaries(
    {"role": ROLE, "content": st.one_of(TEXT, TEXT, TEXT, ODD)},
    optional={"tool_calls": st.one_of(ODD, st.lists(st.fixed_dictionaries({"function": ODD})))},
)
RECORD = st.one_of(
    st.lists(MESSAGE, max_size=5).map(lambda messages: {"messages": [HEAD, *messages]}),
    st.tuples(TEXT, ODD).map(
        lambda pair: {"instruction": SHOWN.question, "output": pair[0], "history": pair[1]}
    ),
    ODD,
)


class Instant:
    """Stands in for the sandbox, which is not what is tested here."""

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        future: concurrent.futures.Future[ExecResult] = concurrent.futures.Future()
        future.set_result(ExecResult(status=Status.OK, stdout="417" if "print" in code else ""))
        return future


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(st.lists(RECORD, max_size=4))
def test_whatever_a_file_holds_what_is_kept_passes_every_check(records: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        made = bring(directory, Instant(), [{}, *records])
        assert len(made.demonstrations) + sum(made.rejected.values()) == 1 + len(records)
        if made.demonstrations:
            path = str(directory / "made.jsonl")
            selection.write(pathlib.Path(path), made.demonstrations)
            found = external_demonstrations.read(path, DatasetConfig(tasks=(SHOWN.task,)))
            external_demonstrations.validate_against(path, found, [SHOWN])
            external_demonstrations.validate_by_execution(path, found, Instant())
