"""Deduce the cards that an opponent played from the player's cards and the results."""

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task
from r1ci_jax.tasks.symbench.symbench_task import ReleasedItem

RELEASED_DEFECTS: Final[dict[str, int]] = {
    "elements: a result that contradicts the stated rules (a draw between different cards)": 27,
}
"""Golds of the released sample that break the stated rules. In the release, generating and
overcoming count only when the player's card does it; all other results are a draw."""


class _Game(NamedTuple):
    names: tuple[str, ...]
    """The cards, in the order that `outcome` uses."""
    outcome: Callable[[int, int], str]
    """The result for the holder of the first card; cards are given by their position in `names`."""
    story: str


def _stick(own: int, other: int) -> str:
    return ("draw", "win", "draw", "loss")[(other - own) % 4]


def _elements(own: int, other: int) -> str:
    # The next element is generated; the one after it is overcome.
    return ("draw", "loss", "win", "loss", "win")[(other - own) % 5]


def _animals(own: int, other: int) -> str:
    if own == other:
        return "draw"
    stronger = own < other
    if {own, other} == {0, 7}:  # The mouse captures the elephant.
        stronger = own == 7
    return "win" if stronger else "loss"


_GAMES = {
    "stick": _Game(
        ("Stick", "Tiger", "Chicken", "Worm"),
        _stick,
        """\
Two players have the same four cards: {cards}. Stick beats Tiger, Tiger beats Chicken, Chicken \
beats Worm, and Worm beats Stick. Any other pair is a draw: two equal cards, Stick and Chicken, \
Tiger and Worm.""",
    ),
    "elements": _Game(
        ("Wood", "Fire", "Earth", "Metal", "Water"),
        _elements,
        """\
Two players have the same five cards: {cards}. Each element generates one other: Wood generates \
Fire, Fire generates Earth, Earth generates Metal, Metal generates Water, and Water generates \
Wood. Each overcomes one other: Wood overcomes Earth, Earth overcomes Water, Water overcomes Fire, \
Fire overcomes Metal, and Metal overcomes Wood. Whoever plays a card that generates the other \
player's card loses the round; whoever plays one that overcomes the other player's card wins it. \
Two equal cards are a draw. It does not matter which of the two players holds which card.""",
    ),
    "animals": _Game(
        ("Elephant", "Lion", "Tiger", "Leopard", "Wolf", "Dog", "Cat", "Mouse"),
        _animals,
        """\
Two players have the same eight pieces, here from the strongest to the weakest: {cards}. The \
stronger piece wins the round, with one exception: the Mouse wins against the Elephant. Two equal \
pieces are a draw.""",
    ),
}

_ROUNDS = {
    1: (("stick", 3), ("elements", 3)),
    2: (("stick", 4), ("elements", 4), ("animals", 4)),
    3: (("elements", 5), ("animals", 5)),
    4: (("animals", 6),),
    5: (("animals", 8),),
}
"""The games of a level, and the number of rounds."""
_MOST_SOLUTIONS = 6
"""The largest number of solutions; with more of them, a guess would too often be right."""

_QUESTION = """\
{story}

In each round both lay one card face down and then turn them over. A card that was played is out: \
each player uses each card at most once. You played these cards, with these results for you:

{rounds}

Which cards can your opponent have played? Answer with the list of their letters, one a round in \
the order of the rounds, separated by commas, for example [{sample}] for {length} rounds. Where \
several lists fit all results, each of them is right; give one."""

_LETTER = re.compile(r" *(['\"]?)([A-Z])\1 *")
_RELEASED_ROUND = re.compile(r"Round \d+: ([A-H]), (win|draw|loss)\.")
_RELEASED_GAMES = {"five-element": "elements", "Stick, Tiger": "stick", "Jungle Chess": "animals"}


class ConstrainedLinearArrangement(symbench_task.SymbenchTask):
    """Deduce an opponent's cards from the results of the rounds."""

    name = "constrained_linear_arrangement"
    kind = "reasoning"
    answer_format = "a list of letters, one a round"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        name, rounds = rng.choice(_ROUNDS[difficulty])
        cards = range(len(_GAMES[name].names))
        while True:
            played, hidden = rng.sample(cards, rounds), rng.sample(cards, rounds)
            results = list(map(_GAMES[name].outcome, played, hidden))
            if solutions(name, played, results, _MOST_SOLUTIONS + 1) <= _MOST_SOLUTIONS:
                break
        # Letters do not indicate strength: otherwise the same list would fit many questions.
        letters = "".join(rng.sample("ABCDEFGH"[: len(cards)], len(cards)))
        metadata = {
            "game": name,
            "letters": letters,
            "played": [letters[card] for card in played],
            "results": results,
        }
        answer = _format_list([letters[card] for card in hidden])
        return Puzzle(question=_question(metadata), answer=answer, metadata=metadata)

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        found = _read(answer_text)
        if found is None:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a list of letters"
            )
        given = json.loads(example.metadata)
        letters, played = given["letters"], given["played"]
        if len(found) != len(played):
            return symbench_task.wrong_verdict(f"{len(found)} letters for {len(played)} rounds")
        if not set(found) <= set(letters):
            return symbench_task.wrong_verdict("a letter that is no card of the game")
        if len(set(found)) < len(found):
            return symbench_task.wrong_verdict("a card is used twice")
        outcome = _GAMES[given["game"]].outcome
        for spot, (own, other) in enumerate(zip(played, found, strict=True)):
            result = outcome(letters.index(own), letters.index(other))
            if result != given["results"][spot]:
                return symbench_task.wrong_verdict(f"round {spot + 1} would be a {result}")
        return symbench_task.right_verdict("fits all results")

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        games = [game for words, game in _RELEASED_GAMES.items() if words in question]
        rounds = _RELEASED_ROUND.findall(question)
        if len(games) != 1 or not rounds:
            raise self.malformed(number, "the question has no known game with rounds")
        gold = symbench_task.read_field(solution)
        if not isinstance(gold, list):
            raise self.malformed(number, "the solution is not a list of letters")
        metadata = {
            "game": games[0],
            "letters": "ABCDEFGH"[: len(_GAMES[games[0]].names)],
            "played": [card for card, _ in rounds],
            "results": [result for _, result in rounds],
        }
        return self.item(number, question, metadata, _format_list(list(map(str, gold))))

    @override
    def explain_gold(self, item: ReleasedItem) -> str | None:
        given = json.loads(item.example.metadata)
        found = _read(item.gold or "")
        if given["game"] != "elements" or found is None or len(found) != len(given["played"]):
            return None
        letters = given["letters"]
        pairs = zip(given["played"], found, strict=True)
        results = [_released_elements(letters.index(a), letters.index(b)) for a, b in pairs]
        return next(iter(RELEASED_DEFECTS)) if results == given["results"] else None


def _released_elements(own: int, other: int) -> str:
    """Return the result by the release's own rules, which look at the player's card alone."""
    return ("draw", "loss", "win", "draw", "draw")[(other - own) % 5]


def solutions(game: str, played: Sequence[int], results: Sequence[str], limit: int) -> int:
    """Count the ways of playing that fit the results, up to the limit."""
    outcome, cards = _GAMES[game].outcome, range(len(_GAMES[game].names))
    fitting = [
        [other for other in cards if outcome(own, other) == result]
        for own, result in zip(played, results, strict=True)
    ]
    fitting.sort(key=len)  # Try the tightest rounds first; the count is the same in any order.

    def count(depth: int, used: frozenset[int]) -> int:
        if depth == len(fitting):
            return 1
        total = 0
        for card in fitting[depth]:
            if card not in used:
                total += count(depth + 1, used | {card})
                if total >= limit:
                    break
        return total

    return min(count(0, frozenset()), limit)


def _question(metadata: dict[str, Any]) -> str:
    game, letters, played = _GAMES[metadata["game"]], metadata["letters"], metadata["played"]
    cards = ", ".join(f"{name} ({letters[spot]})" for spot, name in enumerate(game.names))
    rounds = [
        f"Round {spot + 1}: you played {card}, result: {result}"
        for spot, (card, result) in enumerate(zip(played, metadata["results"], strict=True))
    ]
    # An example of another length can never be the answer.
    sample = ["A", "C"]
    return _QUESTION.format(
        story=game.story.format(cards=cards),
        rounds="\n".join(rounds),
        sample=", ".join(sample),
        length=len(sample),
    )


def _format_list(letters: Sequence[str]) -> str:
    return f"[{', '.join(letters)}]"


def _read(text: str) -> list[str] | None:
    """Parse the letters; the list may lack its brackets, and a letter may be in quotes."""
    found = answers.matches(text, _LETTER, brackets=("[]",))
    return None if found is None else [letter[2] for letter in found]
