"""Stop conditions over tokens, compiled from an automaton over bytes.

Text may reach a stop mark through many tokenizations, and a token may straddle it. Running every
token's bytes through the byte automaton from every state gives one table. Inside the decode loop
`state = table[state, token]` is then exact and does not leave the device. The caller defines the
automaton: this module knows states, not code blocks or answers.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class ByteAutomaton(Protocol):
    """An automaton over bytes stays in a state with a nonzero stop on every byte."""

    @property
    def next_state_AX(self) -> np.ndarray:
        """Return the state after a byte, as int16 [states, 256]."""
        ...

    @property
    def stop_A(self) -> np.ndarray:
        """Return int8 [states]; zero continues, any other value is the reason to stop."""
        ...

    @property
    def start(self) -> int:
        """Return the state before the first byte."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenTable:
    """The same automaton over tokens."""

    next_state_AV: np.ndarray
    """The state after a token is int16 [states, vocabulary]."""
    stop_A: np.ndarray
    """The stops are int8 [states], as in `ByteAutomaton`."""
    start: int


def token_table(machine: ByteAutomaton, token_bytes: Sequence[bytes]) -> TokenTable:
    """Compile the automaton over tokens; a token without bytes keeps every state."""
    states, _ = machine.next_state_AX.shape
    stops = np.flatnonzero(machine.stop_A)
    assert (machine.next_state_AX[stops] == stops[:, None]).all(), "a stop state can be left"

    # Most bytes behave alike in every state. Tokens whose bytes do are run once: "words" here.
    next_by_kind, kind_of_byte = np.unique(machine.next_state_AX, axis=1, return_inverse=True)
    kinds = kind_of_byte.reshape(-1).astype(np.uint8).tobytes()
    word_of: dict[bytes, int] = {}
    word_V = [word_of.setdefault(data.translate(kinds), len(word_of)) for data in token_bytes]

    # Sort longest first, so that the words with a byte at some position are a leading slice.
    words = sorted(word_of, key=len, reverse=True)
    lengths = np.array([len(word) for word in words], np.int64)
    starts = np.cumsum(lengths) - lengths
    flat_kinds = np.frombuffer(b"".join(words), np.uint8)

    kind_next = np.ascontiguousarray(next_by_kind.T)
    word_states = np.tile(np.arange(states, dtype=np.int16), (len(words), 1))
    for position in range(lengths.max(initial=0)):
        running = int(np.count_nonzero(lengths > position))
        kinds_here = flat_kinds[starts[:running] + position]
        word_states[:running] = kind_next[kinds_here[:, None], word_states[:running]]

    row_of_word = np.empty(len(words), np.int64)
    row_of_word[[word_of[word] for word in words]] = np.arange(len(words))
    next_state_AV = np.take(np.ascontiguousarray(word_states.T), row_of_word[word_V], axis=1)
    return TokenTable(next_state_AV=next_state_AV, stop_A=machine.stop_A, start=machine.start)
