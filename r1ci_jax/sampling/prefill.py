"""The prefill calls that write tokens to the cache: which piece of a row goes into which call."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    """Tokens of one slot that one call writes."""

    slot: int
    tokens: tuple[int, ...]
    position: int
    """Of the first token."""


class Call(NamedTuple):
    """One call of the prefill program."""

    bucket: int
    """Tokens that each row has room for."""
    rows: tuple[Piece | None, ...]
    """None is padding."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefillShape:
    """The shapes that are compiled."""

    buckets: tuple[int, ...]
    shards: int
    """Parts of the mesh that slots are sharded over."""
    rows_per_shard: int

    def calls(self, rows: Iterable[Piece], shard_of: Callable[[int], int]) -> list[Call]:
        """Write rows of any length, the first tokens of each first.

        Each piece goes into the smallest bucket that fits. So which tokens a call computes together
        in a row depends on that row alone, and no bit of it on the others.
        """
        rows = list(rows)
        longest = self.buckets[-1]
        found = []
        for first in range(0, max((len(row.tokens) for row in rows), default=0), longest):
            pieces = [
                Piece(row.slot, row.tokens[first:][:longest], row.position + first)
                for row in rows
                if len(row.tokens) > first
            ]
            found += self._group(pieces, shard_of)
        return found

    def _group(self, pieces: Sequence[Piece], shard_of: Callable[[int], int]) -> list[Call]:
        """Group pieces by bucket.

        A row lies in the shard of its slot's pages: the calls' rows are those of the first shard,
        then those of the second, and so on.
        """
        grouped: dict[int, list[list[Piece]]] = {
            bucket: [[] for _ in range(self.shards)] for bucket in self.buckets
        }
        for piece in pieces:
            bucket = next(bucket for bucket in self.buckets if len(piece.tokens) <= bucket)
            grouped[bucket][shard_of(piece.slot)].append(piece)
        calls = []
        for bucket, waiting in grouped.items():
            size = self.rows_per_shard
            for first in range(0, max(map(len, waiting)), size):
                rows: list[Piece | None] = []
                for members in waiting:
                    chosen = members[first : first + size]
                    rows += [*chosen, *[None] * (size - len(chosen))]
                calls.append(Call(bucket, tuple(rows)))
        return calls
