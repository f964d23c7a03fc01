"""Host side of the cache's pages: who owns which page, and what may be given up for others.

A page holds the keys and values of `page_length` positions. A slot takes pages as its trajectory
grows. A prompt's pages are shared by all slots that start with it; only the page in which it ends
is copied, because each slot continues in it. When memory is short, the rows of ended trajectories
go first, then prompts that no slot uses, the oldest first. All choices depend on the order of the
calls alone.

The pool is split into shards, one for each part of the mesh that slots are sharded over. A slot
takes pages of its own shard only. Pages are numbered across shards.
"""

import collections
import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from r1ci_jax.config import SamplerConfig
from r1ci_jax.errors import UserError

type Prompt = tuple[int, ...]

PAGE_LENGTH = 64
"""Positions of a page, unless `sampler.page_length` says otherwise."""

WHOLE_ROWS = 512
"""Rows up to this long are one page each: looking pages up costs more than it saves there. It is
the first segment of a longer whole row, too, which every step reads."""


class PageCopy(NamedTuple):
    """The first tokens of a page are copied to another."""

    source: int
    target: int
    num_tokens: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheLayout:
    """Numbers of pages that follow from the sampler's settings and the mesh."""

    shards: int
    """Parts of the mesh that slots and pages are sharded over."""
    pages_per_shard: int
    pages_per_row: int
    page_length: int
    """Positions of a page."""
    prefill_rows_per_shard: int

    @classmethod
    def of(cls, sampler: SamplerConfig, shards: int, *, platform: str) -> "CacheLayout":
        """Lay out `sampler.cache_tokens`, or full rows for all slots, in pages.

        Args:
            sampler: The sampler's settings.
            shards: Parts of the mesh that slots are sharded over.
            platform: Of the devices, such as "cpu", which reads whole rows faster than pages.

        Raises:
            UserError: A shard's part is smaller than a row.
        """
        is_short = sampler.cache_length <= WHOLE_ROWS or platform == "cpu"
        has_whole_rows = is_short and not sampler.cache_tokens
        width = sampler.page_length or (sampler.cache_length if has_whole_rows else PAGE_LENGTH)
        width = min(width, sampler.cache_length)
        pages_per_row = -(-sampler.cache_length // width)
        pages = sampler.cache_tokens // width or sampler.slots * pages_per_row
        if pages // shards < pages_per_row:
            raise UserError(
                f"sampler.cache_tokens = {sampler.cache_tokens} in {shards} parts of the mesh is "
                f"less than one row of sampler.cache_length = {sampler.cache_length} tokens for "
                f"each; set it to {shards * pages_per_row * width} at least, or to 0"
            )
        return cls(
            shards=shards,
            pages_per_shard=pages // shards,
            pages_per_row=pages_per_row,
            page_length=width,
            prefill_rows_per_shard=-(-sampler.prefill_rows // shards),
        )

    @property
    def num_pages(self) -> int:
        """Pages of all shards."""
        return self.shards * self.pages_per_shard

    def has_whole_rows(self, slots: int) -> bool:
        """True if slot s owns page s and no other, so that a step need not look pages up."""
        return self.pages_per_row == 1 and self.num_pages == slots

    def segments(self, slots: int) -> tuple[int, ...]:
        """Return the positions of a page, or those of a whole row in segments that double."""
        if not self.has_whole_rows(slots) or self.page_length <= WHOLE_ROWS:
            return (self.page_length,)
        ends = [WHOLE_ROWS]
        while ends[-1] < self.page_length:
            ends.append(min(2 * ends[-1], self.page_length))
        return tuple(end - begin for begin, end in itertools.pairwise([0, *ends]))

    @property
    def row_length(self) -> int:
        """Positions of a row's table; a position of this or more is padding."""
        return self.pages_per_row * self.page_length

    def page_table(self, slots: int) -> "PageTable":
        """Return a table in which all pages are free."""
        return PageTable(
            slots=slots,
            shards=self.shards,
            pages_per_shard=self.pages_per_shard,
            pages_per_row=self.pages_per_row,
            page_length=self.page_length,
            whole_rows=self.has_whole_rows(slots),
        )


class PageTable:
    """The pages of every slot, with reference counts."""

    def __init__(
        self,
        *,
        slots: int,
        shards: int,
        pages_per_shard: int,
        pages_per_row: int,
        page_length: int,
        whole_rows: bool = False,
    ) -> None:
        """All pages are free. With `whole_rows`, slot s can have page s and no other."""
        assert slots % shards == 0, "shards have equally many slots"
        assert pages_per_shard >= pages_per_row, "a shard holds at least one full row"
        self.page_length = page_length
        self._whole_rows = whole_rows
        self._slots_per_shard = slots // shards
        self._pages_per_shard = pages_per_shard
        self._rows: list[list[int]] = [[] for _ in range(slots)]
        self._num_uses = [0] * (shards * pages_per_shard)
        self._free = [
            list(range((shard + 1) * pages_per_shard - 1, shard * pages_per_shard - 1, -1))
            for shard in range(shards)
        ]
        self._idle: dict[int, None] = {}
        """Slots whose trajectory has ended, oldest first: their pages may be given up."""
        self._prompts: list[collections.OrderedDict[Prompt, list[int]]] = [
            collections.OrderedDict() for _ in range(shards)
        ]
        """Pages that start with a prompt, by shard, oldest first. Each holds one use of them."""
        self._pinned: list[int] = []
        """Pages that are yet to be copied: no slot may take them before `unpin`."""
        self.table = np.full((slots, pages_per_row), self.num_pages, np.int32)
        """Pages of each slot [S, J]; `num_pages` where it has none."""

    @property
    def num_pages(self) -> int:
        """Pages of all shards."""
        return len(self._num_uses)

    @property
    def num_used(self) -> int:
        """Pages that hold something."""
        return self.num_pages - sum(map(len, self._free))

    def shard_of(self, slot: int) -> int:
        """Return the shard that a slot lies in."""
        return slot // self._slots_per_shard

    def pages_for(self, num_tokens: int) -> int:
        """Return how many pages hold so many positions."""
        return -(-num_tokens // self.page_length)

    def holds(self, slot: int, num_tokens: int) -> bool:
        """True if the slot has pages for so many positions."""
        return len(self._rows[slot]) >= self.pages_for(num_tokens)

    def grow(self, slot: int, num_tokens: int) -> bool:
        """Give the slot pages for so many positions; False, and nothing changes, if short."""
        self._idle.pop(slot, None)
        row = self._rows[slot]
        pages = self._take(slot, self.pages_for(num_tokens) - len(row))
        if pages is None:
            return False
        row.extend(pages)
        self._show(slot)
        return True

    def start(
        self, slot: int, num_tokens: int, prompt: Prompt, *, spare: int = 0
    ) -> list[PageCopy] | None:
        """Give the slot a new row with pages for so many positions, if `spare` more are left.

        If the shard holds the prompt, the row shares its full pages. The copy that is returned then
        brings the page in which the prompt ends. If another shard holds it, all of its pages are to
        be copied. The sources stay as they are until `unpin`. Returns None if memory is short, and
        the slot has no pages then.
        """
        self.release(slot)
        shard = self.shard_of(slot)
        known = self._prompts[shard].get(prompt, [])
        num_shared = len(prompt) // self.page_length if known else 0
        source = known[num_shared:] or next(
            (found[prompt] for found in self._prompts if prompt in found and not known), []
        )
        if self._whole_rows and source == [slot]:
            source = []  # it is there already
        # Used from here on, so that taking pages does not give up what the row needs.
        pinned, shared = self._use(source), self._use(known[:num_shared])
        pages = self._take(slot, self.pages_for(num_tokens) - num_shared, spare)
        if pages is None:
            self._drop(pinned)
            self._drop(shared)
            return None
        self._pinned += pinned
        self._rows[slot] = shared + pages
        self._show(slot)
        if prompt in self._prompts[shard]:
            self._prompts[shard].move_to_end(prompt)
        num_left = len(prompt) - num_shared * self.page_length
        return [
            PageCopy(*pair, num_tokens=min(self.page_length, num_left - number * self.page_length))
            for number, pair in enumerate(zip(source, pages, strict=False))
        ]

    def unpin(self) -> None:
        """Note that the device has been given all copies so far."""
        self._drop(self._pinned)
        self._pinned = []

    def keep_prompt(self, slot: int, prompt: Prompt) -> None:
        """Keep the prompt that the slot's row starts with, as long as there is memory."""
        known = self._prompts[self.shard_of(slot)]
        if prompt and prompt not in known:
            known[prompt] = self._use(self._rows[slot][: self.pages_for(len(prompt))])

    def has_prompt(self, prompt: Prompt) -> bool:
        """True if a shard holds the prompt."""
        return any(prompt in known for known in self._prompts)

    def forget_prompts(self) -> None:
        """Drop all prompts: they were computed with other weights."""
        for known in self._prompts:
            for pages in known.values():
                self._drop(pages)
            known.clear()

    def retire(self, slots: Sequence[int]) -> None:
        """Note that the slots' trajectories have ended: their pages may be given up."""
        for slot in slots:
            if self._rows[slot]:
                self._idle.pop(slot, None)
                self._idle[slot] = None

    def release(self, slot: int) -> None:
        """Take all pages from the slot."""
        self._idle.pop(slot, None)
        self._drop(self._rows[slot])
        self._rows[slot] = []
        self._show(slot)

    def _take(self, slot: int, count: int, spare: int = 0) -> list[int] | None:
        """Take free pages, after giving up what is not in use; None if fewer are left."""
        if count <= 0:
            return []
        shard = self.shard_of(slot)
        free = self._free[shard]
        if self._whole_rows:
            known = self._prompts[shard]
            for prompt in [prompt for prompt, pages in known.items() if pages == [slot]]:
                self._drop(known.pop(prompt))
            if self._num_uses[slot]:
                return None
            free.remove(slot)
            return self._use([slot])
        while len(free) < count + spare and self._give_up_one(shard):
            pass
        if len(free) < count + spare:
            return None
        return self._use([free.pop() for _ in range(count)])

    def _give_up_one(self, shard: int) -> bool:
        """Give up the oldest ended row of the shard, or its oldest prompt."""
        for slot in self._idle:
            if self.shard_of(slot) == shard:
                self.release(slot)
                return True
        if self._prompts[shard]:
            _, pages = self._prompts[shard].popitem(last=False)
            self._drop(pages)
            return True
        return False

    def _use(self, pages: Sequence[int]) -> list[int]:
        for page in pages:
            self._num_uses[page] += 1
        return list(pages)

    def _drop(self, pages: Sequence[int]) -> None:
        for page in reversed(pages):
            self._num_uses[page] -= 1
            assert self._num_uses[page] >= 0, "a page was dropped twice"
            if self._num_uses[page] == 0:
                self._free[page // self._pages_per_shard].append(page)

    def _show(self, slot: int) -> None:
        row = self._rows[slot]
        self.table[slot] = self.num_pages
        self.table[slot, : len(row)] = row
