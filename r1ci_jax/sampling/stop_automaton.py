"""Stop conditions over tokens, compiled from an automaton over bytes.

Text may reach a stop mark through many tokenisations, and a token may straddle it. Running every
token's bytes through the byte automaton from every state gives one table; inside the decode loop
`state = table[state, token]` then decides exactly, without leaving the device. What the automaton
recognises is the caller's business: this module knows states, not code blocks or answers.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np


class ByteAutomaton(Protocol):
    """An automaton over bytes; a state with a non-zero stop keeps itself on every byte."""

    @property
    def next_state_AX(self) -> np.ndarray:
        """[states, 256] int16: the state after a byte."""
        ...

    @property
    def stop_A(self) -> np.ndarray:
        """[states] int8: zero goes on, anything else is the reason to stop."""
        ...

    @property
    def start(self) -> int:
        """The state before the first byte."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenTable:
    """The same automaton over tokens."""

    next_state_AV: np.ndarray
    """[states, vocabulary] int16: the state after a token."""
    stop_A: np.ndarray
    """[states] int8: as in `Machine`."""
    start: int


def token_table(machine: ByteAutomaton, token_bytes: Sequence[bytes]) -> TokenTable:
    """Returns the automaton over tokens; a token without bytes keeps every state."""
    states, _ = machine.next_state_AX.shape
    stops = np.flatnonzero(machine.stop_A)
    assert (machine.next_state_AX[stops] == stops[:, None]).all(), "a stop state can be left"

    # Longest first: the tokens that still have a byte at some position are then a leading slice.
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
