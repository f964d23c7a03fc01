"""What a request may say, who may send it, and stop strings: without a server."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.config import SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.text.chatml import ChatMessage
from r1ci_jax.tools.serve import access, chat_request
from r1ci_jax.tools.serve.chat_request import ChatRequest, RequestError
from r1ci_jax.tools.serve.stop_strings import StopStringWatch
from r1ci_jax.tools.serve.web_app import random_stream

USER = {"role": "user", "content": "Hi"}
TOKEN = "a-token-of-twenty-characters"


def parse(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [USER], **fields}
    sampling = SamplingParams(temperature=0.6, top_k=5)
    return chat_request.parse(json.dumps(body).encode(), sampling, "separate")


def test_what_is_left_out_has_the_servers_defaults() -> None:
    assert parse() == ChatRequest(
        model="m",
        messages=(ChatMessage("user", ("Hi",)),),
        sampling=SamplingParams(temperature=0.6, top_k=5),
    )


def test_every_field_is_read() -> None:
    found = parse(
        messages=[{"role": "developer", "content": [{"type": "text", "text": "Be "}]}, USER],
        max_completion_tokens=9,
        max_tokens=9,
        temperature=0,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        repetition_penalty=1.1,
        seed=-4,
        n=2,
        stop=["a", "b"],
        stream=True,
        stream_options={"include_usage": True},
        r1ci={"outputs": "inline"},
    )
    assert found == ChatRequest(
        model="m",
        messages=(ChatMessage("system", ("Be ",)), ChatMessage("user", ("Hi",))),
        sampling=SamplingParams(
            temperature=0.0, top_p=0.5, top_k=3, min_p=0.1, repetition_penalty=1.1
        ),
        max_tokens=9,
        seed=-4,
        num_choices=2,
        stop_strings=("a", "b"),
        is_stream=True,
        includes_usage=True,
        outputs="inline",
    )


def test_values_that_ask_for_what_happens_anyway_are_accepted() -> None:
    neutral = {"presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "tools": []}
    assert parse(**neutral, tool_choice="none", user=None, response_format={"type": "text"}) == (
        parse()
    )


def test_an_earlier_answer_comes_back_in_its_parts() -> None:
    message = {
        "role": "assistant",
        "content": "ab",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
        "r1ci": {
            "parts": [
                {"type": "text", "text": "a"},
                {"type": "output", "text": "!", "status": "ok"},
                {"type": "text", "text": "b"},
            ],
            "stop": "eos",
            "answer": None,
        },
    }
    for content in ("ab", "a!b", None):
        found = parse(messages=[USER, {**message, "content": content}, USER])
        assert found.messages[1] == ChatMessage("assistant", ("a", "!", "b"))
    with pytest.raises(RequestError, match="parts and the content differ"):
        parse(messages=[USER, {**message, "content": "ac"}, USER])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{**USER, "name": "Ann"}]}, "messages[0].name"),
        ({"messages": [{**USER, "r1ci": {"parts": []}}]}, "messages[0].r1ci"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"messages": [USER, {"role": "system", "content": "x"}, USER]}, "messages[1].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0]",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [{}]}, USER]},
            "messages[1].tool_calls",
        ),
        (
            {"messages": [USER, {"role": "assistant", "r1ci": {}}, USER]},
            "messages[1].r1ci.parts",
        ),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_tokens": 1 << 31}, "max_tokens"),
        ({"max_completion_tokens": 10**30}, "max_completion_tokens"),
        ({"top_k": 1 << 31}, "top_k"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty"),
        ({"temperature": -(10**400)}, "temperature"),
        ({"top_p": -(10**400)}, "top_p"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"seed": 1 << 63}, "seed"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options"),
        ({"stop": ""}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": 5}, "stop"),
        ({"r1ci": {"outputs": "both"}}, "r1ci.outputs"),
        ({"r1ci": {"more": 1}}, "r1ci"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"user": "ann"}, "user"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
    ],
)
def test_what_cannot_be_honoured_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    error = caught.value.body["error"]
    assert caught.value.status == 400 and error["type"] == "invalid_request_error"
    assert (
        error["param"] == param
        and param.split(".")[0].split("[")[0].rstrip("s") in error["message"]
    )


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"temperature": NaN}', b"[" * 100_000, b"1" * 5000]
)
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    with pytest.raises(RequestError, match=r"JSON"):
        chat_request.parse(body, SamplingParams(), "separate")


# --- Who may ask ---


def refused(headers: dict[str, str], *, host: str = "127.0.0.1", token: str | None = None) -> int:
    """The status of the refusal; 0: there is none."""
    try:
        access.check(headers, host=host, token=token)
    except RequestError as error:
        return error.status
    return 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8000"}, 0),
        ({"host": "127.0.0.1"}, 0),
        ({"host": "127.9.9.9:1"}, 0),
        ({"host": "[::1]:8000"}, 0),
        ({"host": "localhost", "sec-fetch-site": "none"}, 0),
        ({}, 403),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:8000"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "[::1].evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": "localhost", "origin": "http://localhost:8000"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
        ({"host": "localhost", "sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_pages_may_not_use_the_endpoint(headers: dict[str, str], status: int) -> None:
    assert refused(headers) == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 0),
        (f"bearer  {TOKEN} ", 0),
        ("", 401),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer \xfc", 401),
    ],
)
def test_the_token_is_compared_whole(authorization: str, status: int) -> None:
    headers = {"host": "box.example", "authorization": authorization}
    assert refused(headers, host="0.0.0.0", token=TOKEN) == status


def test_tokens_are_read_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(access.TOKEN_VARIABLE, raising=False)
    assert access.read_token(None) is None
    for host in ("0.0.0.0", "::", "192.168.1.5", "box.example"):
        # Before anything is loaded, and so whatever the model.
        assert main(["serve", "nowhere", "--host", host]) == 2
        assert "name a token with --token-file" in capsys.readouterr().err
    file = tmp_path / "token"
    for text in ("", "short", "has a blank in its middle", "ü" * 20):
        file.write_text(text)
        with pytest.raises(UserError, match="openssl rand"):
            access.read_token(file)
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv(access.TOKEN_VARIABLE, "of-the-environment")
    assert access.read_token(file) == TOKEN
    assert access.read_token(None) == "of-the-environment"
    access.require_token("0.0.0.0", TOKEN)
    for host in ("127.0.0.1", "localhost", "::1"):
        access.require_token(host, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "sft"], "nowhere is no run"),
        (["--slots", "0"], "--slots must be from 1 to 2147483647, not 0"),
        (["--max-tokens", "3000000000"], "--max-tokens must be from 1 to 2147483647"),
        (["--grace", "-1"], "--grace must be at least 0"),
        (["--port", "99999"], "there is no port 99999"),
        (["--host", "192.0.2.1", "--token-file", "{token}"], "cannot listen on 192.0.2.1:8000"),
    ],
)
def test_wrong_words_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    words = [word.format(token=tmp_path / "token") for word in words]
    assert main(["serve", "nowhere", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


# --- Pure parts ---


def test_stop_strings_do_not_depend_on_pieces() -> None:
    rng = random.Random(0)
    for _ in range(500):
        text = "".join(rng.choices("abc", k=rng.randrange(12)))
        strings = ["".join(rng.choices("abc", k=rng.randrange(1, 4))) for _ in range(2)]
        # The first one to be complete, wherever it began.
        places = [
            (text.find(each) + len(each), text.find(each)) for each in strings if each in text
        ]
        want = text[: min(places)[1]] if places else text
        watch, said, is_cut = StopStringWatch(strings), "", False
        rest = text
        while rest and not is_cut:
            size = rng.randrange(1, 4)
            piece, is_cut = watch.feed(rest[:size])
            said, rest = said + piece, rest[size:]
            # What is said can never be taken back.
            assert want.startswith(said)
        assert is_cut == bool(places)
        assert said + watch.flush() == want


def test_streams_have_their_own_numbers() -> None:
    pairs = {random_stream(seed, index) for seed in (-1, 0, 1, 1 << 62) for index in range(50)}
    assert len(pairs) == 200
    assert all(0 <= number < 1 << 32 for pair in pairs for number in pair)
    assert random_stream(3, 1) == random_stream(3, 1)
