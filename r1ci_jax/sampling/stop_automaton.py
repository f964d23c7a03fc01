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

    # Sort longest first, so that the tokens with a byte at some position are a leading slice.
    lengths_V = np.array([len(data) for data in token_bytes], np.int64)
    order_V = np.argsort(-lengths_V, kind="stable")
    starts_V = np.cumsum(lengths_V) - lengths_V
    flat_bytes = np.frombuffer(b"".join(token_bytes), np.uint8)

    next_state_XA = np.ascontiguousarray(machine.next_state_AX.T)
    state_VA = np.tile(np.arange(states, dtype=np.int16), (len(token_bytes), 1))
    for position in range(lengths_V.max(initial=0)):
        running = int(np.count_nonzero(lengths_V > position))
        bytes_V = flat_bytes[starts_V[order_V[:running]] + position]
        state_VA[:running] = next_state_XA[bytes_V[:, None], state_VA[:running]]

    next_state_AV = np.empty((states, len(token_bytes)), np.int16)
    next_state_AV[:, order_V] = state_VA.T
    return TokenTable(next_state_AV=next_state_AV, stop_A=machine.stop_A, start=machine.start)
