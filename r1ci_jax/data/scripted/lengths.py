"""Lengths of demonstrations: what measures them, and which ones of a task are to be shorter.

No demonstration is longer than `demonstrations.max_tokens`, and half of a task's are no longer than
`demonstrations.median_tokens`: as many of the longest as it takes are written again as kind `code`
with the teacher's shortest script, and without words before it if that does not suffice. Where that
is too long as well, the median stays what it is, and what exceeds the maximum is rejected.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import progress
from r1ci_jax.text import prompts
from r1ci_jax.text import tokenizer as tokenizers

_PIECE: Final = re.compile(r"\d| (?=\d)|[^\W\d_]{1,6}|[^\w\s]{1,2}|_|\n")
"""About a token of a large vocabulary: a digit, the blank before one, a short word, two signs."""
_MARGIN: Final = 1.15
"""A long demonstration has fewer tokens of Qwen2.5 than this for each of its pieces."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LengthMeasure:
    """Measures demonstrations, in the tokens of one tokenizer or by an estimate."""

    name: str
    count: Callable[[str], int]

    def length(self, demonstration: Demonstration) -> int:
        """Return the tokens of all turns and observations, without the prompts."""
        guide = prompts.PAPER_INSTRUCTIONS[prompts.GUIDE]
        texts = [segment.text for segment in demonstration.segments if segment.text != guide]
        return sum(self.count(text) for text in texts)


ESTIMATE: Final = LengthMeasure(
    name="estimate", count=lambda text: round(_MARGIN * len(_PIECE.findall(text)))
)
"""For experiments whose tokenizer is trained later, or cannot be loaded here."""


def measure(tokenizer: str, *, is_required: bool = False) -> LengthMeasure:
    """Return the measure of a tokenizer, by directory or hub id; the estimate if there is none.

    Raises:
        UserError: `is_required`, and it cannot be loaded.
    """
    if not tokenizer:
        return ESTIMATE
    try:
        loaded = tokenizers.load(tokenizer)
    except UserError as error:
        if is_required:
            raise
        progress.warn(f"lengths of demonstrations are estimated: {error}")
        return ESTIMATE
    return LengthMeasure(name=tokenizer, count=lambda text: len(loaded.encode(text)))


def too_long(
    lengths: Mapping[int, int], done: Collection[int], *, most: int, median: int
) -> list[int]:
    """Return which demonstrations are to be written shorter, by their numbers.

    Args:
        lengths: The lengths of a task's demonstrations.
        done: The numbers of those that are written as short as possible already.
        most: The longest that a demonstration may be.
        median: The longest that half of them may be.
    """
    beyond = sorted((n for n in lengths if lengths[n] > median), key=lambda n: (-lengths[n], n))
    excess = max(len(beyond) - (len(lengths) - 1) // 2, 0)
    able = [number for number in beyond if number not in done]
    longest = [number for number in able if lengths[number] > most]
    return sorted({*longest, *able[:excess]})
