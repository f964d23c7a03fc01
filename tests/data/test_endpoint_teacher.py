"""A teacher behind an endpoint: the real client talks to a real server, which fails as others do.

The server is scripted; the client is the package `openai`, the interpreter runs the scripts.
"""

import json
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from r1ci_jax.data.external import endpoint_config, request_ledger
from r1ci_jax.data.external.endpoint_client import EndpointClient
from r1ci_jax.data.external.endpoint_config import EndpointConfig
from r1ci_jax.data.external.endpoint_teacher import EndpointTeacher
from r1ci_jax.data.external.selection import Made, Rejection, Selection
from r1ci_jax.data.scripted_teacher import Interpreter
from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import prompts
from tests.data.chat_server import Body, ChatServer, Reply

pytest.importorskip(
    "openai", reason="THE PACKAGE openai IS MISSING: the teacher behind an endpoint is not tested"
)

KEY = "sk-proj-0123456789abcdefghijkl"
ASKED = [
    Example(
        id=f"toy_base_conversion/d1/s0/{number}",
        task="toy_base_conversion",
        question=f"Write {number} in base 8.",
        answer=json.dumps(f"{number:o}"),
        difficulty=1,
    )
    for number in range(271, 277)
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield


def number_in(body: Body) -> int:
    match = re.search(r"Write (\d+) in base 8", body["messages"][0]["content"])
    assert match
    return int(match[1])


def good(body: Body, _: int = 0) -> Reply:
    """Writes a script, goes on as if it had run, and answers what the interpreter printed."""
    if len(body["messages"]) == 1:
        code = f"print(oct({number_in(body)})[2:])"
        return Reply(f"By oct.\n```python\n{code}\n```\nIt prints 999, so <<<999>>>.")
    output = body["messages"][-1]["content"].split("\n")[1]
    return Reply(f"So it is <<<{output}>>>. Glad to help!")


def teach(
    server: ChatServer,
    directory: pathlib.Path,
    interpreter: Interpreter,
    examples: list[Example] = ASKED,
    **settings: Any,
) -> Made:
    config = EndpointConfig(
        **{
            "model": "teacher",
            "url": server.url,
            "key_variable": "TEACHER_KEY",
            "token_budget": 1_000_000,
            "first_wait_seconds": 0.01,
            "samples_per_question": 2,
            "concurrency": 3,
            **settings,
        }
    )
    client = EndpointClient(config, directory)
    try:
        teacher = EndpointTeacher(client=client, sandbox=interpreter)
        return teacher.teach(examples, Selection(70))
    finally:
        client.close()


def test_scripts_run_here_and_the_endpoint_reads_what_they_print(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    with ChatServer(good) as server:
        made = teach(server, tmp_path, interpreter)
    assert not made.rejected and not made.stopped
    assert [each.example_id for each in made.demonstrations] == [each.id for each in ASKED]
    first = made.demonstrations[0]
    assert [segment.text for segment in first.segments] == [
        "By oct.\n```python\nprint(oct(271)[2:])\n```",
        "\nCode Execution Results:\n417\n",
        "So it is <<<417>>>",
    ]
    assert first.prompt == "Write 271 in base 8."  # the policy's prompt, not the teacher's
    body = next(each for each in server.requests if number_in(each) == 271)
    assert body["messages"][0]["content"].startswith(prompts.INSTRUCTIONS["code_agent"])
    assert body["model"] == "teacher" and body["stop"] == ["Code Execution Results:"]
    later = next(e for e in server.requests if len(e["messages"]) == 3 and number_in(e) == 271)
    assert later["messages"][1]["content"] == first.segments[0].text
    assert later["messages"][2] == {"role": "user", "content": "Code Execution Results:\n417"}
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert 1 < server.busiest <= 3 or len(server.requests) == 12


def test_failures_that_pass_are_waited_for(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    bad = [
        Reply(status=429, headers={"Retry-After": "0.05"}, raw=b'{"error": {"message": "slow"}}'),
        Reply(status=500, raw=b"<html>oops</html>"),
        Reply(status=503, raw=b""),
        Reply(raw=b"{not json"),
        Reply(raw=b'{"choices": []}'),
        Reply(raw=b'{"choices": [{"message": {"content": {"a": 1}}}]}'),
        Reply(raw=b"[" * 5000),
        Reply(raw=b" " * (5 << 20)),
        Reply(seconds=60.0),
    ]  # fmt: skip

    def policy(body: Body, number: int) -> Reply:
        return bad[number] if number < len(bad) else good(body)

    with ChatServer(policy) as server:
        made = teach(
            server, tmp_path, interpreter, ASKED[:1], max_retries=2 * len(bad),
            timeout_seconds=6.0, longest_wait_seconds=0.1,
        )  # fmt: skip
    assert len(made.demonstrations) == 1 and not made.rejected
    assert len(server.requests) >= len(bad) + 2


def test_a_request_that_fails_for_good_costs_one_trajectory(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    def policy(body: Body, _: int) -> Reply:
        if number_in(body) == 272:
            return Reply(status=400, raw=b'{"error": {"message": "content policy"}}')
        return good(body)

    with ChatServer(policy) as server:
        made = teach(server, tmp_path, interpreter, samples_per_question=1)
    assert made.rejected == {Rejection.ENDPOINT_FAILED: 1} and len(made.demonstrations) == 5


def test_many_requests_that_are_not_taken_end_the_run_only_if_all_are(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    def policy(body: Body, _: int) -> Reply:
        return good(body) if number_in(body) == 271 else Reply(status=403)

    with ChatServer(policy) as server:
        made = teach(server, tmp_path / "one", interpreter, samples_per_question=4, concurrency=1)
    assert made.rejected == {Rejection.ENDPOINT_FAILED: 20} and len(made.demonstrations) == 1
    with (
        ChatServer(lambda body, number: Reply(status=403)) as server,
        pytest.raises(UserError, match=r"failed 3 times in a row.*status 403"),
    ):
        teach(server, tmp_path / "none", interpreter, concurrency=1)


def test_an_endpoint_that_is_down_ends_the_run_in_one_line(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    with (
        ChatServer(lambda body, number: Reply(status=500)) as server,
        pytest.raises(UserError, match=r"failed \d+ times in a row.*status 500"),
    ):
        teach(server, tmp_path, interpreter, max_retries=1)
    with pytest.raises(UserError, match="no connection"):
        teach(server, tmp_path, interpreter, max_retries=0)


def test_wrong_keys_end_the_run_and_no_key_is_ever_shown(
    interpreter: Interpreter,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)

    def refuse(body: Body, number: int) -> Reply:
        said = f"Incorrect API key provided: {KEY[:8]}****ijkl. You sent\x1b[2J {KEY}."
        return Reply(status=401, raw=json.dumps({"error": {"message": said}}).encode())

    with ChatServer(refuse) as server, pytest.raises(UserError) as caught:
        teach(server, tmp_path, interpreter)
    assert "TEACHER_KEY" in str(caught.value) and "\x1b" not in str(caught.value)

    def echo(body: Body, number: int) -> Reply:
        text = good(body).raw.replace(b"By oct.", f"Your key is {KEY}.".encode())
        return Reply(raw=text)

    with ChatServer(echo) as server:
        made = teach(server, tmp_path, interpreter)
    assert "Your key is [key]." in made.demonstrations[0].segments[0].text
    printed = capfd.readouterr()
    shown = [str(caught.value), caplog.text, printed.out, printed.err, repr(made)]
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 10
    assert not any(KEY[:8] in text for text in (*shown, *kept))


def test_every_answer_is_asked_for_once(interpreter: Interpreter, tmp_path: pathlib.Path) -> None:
    with ChatServer(good) as server:
        first = teach(server, tmp_path, interpreter)
        asked = len(server.requests)
        again = teach(server, tmp_path, interpreter)
        assert len(server.requests) == asked and again == first
        teach(server, tmp_path, interpreter, model="another")
        assert len(server.requests) == 2 * asked


def test_a_killed_run_continues_where_it_was(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    class Killed(BaseException):
        pass

    def report(done: int, total: int) -> None:
        if done == 2:
            raise Killed

    with ChatServer(good) as server:
        config = EndpointConfig(
            model="teacher",
            url=server.url,
            key_variable="TEACHER_KEY",
            token_budget=10**6,
            concurrency=1,
        )
        client = EndpointClient(config, tmp_path)
        with pytest.raises(Killed):
            EndpointTeacher(client=client, sandbox=interpreter).teach(
                ASKED, Selection(70), report=report
            )
        client.close()
        before = len(server.requests)
        assert before < 12
        made = teach(server, tmp_path, interpreter, temperatures=(0.7, 1.0))
        # Only what was under way when the run was killed is asked again.
        assert len(made.demonstrations) == 6
        assert 12 <= len(server.requests) <= 12 + config.concurrency


def costing(body: Body, number: int) -> Reply:
    """Charges 400 tokens for each answer."""
    return Reply(raw=good(body).raw.replace(b'"completion_tokens": 5', b'"completion_tokens": 390'))


def test_the_budget_of_tokens_is_never_exceeded(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    with ChatServer(costing) as server:
        # A request may cost its prompt, at most a token per byte, and its whole answer.
        made = teach(server, tmp_path, interpreter, token_budget=4000, max_answer_tokens=500)
        spent = 400 * len(server.requests)
        assert (
            "budget is spent" in made.stopped and f"{spent // 400 * 390} of answers" in made.stopped
        )
        assert 400 <= spent <= 4000
        rest = teach(server, tmp_path, interpreter, token_budget=50_000, max_answer_tokens=500)
    assert not rest.stopped and len(rest.demonstrations) == 6
    assert len(server.requests) == 12  # no answer was paid for twice


def test_the_budget_of_money_holds_over_all_runs(
    interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    with ChatServer(costing) as server:
        for _ in range(3):
            made = teach(
                server,
                tmp_path,
                interpreter,
                max_answer_tokens=500,
                money_budget=2.0,
                answer_price=1000.0,
                token_budget=0,
            )
    assert made.stopped and "1.56 in money" in made.stopped  # a fifth answer could cost 0.50
    assert len(server.requests) == 4


def test_answers_without_usage_count_in_full(tmp_path: pathlib.Path) -> None:
    config = EndpointConfig(model="teacher", token_budget=1000)
    with request_ledger.RequestLedger(tmp_path / "requests.jsonl", config) as ledger:
        ledger.charge(ledger.reserve(100, 200), (10, 20))
        ledger.charge(ledger.reserve(100, 200), None)
        ledger.reserve(300, 100)  # and then the process is killed
    with request_ledger.RequestLedger(tmp_path / "requests.jsonl", config) as ledger:
        assert (ledger.prompt_tokens, ledger.answer_tokens) == (410, 320)
        with pytest.raises(request_ledger.BudgetSpentError):
            ledger.reserve(200, 71)
        with pytest.raises(request_ledger.BudgetSpentError):
            ledger.reserve(1, 1)  # spent is spent


ANSWERS: dict[str, tuple[Reply, Rejection]] = {
    "wrong": (Reply("<<<1>>>"), Rejection.WRONG),
    "no answer": (Reply("I do not know."), Rejection.NO_ANSWER),
    "cut off": (Reply("Let me count: 1, 2", finish="length"), Rejection.CUT_OFF),
    "filtered": (Reply("", finish="content_filter"), Rejection.DECLINED),
    "silent": (Reply(""), Rejection.DECLINED),
    "loop": (Reply("```python\nprint(1)\n```"), Rejection.MANY_SCRIPTS),
    "random": (Reply("```python\nimport os\nprint(os.urandom(9))\n```\n"), Rejection.UNSTEADY),
    "surrogate": (Reply("\ud800\x1b <<<417>>>"), Rejection.CONTROL),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_demonstration_is_counted(
    name: str, interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    reply, reason = ANSWERS[name]

    def policy(body: Body, _: int) -> Reply:
        is_last = reason is Rejection.UNSTEADY and len(body["messages"]) > 1
        return Reply("<<<417>>>") if is_last else reply

    with ChatServer(policy) as server:
        made = teach(server, tmp_path, interpreter, ASKED[:1])
    assert made.rejected == {reason: 2} and not made.demonstrations  # both samples
    assert {each["temperature"] for each in server.requests} == {0.7, 1.0}


@pytest.mark.parametrize("agent", prompts.AGENT_NAMES)
def test_every_way_of_answering(
    agent: str, interpreter: Interpreter, tmp_path: pathlib.Path
) -> None:
    def policy(body: Body, number: int) -> Reply:
        if agent == "all_text" or (agent == "codesteer" and len(body["messages"]) == 1):
            return Reply("3 * 8 + 7 is 31, and \\boxed{417}" if agent == "all_text" else "<<<7>>>")
        if agent == "codesteer" and len(body["messages"]) == 3:
            return good({"messages": body["messages"][:1]})
        return good(body)

    with ChatServer(policy) as server:
        (made,) = teach(server, tmp_path, interpreter, ASKED[:1], agents=(agent,)).demonstrations
    assert made.agent == agent and made.segments[-1].text.endswith("<<<417>>>")
    assert made.prompt == prompts.render_question(ASKED[0].question, agent)
    assert made.segments[0].sampled == (agent != "codesteer")


def test_settings_that_cannot_be_right_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, message in (
        ({"token_budget": 0}, "no budget"),
        ({"money_budget": 1.0}, "needs endpoint.prompt_price"),
        ({"url": "localhost:8000"}, "no http or https address"),
        ({"url": "https://user:pass@host/v1"}, "more than an address"),
        ({"agents": ("gpt",)}, "choose from"),
        ({"concurrency": 0}, "endpoint.concurrency must be at least 1"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            EndpointConfig(**{"model": "m", "token_budget": 1, **settings})  # type: ignore  # wrong
        assert "pass@" not in str(caught.value)
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(UserError, match="has no TEACHER_KEY"):
        EndpointConfig(model="m", token_budget=1, key_variable="TEACHER_KEY").key()
    assert endpoint_config.EndpointConfig(model="m", token_budget=1, key_variable="").key()
