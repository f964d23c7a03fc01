"""The endpoint: the same answers alone and among others, streamed or not; nobody's slot is lost."""

import concurrent.futures
import http.client
import json
import pathlib
import re
import socket
from collections.abc import Iterable
from typing import Any

import openai
import pytest

from r1ci_jax.config import SamplingParams
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.scheduler import RolloutScheduler
from r1ci_jax.text import chatml
from r1ci_jax.tools.serve.web_app import random_stream
from tests.load import PATIENCE
from tests.rollout.conftest import StandIn, World
from tests.rollout.scripts import (
    CODE_TEXT,
    CODE_THEN_ANSWER,
    ENDLESS,
    MIXED,
    ONLY_CODE,
    ONLY_EOS,
    echo,
    request,
)
from tests.tools.serving import MODEL, Gate, Server, Serving

SEEDS = range(10)
OBSERVATION = "\nCode Execution Results:\nok!\n"


@pytest.fixture(scope="module")
def serving() -> Serving:
    return Serving(World())


def choices(completion: Any) -> list[dict[str, Any]]:
    """What does not depend on the time."""
    return [choice.model_dump() for choice in completion.choices]


def join(chunks: Iterable[Any]) -> tuple[dict[int, dict[str, Any]], Any]:
    """Put the chunks of each choice together; the token counts are the last chunk's."""
    found: dict[int, dict[str, Any]] = {}
    usage = None
    for chunk in chunks:
        if not chunk.choices:
            usage = chunk.usage
            continue
        assert usage is None and chunk.usage is None
        (choice,) = chunk.choices
        own = found.setdefault(
            choice.index, {"content": "", "parts": [], "finish_reason": None, "end": None}
        )
        assert own["finish_reason"] is None
        own["finish_reason"] = choice.finish_reason
        own["content"] += choice.delta.content or ""
        extension = getattr(choice.delta, "r1ci", None)
        if extension is None and choice.delta.content:
            if own["parts"] and own["parts"][-1]["type"] == "text":
                own["parts"][-1]["text"] += choice.delta.content
            else:
                own["parts"].append({"type": "text", "text": choice.delta.content})
        elif extension is not None and extension["type"] == "output":
            own["parts"].append(extension)
        elif extension is not None:
            own["end"] = {"stop": extension["stop"], "answer": extension["answer"]}
    return found, usage


# --- What is answered ---


def test_words_outputs_and_counts(serving: Serving) -> None:
    with serving(CODE_THEN_ANSWER, StandIn(echo)) as server:
        completion = server.ask(temperature=0)
        assert [model.id for model in server.client.models.list()] == [MODEL]
        assert server.client.models.retrieve(MODEL).owned_by == "r1ci_jax"
    (choice,) = completion.choices
    script = f"```python \n{CODE_TEXT}```"
    assert choice.message.content == f"{script}<<<7>>>" and choice.finish_reason == "stop"
    assert choice.message.r1ci == {  # type: ignore[attr-defined] # the protocol's extension
        "parts": [
            {"type": "text", "text": script},
            {"type": "output", "text": OBSERVATION, "status": "ok"},
            {"type": "text", "text": "<<<7>>>"},
        ],
        "stop": "answer",
        "answer": "7",
    }
    tokenizer = serving.world.tokenizer
    num_prompt = len(chatml.prompt_ids(tokenizer, "Compute 3+4."))
    usage = completion.usage
    assert usage is not None and usage.prompt_tokens == num_prompt
    assert usage.total_tokens == num_prompt + usage.completion_tokens
    assert usage.r1ci == {"output_tokens": len(tokenizer.encode(OBSERVATION))}  # type: ignore[attr-defined]


def test_answers_are_the_trajectories_of_the_runner(serving: Serving) -> None:
    runner, tokenizer = serving.runner(MIXED, StandIn(echo)), serving.world.tokenizer
    with serving(MIXED, StandIn(echo)) as server:
        for seed in SEEDS:
            completion = server.ask(seed=seed, temperature=0.9, n=2)
            base = request()
            requests = [
                Request(
                    example=base.example,
                    agent=base.agent,
                    rollout_id=random_stream(seed, index),
                    sampling=SamplingParams(temperature=0.9),
                )
                for index in range(2)
            ]
            done = runner.run(requests)
            for choice, trajectory in zip(completion.choices, done, strict=True):
                ids = [
                    token
                    for token, own in zip(trajectory.tokens, trajectory.sampled, strict=True)
                    if own and token not in tokenizer.stop_token_ids
                ]
                assert choice.message.content == tokenizer.decode(ids)
                assert choice.message.r1ci["stop"] == trajectory.stop.value
                assert choice.message.r1ci["answer"] == trajectory.answer
            assert completion.usage.completion_tokens == sum(sum(each.sampled) for each in done)


def test_many_at_once_are_answered_as_one_after_the_other(serving: Serving) -> None:
    """More requests than slots, of all ends; what others do changes nothing."""
    wanted = [
        {"text": "Compute 3+4." + " Please." * (seed % 4), "seed": seed, "n": 1 + seed % 3}
        for seed in SEEDS
    ]
    with serving(MIXED, StandIn(echo)) as server:
        alone = [server.ask(**each) for each in wanted]
        with concurrent.futures.ThreadPoolExecutor(len(wanted)) as pool:
            together = list(pool.map(lambda each: server.ask(**each), wanted))
        assert server.service.num_open == 0
    assert [choices(each) for each in together] == [choices(each) for each in alone]
    assert [each.usage for each in together] == [each.usage for each in alone]
    # The law is about answers that differ, and about all ways to end.
    stops = {choice.message.r1ci["stop"] for each in alone for choice in each.choices}
    assert {"answer", "eos"} <= stops
    assert len({str(choices(each)) for each in alone}) > 3


@pytest.mark.parametrize("outputs", ["separate", "inline"])
def test_streamed_pieces_are_the_whole(serving: Serving, outputs: str) -> None:
    body = {"r1ci": {"outputs": outputs}}
    seen = set()
    with serving(MIXED, StandIn(echo)) as server:
        for seed in SEEDS:
            whole = server.ask(seed=seed, n=2, extra_body=body)
            with server.ask(
                seed=seed, n=2, stream=True, stream_options={"include_usage": True}, extra_body=body
            ) as stream:
                found, usage = join(stream)
            assert usage == whole.usage
            for choice in whole.choices:
                own, message = found[choice.index], choice.message
                assert own["content"] == message.content
                assert own["finish_reason"] == choice.finish_reason
                extension = dict(message.r1ci)
                assert own["parts"] == extension.pop("parts") and own["end"] == extension
                shown = ("text", "output") if outputs == "inline" else ("text",)
                parts = [each for each in own["parts"] if each["type"] in shown]
                assert message.content == "".join(each["text"] for each in parts)
                seen |= {each["type"] for each in own["parts"]}
    assert seen == {"text", "output"}


def test_an_answer_that_is_sent_back_is_read_as_it_was_written(serving: Serving) -> None:
    tokenizer = serving.world.tokenizer
    user = {"role": "user", "content": "Compute 3+4."}
    with serving(CODE_THEN_ANSWER, StandIn(echo)) as server:
        first = server.ask(temperature=0)
        message = first.choices[0].message
        full = [user, message.model_dump(), {"role": "user", "content": "Again!"}]
        words = [user, {"role": "assistant", "content": message.content}, full[-1]]
        inline = [user, {"role": "assistant", "content": f"```python \n{CODE_TEXT}```{OBSERVATION}<<<7>>>"}, full[-1]]  # fmt: skip # noqa: E501 # one message a line
        counts = [
            server.ask(temperature=0, messages=each).usage.prompt_tokens
            for each in (full, words, inline)
        ]
    prompt = chatml.prompt_ids(tokenizer, "Compute 3+4.")
    answer = [
        *tokenizer.encode(f"```python \n{CODE_TEXT}```"),
        *tokenizer.encode(OBSERVATION),
        *tokenizer.encode("<<<7>>>"),
    ]
    again = chatml.user_message_ids(tokenizer, "Again!")
    assert counts[0] == len(prompt) + len(answer) + len(again)
    assert counts[1] == counts[0] - len(tokenizer.encode(OBSERVATION))
    assert counts[2] <= counts[0]


def test_instructions_stand_before_the_first_question(serving: Serving) -> None:
    tokenizer = serving.world.tokenizer
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Compute"}]},
        {"role": "assistant", "content": "<<<7>>>"},
        {"role": "user", "content": "Again!"},
    ]
    with serving(ONLY_EOS, instructions="Use code: ") as server:
        completion = server.ask(messages=messages)
    ids = [
        *chatml.prompt_ids(tokenizer, "Use code: Compute", system="Be brief."),
        *tokenizer.encode("<<<7>>>"),
        *chatml.user_message_ids(tokenizer, "Again!"),
    ]
    assert completion.usage.prompt_tokens == len(ids)
    assert completion.choices[0].message.content == ""
    assert completion.choices[0].finish_reason == "stop"


def test_the_checkpoints_system_message_stands_where_a_request_has_none(serving: Serving) -> None:
    tokenizer = serving.world.tokenizer
    with serving(ONLY_EOS, instructions="Use code: ", system="Be kind.") as server:
        without = server.ask(messages=[{"role": "user", "content": "Compute"}])
        own = [{"role": "system", "content": "Go."}, {"role": "user", "content": "Compute"}]
        found = [without, server.ask(messages=own)]
    assert [each.usage.prompt_tokens for each in found] == [
        len(chatml.prompt_ids(tokenizer, "Use code: Compute", system=system))
        for system in ("Be kind.", "Go.")
    ]


def test_limits_end_an_answer_as_length(serving: Serving) -> None:
    with serving(ENDLESS) as server:
        for name in ("max_tokens", "max_completion_tokens"):
            completion = server.ask(**{name: 7})
            assert completion.usage.completion_tokens == 7
            assert completion.choices[0].finish_reason == "length"
            assert completion.choices[0].message.r1ci["stop"] == "max_tokens"
        assert server.ask().usage.completion_tokens == 60  # the server's own limit
        # One may ask for more than that, up to the end of the context.
        completion = server.ask(max_tokens=5000)
        assert completion.choices[0].message.r1ci["stop"] == "context_full"
        usage = completion.usage
        assert usage.total_tokens in (399, 400, 401)
    with serving(ONLY_CODE, StandIn(echo)) as server:
        completion = server.ask()
        assert completion.choices[0].message.r1ci["stop"] == "max_code_calls"
        assert completion.choices[0].finish_reason == "length"


def test_stop_strings_cut_the_answer_wherever_it_was(serving: Serving) -> None:
    with serving(MIXED, StandIn(echo)) as server:
        for seed in SEEDS:
            whole = server.ask(seed=seed).choices[0].message.content
            for stop in ("print('o", "``", ">>>", "7>", "never"):
                completion = server.ask(seed=seed, stop=[stop, "not this"])
                cut = completion.choices[0]
                assert cut.message.content == whole.partition(stop)[0]
                reason = cut.message.r1ci["stop"]
                assert (reason == "stop_string") == (stop in whole)
                assert reason != "stop_string" or cut.finish_reason == "stop"
                with server.ask(seed=seed, stop=stop, stream=True) as stream:
                    found, _ = join(stream)
                assert found[0]["content"] == cut.message.content
        assert server.service.num_open == 0


# --- Slots ---


def begin(server: Server, gate: Gate, *, stream: bool) -> socket.socket:
    """Ask by a connection of our own, and wait until the answer's script hangs."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
    assert gate.begun.wait(PATIENCE)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_slot(serving: Serving, stream: bool) -> None:
    gate = Gate(1)
    with serving(ONLY_CODE, gate, slots=1) as server:
        begin(server, gate, stream=stream).close()
        # There is one slot, and its script never ends.
        assert server.ask().choices[0].message.r1ci["stop"] == "max_code_calls"
        assert server.service.num_open == 0


def test_the_client_may_close_its_stream(serving: Serving) -> None:
    gate = Gate(1)
    with serving(ONLY_CODE, gate, slots=1) as server:
        with server.ask(stream=True) as stream:
            assert next(iter(stream)).choices[0].delta.role == "assistant"
            assert gate.begun.wait(PATIENCE)
        assert server.ask().choices[0].message.r1ci["stop"] == "max_code_calls"


def test_a_script_that_hangs_holds_up_nobody_else(serving: Serving) -> None:
    gate = Gate(1)
    with serving(ONLY_CODE, gate) as server:
        connection = begin(server, gate, stream=False)
        assert server.ask().choices[0].message.r1ci["stop"] == "max_code_calls"
        assert server.service.num_open == 1
        connection.close()


def test_what_waits_for_a_slot_can_go_away_too(serving: Serving) -> None:
    gate = Gate(1)
    with serving(ONLY_CODE, gate, slots=1) as server:
        first = begin(server, gate, stream=False)
        with server.ask(stream=True) as stream:
            next(iter(stream))
            assert server.service.num_open == 2
        first.close()
        assert server.ask().choices[0].message.r1ci["stop"] == "max_code_calls"
        assert server.service.num_open == 0


def test_too_many_are_turned_away(serving: Serving) -> None:
    gate = Gate(1)
    with serving(ONLY_CODE, gate, slots=1, max_open=2) as server:
        connection = begin(server, gate, stream=False)
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError, match="too many answers wait"):
                server.ask(n=2, stream=stream)
        assert server.service.num_open == 1
        connection.close()


def test_cancelled_episodes_leave_the_others_as_they_were(serving: Serving) -> None:
    """Dropping some at any chunk does not change the trajectories of the rest."""
    runner = serving.runner(MIXED, StandIn(echo))
    requests = [request(number, question="Compute" + "!" * (number % 3)) for number in range(9)]
    alone = [runner.run([each])[0].tokens for each in requests]
    for when in range(4):
        episodes = [runner.new_episode(each) for each in requests]
        scheduler = RolloutScheduler(
            runner.engine, runner.sandbox, runner.tokenizer, runner.limits, episodes[:5],
            runner.score,
        )  # fmt: skip
        scheduler.add(episodes[5:])
        dropped = [episodes[1], episodes[5], episodes[8]]
        for number, _ in enumerate(scheduler.chunks()):
            if number == when:
                for episode in dropped:
                    scheduler.cancel(episode)
        scheduler.collect_scores(episodes)
        scheduler.close()
        for episode, tokens in zip(episodes, alone, strict=True):
            if episode not in dropped:
                assert tuple(episode.tokens) == tokens
        assert all(episode.is_done for episode in episodes)


# --- Ends ---


def test_a_failing_service_ends_the_server_and_says_why(serving: Serving) -> None:
    def fail(code: str):
        raise RuntimeError("no interpreter")

    with (
        serving(ONLY_CODE, StandIn(fail)) as server,
        pytest.raises(openai.InternalServerError, match="the server has failed: no interpreter"),
    ):
        server.ask()
    assert [str(error) for error in serving.failures] == ["no interpreter"]
    serving.failures.clear()


@pytest.mark.parametrize("stream", [False, True])
def test_open_answers_end_with_the_server(serving: Serving, stream: bool) -> None:
    gate = Gate(1)
    with serving(ONLY_CODE, gate, slots=1) as server:
        connection = begin(server, gate, stream=stream)
        server.end()
        reply = b""
        while part := connection.recv(4096):
            reply += part
        assert b"the server is shutting down" in reply
        assert reply.startswith(b"HTTP/1.1 200" if stream else b"HTTP/1.1 503")
        assert b"[DONE]" not in reply
        connection.close()
    assert serving.failures == []


# --- Wrong requests, over HTTP; test_serve_requests.py has the rest ---


def test_errors_have_openais_form(serving: Serving) -> None:
    with serving(ENDLESS, max_body_bytes=3000) as server:
        with pytest.raises(openai.BadRequestError) as caught:
            server.ask("x" * 1000)
        assert caught.value.code == "context_length_exceeded" and caught.value.param == "messages"
        with pytest.raises(openai.BadRequestError) as caught:
            server.ask(tools=[{"type": "function", "function": {"name": "f"}}])
        assert caught.value.param == "tools" and caught.value.code == "unsupported_parameter"
        with pytest.raises(openai.NotFoundError) as caught:
            server.client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "x"}])  # fmt: skip # noqa: E501 # one call a line
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.APIStatusError) as too_long:
            server.ask("x" * 4000)
        assert too_long.value.status_code == 413
        with pytest.raises(openai.NotFoundError):
            server.client.embeddings.create(model=MODEL, input="x")
        for method, path, headers, status in (
            ("GET", "/v1/chat/completions", {}, 405),
            ("POST", "/v1/chat/completions", {"Content-Type": "text/plain"}, 415),
            ("POST", "/v1/chat/completions", {"Content-Type": "Application/JSON"}, 400),
            ("GET", "/v1/models", {"Origin": "http://localhost"}, 403),
            ("GET", "/v1/models", {"Host": "evil.example"}, 403),
            ("OPTIONS", "/v1/chat/completions", {"Origin": "http://evil.example"}, 403),
            ("GET", "/v1/models/" + "\\ud800", {}, 404),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
            connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)  # fmt: skip # noqa: E501 # one call a line
            reply = connection.getresponse()
            error = json.loads(reply.read())["error"]
            assert (reply.status, set(error)) == (status, {"message", "type", "param", "code"})
            assert reply.getheader("Access-Control-Allow-Origin") is None
            connection.close()
        assert server.ask(max_tokens=1).usage.completion_tokens == 1


def test_a_client_that_leaves_while_it_sends_is_no_error(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    bodies = ("Content-Length: 1000\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{")
    with serving(ONLY_EOS) as server:
        for body in bodies:
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as client:
                client.sendall(f"{head}\r\n{body}".encode())
        # Asked after them, on the same loop.
        assert server.ask(max_tokens=1).usage.completion_tokens == 1
    assert not [row.getMessage() for row in caplog.records if row.levelname == "ERROR"]


def test_a_token_is_required_where_there_is_one(serving: Serving) -> None:
    token = "a-token-of-twenty-characters"
    with serving(ONLY_EOS, token=token) as server:
        for given in ("none", token[:-1], token + "x"):
            with pytest.raises(openai.AuthenticationError) as caught:
                server.client.with_options(api_key=given).models.list()
            assert caught.value.code == "invalid_api_key"
        client = server.client.with_options(api_key=token)
        assert [model.id for model in client.models.list()] == [MODEL]
        assert server.service.num_open == 0


def test_the_page_about_serving_says_what_works(
    serving: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    sampling = SamplingParams(temperature=0.0)
    with serving(CODE_THEN_ANSWER, StandIn(echo), sampling=sampling) as server:
        names: dict[str, Any] = {}
        said = []
        for block in blocks:
            block = block.replace("http://127.0.0.1:8000/v1", server.url)
            exec(block.replace("toy/grpo_curriculum", MODEL), names)
            said.append(capsys.readouterr().out)
        names["client"].close()
    script = f"```python \n{CODE_TEXT}```"
    parts = f"text {script}\noutput {OBSERVATION}\ntext <<<7>>>\n7\n"
    assert said == [f"{script}<<<7>>>\n{parts}", f"{script}{OBSERVATION}<<<7>>>", ""]
    assert names["completion"].choices[0].message.r1ci["answer"] == "7"
