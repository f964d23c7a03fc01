"""Follow a hand of letter cards through rounds and classify the card that the last round adds."""

import dataclasses
import json
import random
import re
import string
from collections.abc import Sequence
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench.symbench_task import (
    ReleasedItem,
    SymbenchTask,
    read_field,
    right_verdict,
    wrong_verdict,
)

RELEASED_DEFECTS: Final[dict[str, int]] = {
    "a run is missed because one of its letters is held twice": 5,
    "a run is judged Chi though the question knows only Pass and Peng": 3,
    "a run goes beyond Z to a card that is no letter": 1,
}

PASS: Final = 0
PENG: Final = 1
CHI: Final = 2

_NAMES: Final = ("Pass", "Peng", "Chi")
_HAND: Final = 13
_ROUNDS: Final = {1: 1, 2: 2, 3: 4, 4: 7, 5: 12}

_MISLEADING: Final = 0.6
"""The fraction of questions whose last card the first hand would classify differently."""

_ROUND = re.compile(r"^Round \d+: Add an? (\S) card(?: and remove an? (\S) card)?", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """A hand and its changes."""

    hand: str
    rounds: tuple[tuple[str, str], ...]
    """The added and the removed card of each round; nothing is removed in the last one."""


def resolve_card(hand: Sequence[str], card: str, *, runs: bool = True) -> int:
    """Return the effect of the added card on the hand; a run has letters only."""
    if hand.count(card) >= 2:
        return PENG
    place = string.ascii_uppercase.find(card)
    if not runs or place < 0:
        return PASS
    held = {string.ascii_uppercase.find(letter) for letter in hand} - {-1}
    pairs = ((place - 2, place - 1), (place - 1, place + 1), (place + 1, place + 2))
    return CHI if any(held.issuperset(pair) for pair in pairs) else PASS


def _released_result(hand: Sequence[str], card: str) -> int:
    """Return the effect by the release's own rules.

    They see a run only where its three cards are next to each other in the sorted hand, in any
    question and also beyond the alphabet.
    """
    if hand.count(card) >= 2:
        return PENG
    row = sorted([*map(ord, hand), ord(card)])
    triples = zip(row, row[1:], row[2:], strict=False)
    return (
        CHI if any(b - a == c - b == 1 and ord(card) in (a, b, c) for a, b, c in triples) else PASS
    )


def final_hand(game: Game) -> list[str] | None:
    """Return the hand before the last card; None where a removed card is not in the hand."""
    hand = list(game.hand)
    for added, removed in game.rounds[:-1]:
        hand.append(added)
        if removed not in hand:
            return None
        hand.remove(removed)
    return hand


def _make_game(rounds: int, rng: random.Random) -> Game:
    letters = string.ascii_uppercase
    first = "".join(rng.choices(letters, k=_HAND))
    hand = list(first)
    played: list[tuple[str, str]] = []
    for _ in range(rounds - 1):
        added = rng.choice(letters)
        hand.append(added)
        removed = hand.pop(rng.randrange(len(hand)))
        played.append((added, removed))
    return Game(hand=first, rounds=(*played, (rng.choice(letters), "")))


def _question(game: Game) -> str:
    *earlier, (last, _) = game.rounds
    lines = [f"Round {n}: add {a}, then remove {r}" for n, (a, r) in enumerate(earlier, 1)]
    lines.append(f"Round {len(game.rounds)}: add {last}")
    played = "\n".join(lines)
    return (
        f"A player holds {_HAND} cards, each with a letter from A to Z; several cards may have the "
        "same letter. Every round one card is added to the hand and judged. Then one card is "
        "removed from the hand, except in the last round, which ends with the judgement.\n\n"
        f"The added card is judged by the {_HAND} cards held just before it is added:\n"
        "1 (Peng): at least two of them have the letter of the added card.\n"
        "2 (Chi): it is not Peng, and two of them make a run with the added card: three letters "
        "that follow one another directly in the alphabet. The added card may be the first, the "
        "middle or the last of the run. The alphabet ends at Z, so Y, Z, A is no run.\n"
        "0 (Pass): it is neither Peng nor Chi.\n\n"
        f"The hand at the start: {' '.join(game.hand)}\n"
        f"{played}\n\n"
        "How is the card judged that the last round adds? Answer with 0, 1 or 2 alone."
    )


class MahjongPattern(SymbenchTask):
    """Classify the last card."""

    name = "mahjong_pattern"
    kind = "execution"
    answer_format = "0, 1 or 2"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        # Random cards are mostly passed: the result is sampled first, so all are equally common.
        result = rng.choice((PASS, PENG, CHI))
        misleading = _ROUNDS[difficulty] > 1 and rng.random() < _MISLEADING
        while True:
            game = _make_game(_ROUNDS[difficulty], rng)
            last = game.rounds[-1][0]
            hand = final_hand(game)
            assert hand is not None
            differs = resolve_card(game.hand, last) != result
            if resolve_card(hand, last) == result and differs == misleading:
                break
        return Puzzle(question=_question(game), answer=result, metadata={"result": result})

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        result = json.loads(example.metadata)["result"]
        given = answers.integer(answer_text)
        if given is None or given not in (PASS, PENG, CHI):
            return wrong_verdict(f"{answers.format_answer(answer_text)} is not 0, 1 or 2")
        if given != result:
            return wrong_verdict(f"the card is judged {_NAMES[result]}, not {_NAMES[given]}")
        return right_verdict(f"the card is judged {_NAMES[result]}")

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        first = re.search(r"initial cards:\s*([A-Z]+)", question)
        rounds = tuple(_ROUND.findall(question))
        if first is None or not rounds:
            raise self.malformed(number, "no cards or no rounds in the question")
        game = Game(hand=first[1], rounds=rounds)
        hand = final_hand(game)
        if hand is None:
            raise self.malformed(number, "a card is removed that is not held")
        stored = read_field(solution)
        if not isinstance(stored, int):
            raise self.malformed(number, "no number in the solution")
        # The shorter of the two released texts has no rule about runs.
        result = resolve_card(hand, rounds[-1][0], runs='"Chi,"' in question)
        released = _released_result(hand, rounds[-1][0])
        metadata = {"result": result, "released_result": released, "has_runs": '"Chi,"' in question}
        return self.item(number, question, metadata, str(stored))

    @override
    def explain_gold(self, item: ReleasedItem) -> str | None:
        known = json.loads(item.example.metadata)
        if item.gold != str(known["released_result"]):
            return None
        missed, unknown, beyond = RELEASED_DEFECTS
        if known["result"] == CHI:
            return missed
        return beyond if known["has_runs"] else unknown
