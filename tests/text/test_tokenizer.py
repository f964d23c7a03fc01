"""Laws of the tokenizers: exact round trips, no control ids from text, the same ids everywhere."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from r1ci_jax.errors import UserError
from r1ci_jax.text import tokenizer

ROOT = Path(__file__).parents[2]
QWEN = ROOT.parent / "shared" / "data" / "qwen2.5_tokenizer"

TEXTS = [
    f"What is {n} * {n + 7}?\n```python\nprint({n} * {n + 7})\n```\nIt is <<<{n * (n + 7)}>>>.\n"
    for n in range(200)
]
HOSTILE = (
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|file_sep|>",
    "<|im_end",
    "|>",
)
_pieces = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=8),
    st.sampled_from(["\r\n", "\t", "  ", "1234", "```python\n", "e\u0301", "\x00\x1b[0m", "日本"]),
)
hostile_texts = st.lists(_pieces, max_size=8).map("".join)


@pytest.fixture(scope="module")
def toy() -> tokenizer.Tokenizer:
    return tokenizer.train_byte_bpe(TEXTS, 400)


@pytest.fixture(scope="module")
def qwen() -> tokenizer.Tokenizer:
    if not QWEN.is_dir():
        pytest.skip(f"NOT TESTED: the Qwen2.5 tokenizer is absent ({QWEN})")
    return tokenizer.load(str(QWEN))


@pytest.fixture(scope="module")
def qwen_added(qwen: tokenizer.Tokenizer) -> set[int]:
    definition = json.loads((QWEN / "tokenizer.json").read_text(encoding="utf-8"))
    return {entry["id"] for entry in definition["added_tokens"]}


@given(text=hostile_texts)
@settings(max_examples=200, deadline=None)
def test_toy_round_trip_is_exact_and_free_of_control_ids(
    toy: tokenizer.Tokenizer, text: str
) -> None:
    ids = toy.encode(text)
    assert toy.decode(ids) == text
    assert toy.decode_bytes(ids) == text.encode("utf-8")
    assert not {toy.eos_id, toy.pad_id, toy.im_start_id} & set(ids)


@given(text=hostile_texts)
@settings(max_examples=200, deadline=None)
def test_qwen_round_trip_is_exact_up_to_nfc_and_free_of_added_ids(
    qwen: tokenizer.Tokenizer, qwen_added: set[int], text: str
) -> None:
    ids = qwen.encode(text)
    assert qwen.decode(ids) == unicodedata.normalize("NFC", text)
    assert not set(ids) & qwen_added


def test_qwen_ids_of_the_chat_tokens(qwen: tokenizer.Tokenizer) -> None:
    assert (qwen.pad_id, qwen.im_start_id, qwen.eos_id) == (151643, 151644, 151645)
    assert qwen.vocab_size == 151665
    assert qwen.decode([151644, 151657, 151645]) == "<|im_start|><tool_call><|im_end|>"


def test_qwen_ids_equal_the_reference_implementation(qwen: tokenizer.Tokenizer) -> None:
    reference = transformers.AutoTokenizer.from_pretrained(QWEN)
    samples = [
        *TEXTS[:20],
        "don't  stop\n\n\n  x = [1,\t2]\r\n",
        "naïve e\u0301 日本語 🎉",
        "",
        " ",
    ]
    for text in samples:
        assert qwen.encode(text) == reference.encode(text, add_special_tokens=False)
    for index in range(0, qwen.vocab_size, 101):
        assert qwen.decode([index]) == reference.decode([index])


def test_bytes_of_ids_cover_every_byte(toy: tokenizer.Tokenizer) -> None:
    table = toy.token_bytes()
    assert len(table) == toy.vocab_size
    assert {bytes([byte]) for byte in range(256)} <= set(table)
    assert table[toy.eos_id] == b"<|im_end|>"
    assert toy.decode([table.index(b"\xff")]) == "\ufffd"


def test_lone_surrogates_do_not_stop_encoding(toy: tokenizer.Tokenizer) -> None:
    assert toy.decode(toy.encode("a\ud800b")) == "a?b"


def test_toy_splits_numbers_into_single_digits(toy: tokenizer.Tokenizer) -> None:
    assert [toy.decode([index]) for index in toy.encode("1234")] == ["1", "2", "3", "4"]
    assert not any(
        len(data) > 1 and any(byte in b"0123456789" for byte in data) for data in toy.token_bytes()
    )


def test_toy_learns_merges(toy: tokenizer.Tokenizer) -> None:
    assert toy.vocab_size <= 400
    assert len(toy.encode("```python\nprint(")) < 8


def test_training_is_the_same_in_every_process() -> None:
    script = (
        "from r1ci_jax.text import tokenizer\n"
        "words = [f'{a}{b} {b}{a}' for a in 'abcdefg' for b in 'hijklmn']\n"
        "made = tokenizer.train_byte_bpe(words, 320)\n"
        "print(made.token_bytes())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_saved_tokenizer_is_read_back_by_us_and_by_transformers(
    toy: tokenizer.Tokenizer, tmp_path: Path
) -> None:
    toy.save(tmp_path / "new" / "folder")
    again = tokenizer.load(str(tmp_path / "new" / "folder"))
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path / "new" / "folder")
    assert again.token_bytes() == toy.token_bytes()
    assert (again.eos_id, again.pad_id, again.im_start_id) == (
        toy.eos_id,
        toy.pad_id,
        toy.im_start_id,
    )
    assert (reference.eos_token_id, reference.pad_token_id) == (toy.eos_id, toy.pad_id)
    assert len(reference) == toy.vocab_size
    for text in TEXTS[:20]:
        assert again.encode(text) == toy.encode(text)
        assert reference.encode(text, add_special_tokens=False) == toy.encode(text)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_template_in_its_own_file_is_kept(toy: tokenizer.Tokenizer, tmp_path: Path) -> None:
    toy.save(tmp_path / "a")
    (tmp_path / "a" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    tokenizer.load(str(tmp_path / "a")).save(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    assert config["chat_template"] == "{{ messages[0].content }}"


def _edited(toy: tokenizer.Tokenizer, folder: Path, **changes: object) -> str:
    toy.save(folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(folder)


def test_wrong_input_is_one_clear_line(toy: tokenizer.Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a directory nor"):
        tokenizer.load("no tokenizer here!")
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        tokenizer.load(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text('{"half')
    with pytest.raises(UserError, match=r"is not JSON.*fetch the tokenizer again"):
        tokenizer.load(str(tmp_path))
    with pytest.raises(UserError, match="not a byte-level BPE"):
        tokenizer.load(_edited(toy, tmp_path / "decoder", decoder={"type": "WordPiece"}))
    with pytest.raises(UserError, match=r"no <\|endoftext\|> token"):
        tokenizer.load(_edited(toy, tmp_path / "specials", added_tokens=[]))
    with pytest.raises(UserError, match="259 or more"):
        tokenizer.train_byte_bpe(TEXTS, 258)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        toy.save(tmp_path / "file")


@pytest.mark.parametrize(
    ("definition", "part"),
    [
        ("[" * 100_000, "nested more than 100 levels"),
        ('{"a": "\\ud800', "is not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "byte-level"),
        ('{"model": {"type": "BPE"}, "decoder": {"type": "ByteLevel"}}', "damaged"),
    ],
)
def test_a_broken_definition_is_one_line(tmp_path: Path, definition: str, part: str) -> None:
    (tmp_path / "tokenizer.json").write_text(definition)
    with pytest.raises(UserError, match=part) as caught:
        tokenizer.load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_half_of_a_surrogate_pair_in_a_token_is_one_line(tmp_path: Path) -> None:
    tokenizer.train_byte_bpe(["ab"], 300).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    definition = json.loads(path.read_text())
    definition["added_tokens"][0]["content"] = "\ud800"
    path.write_text(json.dumps(definition))
    with pytest.raises(UserError, match=r"tokenizer"):
        tokenizer.load(str(tmp_path))
