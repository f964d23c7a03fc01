"""Stop strings of a request: they end an answer, wherever token and chunk borders fall."""

from collections.abc import Sequence


class StopStringWatch:
    """Reads a text piece by piece, and holds back what may be the beginning of a stop string."""

    def __init__(self, strings: Sequence[str]) -> None:
        assert all(strings), "an empty stop string"
        self._strings = tuple(strings)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Return what is certain to precede any stop string, and True if one is complete."""
        held = self._held + text
        # The one that is complete first ends the text: what follows would not have been written.
        found = [(held.find(string), string) for string in self._strings if string in held]
        if found:
            self._held = ""
            start, _ = min(found, key=lambda each: (each[0] + len(each[1]), each[0]))
            return held[:start], True
        kept = max((_overlap(held, string) for string in self._strings), default=0)
        self._held = held[len(held) - kept :]
        return held[: len(held) - kept], False

    def flush(self) -> str:
        """Return what was held back: the text has ended, or another writer goes on."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of `text` that begins `string`, and is not all of it."""
    lengths = range(min(len(string) - 1, len(text)), 0, -1)
    return next((size for size in lengths if text.endswith(string[:size])), 0)
