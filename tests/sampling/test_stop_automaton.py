"""The token table stops where a plain search in the decoded bytes says so, for any tokenisation."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1ci_jax.sampling import stop_automaton
from r1ci_jax.text import protocol, tokenizer
from r1ci_jax.text.protocol import Stop

QWEN = Path(__file__).parents[3] / "shared" / "data" / "qwen2.5_tokenizer"

CORPUS = [
    f"Let me compute.\n```python\nprint({n} + 1)\n```\n\nSo <<<{n + 1}>>>.\n<<< >>> ``` `` x"
    for n in range(60)
]
SNIPPETS = (
    *("```python\n", "```python \t\n", "````python\n", "```python", "```py", "```python\r\n"),
    *("\n```", "```", "\n```\n", "\n````", "\r\n```", " ```", "``", "`", "\n", "\n\n"),
    *("<<<", ">>>", "<<<1>>>", "<<", ">>", "<", ">", "<<<<", ">>>>", "<<<```python\n"),
    *("   ```python\n", "\n   ```", "\n     ```", "```Python3 a\n", "answer", "<<<answer>>>", "- "),
    *("print('<<<7>>>')", "s = '```'", "x = 1 << 2 >> 3", "python", " ", "é🎉", "\x00", "So "),
)


def reference_stop(data: bytes) -> tuple[int, Stop]:
    """Returns the end of the first event and its kind, by searching the whole text."""
    opening = re.search(rb"```[ \t]*(?i:python|py)[\d.]*([ \t\r{:,][^`<>\n]*)?\n", data)
    answer_end = _first_answer_end(data)
    if answer_end and (not opening or answer_end < opening.end()):
        return answer_end, Stop.ANSWER
    if opening:
        before = data[: opening.start()].rpartition(b"\n")[2].rstrip(b"`")
        blanks = rb" {0,3}" if before in (b"", b" ", b"  ", b"   ") else rb"[ \t]*"
        if closing := re.search(rb"^" + blanks + rb"```", data[opening.end() :], re.MULTILINE):
            return opening.end() + closing.end(), Stop.CODE
    return len(data) + 1, Stop.NONE


def _first_answer_end(data: bytes) -> int:
    """Returns the end of the first innermost pair of marks; 0 if there is none."""
    floor = 0
    for end in range(3, len(data) + 1):
        start = data.rfind(b"<<<", floor, end - 3) + 3
        if data[end - 3 : end] == b">>>" and start >= 3 and end - 3 >= floor:
            if data[start : end - 3].strip(b" \t\r\n") != b"answer":
                return end
            floor = end
    return 0


class Vocabulary:
    """A vocabulary with its table, and ways to draw token sequences from it."""

    def __init__(self, made: tokenizer.Tokenizer) -> None:
        self.data = made.token_bytes()
        self.table = stop_automaton.token_table(protocol.stop_machine(), self.data)
        self.id_of = {data: index for index, data in enumerate(self.data)}
        self.longest = max(len(data) for data in self.data)
        marks = set(b"`<>")
        self.mark_ids = [index for index, data in enumerate(self.data) if marks & set(data)]

    def cut(self, text: bytes, rng: np.random.Generator) -> list[int]:
        """Returns one of the many tokenisations of `text`, chosen at random."""
        ids: list[int] = []
        while text:
            fits = [n for n in range(1, self.longest + 1) if text[:n] in self.id_of]
            length = int(rng.choice(fits))
            ids.append(self.id_of[text[:length]])
            text = text[length:]
        return ids

    def check(self, ids: Sequence[int]) -> bool:
        """Compares every prefix with the reference; tells whether a token straddled the stop."""
        end, kind = reference_stop(b"".join(self.data[index] for index in ids))
        state, position, straddles = self.table.start, 0, False
        for index in ids:
            straddles |= position < end < position + len(self.data[index])
            state = self.table.next_state_AV[state, index]
            position += len(self.data[index])
            expected = kind if position >= end else Stop.NONE
            assert self.table.stop_A[state] == expected, (ids, position, end)
        return straddles


@pytest.fixture(scope="module")
def toy() -> Vocabulary:
    return Vocabulary(tokenizer.train_byte_bpe(CORPUS, 340))


@pytest.fixture(scope="module")
def qwen() -> Vocabulary:
    if not QWEN.is_dir():
        pytest.skip(f"NOT TESTED: the Qwen2.5 tokenizer is absent ({QWEN})")
    return Vocabulary(tokenizer.load(str(QWEN)))


snippets = st.lists(st.sampled_from(SNIPPETS), max_size=10).map("".join)


@given(text=snippets, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=1000, deadline=None)
def test_any_tokenisation_of_adversarial_text_with_the_toy_vocabulary(
    toy: Vocabulary, text: str, seed: int
) -> None:
    toy.check(toy.cut(text.encode(), np.random.default_rng(seed)))


@given(text=snippets, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=1000, deadline=None)
def test_any_tokenisation_of_adversarial_text_with_the_qwen_vocabulary(
    qwen: Vocabulary, text: str, seed: int
) -> None:
    qwen.check(qwen.cut(text.encode(), np.random.default_rng(seed)))


def _check_random_sequences(vocabulary: Vocabulary, count: int) -> tuple[set[Stop], int]:
    """Mixes snippets, tokens with marks in them and any token; returns stops met and straddles."""
    rng = np.random.default_rng(7)
    met: set[Stop] = set()
    straddles = 0
    for _ in range(count):
        ids: list[int] = []
        for _ in range(rng.integers(1, 9)):
            draw = rng.random()
            if draw < 0.6:
                ids += vocabulary.cut(rng.choice(SNIPPETS).encode(), rng)
            elif draw < 0.9:
                ids.append(int(rng.choice(vocabulary.mark_ids)))
            else:
                ids.append(int(rng.integers(len(vocabulary.data))))
        straddles += vocabulary.check(ids)
        met.add(reference_stop(b"".join(vocabulary.data[index] for index in ids))[1])
    return met, straddles


def test_random_sequences_with_the_toy_vocabulary(toy: Vocabulary) -> None:
    met, straddles = _check_random_sequences(toy, 3000)
    assert met == set(Stop)
    assert straddles > 10


def test_random_sequences_with_the_qwen_vocabulary(qwen: Vocabulary) -> None:
    met, straddles = _check_random_sequences(qwen, 10_000)
    assert met == set(Stop)
    assert straddles > 10


def test_the_table_covers_the_qwen_vocabulary(qwen: Vocabulary) -> None:
    states = len(protocol.stop_machine().stop_A)
    assert qwen.table.next_state_AV.shape == (states, 151665)
    assert qwen.table.next_state_AV.dtype == np.int16


def test_table_equals_the_machine_run_byte_by_byte(toy: Vocabulary) -> None:
    machine = protocol.stop_machine()
    for state in range(len(machine.stop_A)):
        for index, data in enumerate(toy.data):
            assert toy.table.next_state_AV[state, index] == protocol.run(machine, data, state)


def test_a_token_that_straddles_the_closing_fence_stops() -> None:
    machine = protocol.stop_machine()
    pieces = [b"```python\nx", b"\n``", b"`\n\nSo", b"1)\n```\n<<<2>>>"]
    table = stop_automaton.token_table(machine, pieces)
    opened = table.next_state_AV[table.start, 0]
    assert table.stop_A[opened] == Stop.NONE
    assert table.stop_A[table.next_state_AV[table.next_state_AV[opened, 1], 2]] == Stop.CODE
    assert table.stop_A[table.next_state_AV[opened, 3]] == Stop.CODE


def test_a_token_without_bytes_keeps_every_state() -> None:
    machine = protocol.stop_machine()
    table = stop_automaton.token_table(machine, [b"", b"<"])
    assert (table.next_state_AV[:, 0] == np.arange(len(machine.stop_A))).all()
    assert stop_automaton.token_table(machine, []).next_state_AV.shape == (len(machine.stop_A), 0)
