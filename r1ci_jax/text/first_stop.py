"""Where sampling would first have stopped in a text that somebody else has written."""

import functools

from r1ci_jax.text import protocol
from r1ci_jax.text.protocol import Stop


def encoded(text: str) -> bytes:
    """Return the bytes that the tokenizer sees: half of a surrogate pair has none of its own."""
    return text.encode("utf-8", "replace")


def find(text: str) -> tuple[Stop, int]:
    """Return the reason and the byte count at which sampling would first have stopped."""
    next_state, stops, state = _machine()
    data = encoded(text)
    for size, byte in enumerate(data, start=1):
        state = next_state[state][byte]
        if stops[state]:
            return Stop(stops[state]), size
    return Stop.NONE, len(data)


def split_turn(text: str) -> tuple[str, Stop, str]:
    """Split a text into its first model turn, the reason why that ends, and the rest."""
    stop, size = find(text)
    data = encoded(text)
    # A stop is at a backtick or an angle bracket, so no character is cut in two.
    return data[:size].decode("utf-8"), stop, data[size:].decode("utf-8")


@functools.cache
def _machine() -> tuple[list[list[int]], list[int], int]:
    """Return the automaton that ends sampling, as lists, which are faster to step through."""
    machine = protocol.stop_machine()
    return machine.next_state_AX.tolist(), machine.stop_A.tolist(), machine.start
