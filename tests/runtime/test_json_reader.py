"""Foreign JSON is read, or refused in one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader, metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.text import tokenizer

REFUSED = {
    "a deep list": (b"[" * 10_000 + b"]" * 10_000, "nested more than 100"),
    "a deep object": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested more than 100"),
    "deep enough for the parser": (b"[" * 500 + b"]" * 500, "nested more than 100"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8 (byte 7)"),
    "zeros": (b"\0" * 9, "not JSON"),
    "nothing": (b"", "not JSON"),
    "half": (b'{"a": ', "not JSON"),
    "a number of 6,000 digits": (b"9" * 6000, "not JSON"),
    "half a character": (b'{"a": ["\\ud800"]}', "half a character"),
    "half a character as a key": (b'{"\\udfff": 1}', "half a character"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(json_reader.JsonError) as caught:
        json_reader.parse(data, "file.json")
    assert message in str(caught.value) and str(caught.value).startswith("file.json ")
    assert isinstance(caught.value, UserError) and len(str(caught.value).splitlines()) == 1


def test_what_can_be_used_is_read(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True, "é\u2028\0 \U0001f600"], "b": {"c": []}}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert json_reader.parse(text.encode("utf-8"), "here") == value
    nested = "[" * json_reader.MAX_DEPTH + "]" * json_reader.MAX_DEPTH
    assert json.dumps(json_reader.parse(nested, "here")) == nested
    assert json_reader.parse('"\\ud800"', "a log of ours", allow_surrogates=True) == "\ud800"


def test_no_file_is_parsed_another_way() -> None:
    package = Path(metrics.__file__).parents[1]
    others = re.compile(r"json\.loads?\([^)]*(read_text|read_bytes|open)\b")
    found = [
        path.name
        for path in package.rglob("*.py")
        if "sandbox" not in path.parts and others.search(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("data", [data for data, _ in REFUSED.values()], ids=REFUSED)
def test_every_file_is_read_that_way(tmp_path: Path, data: bytes) -> None:
    for name in ("config.json", "tokenizer.json", "log.jsonl"):
        (tmp_path / name).write_bytes(data + b"\n")
    readers: list[Callable[[], object]] = [
        lambda: RunDir.view(tmp_path),
        lambda: tokenizer.load(str(tmp_path)),
    ]
    if b"\\ud" not in data:  # our own logs hold whatever a script printed
        readers.append(lambda: metrics.read(tmp_path / "log.jsonl"))
    for read in readers:
        with pytest.raises(UserError) as caught:
            read()
        assert len(str(caught.value).splitlines()) == 1
    assert not RunDir.is_at(tmp_path)
