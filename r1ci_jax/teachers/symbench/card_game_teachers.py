"""Teacher of constrained_linear_arrangement (an opponent's cards)."""

import itertools
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import join_words, list_literal, literal, pick, script, step

_CARDS: Final = re.compile(r"([A-Z][a-z]+) \(([A-H])\)")
_ROUND: Final = re.compile(r"Round [0-9]+: you played ([A-H]), result: (win|draw|loss)")
_BEATS: Final = {
    "stick": {"Stick": "Tiger", "Tiger": "Chicken", "Chicken": "Worm", "Worm": "Stick"},
    "elements": {
        "Wood": ("Earth", "Water"),
        "Fire": ("Metal", "Wood"),
        "Earth": ("Water", "Fire"),
        "Metal": ("Wood", "Earth"),
        "Water": ("Fire", "Metal"),
    },
}
_OUTCOMES: Final = {
    "stick": """
        beats = {"Stick": "Tiger", "Tiger": "Chicken", "Chicken": "Worm", "Worm": "Stick"}

        def $outcome(mine, other):
            mine, other = $cards[mine], $cards[other]
            if beats[mine] == other:
                return "win"
            return "loss" if beats[other] == mine else "draw"
    """,
    "elements": """
        generates = {"Wood": "Fire", "Fire": "Earth", "Earth": "Metal", "Metal": "Water",
                     "Water": "Wood"}
        overcomes = {"Wood": "Earth", "Earth": "Water", "Water": "Fire", "Fire": "Metal",
                     "Metal": "Wood"}

        def $outcome(mine, other):
            mine, other = $cards[mine], $cards[other]
            if mine == other:
                return "draw"
            # Who overcomes the other wins; who generates the other loses.
            return "win" if overcomes[mine] == other or generates[other] == mine else "loss"
    """,
    "animals": """
        order = list($cards)  # from the strongest to the weakest

        def $outcome(mine, other):
            if mine == other:
                return "draw"
            stronger = order.index(mine) < order.index(other)
            if {$cards[mine], $cards[other]} == {"Elephant", "Mouse"}:
                stronger = not stronger
            return "win" if stronger else "loss"
    """,
}
_ROUNDS_DATA: Final = """
        $cards = $names
        $rounds = $played
"""
_ROUND_FORMS: Final = {
    "permutations": """
        for $hand in permutations($cards, len($rounds)):
            if all($outcome(mine, other) == result
                   for (mine, result), other in zip($rounds, $hand)):
                print(f"[{', '.join($hand)}]")
                break
    """,
    "backtracking": """
        def $search($hand):
            if len($hand) == len($rounds):
                return $hand
            mine, result = $rounds[len($hand)]
            for card in $cards:
                if card not in $hand and $outcome(mine, card) == result:
                    found = $search($hand + [card])
                    if found:
                        return found
            return None

        print("[" + ", ".join($search([])) + "]")
    """,
    "product": """
        $options = [
            [card for card in $cards if $outcome(mine, card) == result]
            for mine, result in $rounds
        ]
        # One option a round, no card twice.
        fitting = (choice for choice in product(*$options) if len(set(choice)) == len(choice))
        $hand = next(fitting)
        print("[" + ", ".join($hand) + "]")
    """,
    "matching": """
        holder = {}  # the round that a card of the opponent is given to

        def $search(spot, seen):
            mine, result = $rounds[spot]
            for card in $cards:
                if card in seen or $outcome(mine, card) != result:
                    continue
                seen.add(card)
                # A card in use is freed where its round can take another one.
                if card not in holder or $search(holder[card], seen):
                    holder[card] = spot
                    return True
            return False

        for spot in range(len($rounds)):
            $search(spot, set())
        $hand = sorted(holder, key=holder.get)
        print(f"[{', '.join($hand)}]")
    """,
}
_ROUND_IMPORTS: Final = {
    "permutations": "        from itertools import permutations\n",
    "product": "        from itertools import product\n",
}
_ROUND_WORDS: Final = {
    "permutations": "I try every order of the cards until all results fit.",
    "backtracking": "Round by round I take a card that is still free and fits the result, and go "
    "back where none is left.",
    "product": "Each round allows a few cards; among the choices of one a round I take one without "
    "repetition.",
    "matching": "This is a matching of rounds and cards: each round gets a card that fits, and a "
    "card in use moves on where possible.",
}


class CardGame(NamedTuple):
    """The game, its cards by letter, and the rounds: own letter and result."""

    game: str
    cards: dict[str, str]
    rounds: tuple[tuple[str, str], ...]

    def outcome(self, own: str, other: str) -> str:
        """Return the result for the holder of the first card."""
        if own == other:
            return "draw"
        mine, theirs = self.cards[own], self.cards[other]
        if self.game == "animals":
            order = list(self.cards)
            wins = order.index(own) < order.index(other)
            wins ^= {mine, theirs} == {"Elephant", "Mouse"}
            return "win" if wins else "loss"
        beats = _BEATS[self.game]
        if theirs in beats[mine]:
            return "win"
        return "loss" if mine in beats[theirs] else "draw"

    def options(self, spot: int) -> list[str]:
        """Return the letters that fit the result of a round."""
        own, result = self.rounds[spot]
        return [letter for letter in self.cards if self.outcome(own, letter) == result]


class ConstrainedLinearArrangement(Teacher[CardGame]):
    """Deduces an opponent's cards from the results of the rounds."""

    task = "constrained_linear_arrangement"
    forms = tuple(_ROUND_FORMS)

    @override
    def parse(self, question: str) -> CardGame:
        cards = {letter: name for name, letter in _CARDS.findall(question)}
        rounds = tuple(_ROUND.findall(question))
        games = {"Stick": "stick", "Wood": "elements", "Elephant": "animals"}
        game = next((games[name] for name in cards.values() if name in games), None)
        if game is None or not rounds:
            raise UnreadableQuestionError("no known game with rounds")
        return CardGame(game, cards, rounds)

    def _fields(self, data: CardGame, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            cards="cards names pieces",
            rounds="rounds played turns",
            outcome="outcome result_of play",
            hand="hand opponent guess",
            search="search extend assign",
            options="options candidates possible",
        )
        return names | {
            "names": literal(data.cards),
            "played": str(list(data.rounds)).replace("'", '"'),
        }

    @override
    def step(self, data: CardGame, form: str, rng: random.Random) -> Step:
        results = [result for _, result in data.rounds]
        opening = rng.choice(
            [
                f"The {len(data.rounds)} rounds ended with {join_words(results)}; I look "
                "for different cards of the opponent that give this.",
                f"The opponent played {len(data.rounds)} of {len(data.cards)} cards, each at most "
                "once, and every result must come out.",
                f"My cards {join_words([own for own, _ in data.rounds])} and their results "
                "restrict what the opponent can have played.",
            ]
        )
        template = _ROUND_IMPORTS.get(form, "")
        template += _ROUNDS_DATA + _shift(_OUTCOMES[data.game]) + _shift(_ROUND_FORMS[form])
        return Step(
            words=f"{opening} {_ROUND_WORDS[form]}",
            code=script(template, **self._fields(data, rng)),
        )

    @override
    def check(self, data: CardGame, answer: str, rng: random.Random) -> Step:
        code = """
        $hand = $claim
        results = [$outcome(mine, other) for (mine, _), other in zip($rounds, $hand)]
        print(results)
        print(results == [result for _, result in $rounds] and len(set($hand)) == len($rounds))
        """
        template = _ROUNDS_DATA + _shift(_OUTCOMES[data.game]) + code
        claim = list_literal(answer.strip("[]").split(", "))
        return step(
            rng,
            [
                f"I play the {len(data.rounds)} rounds with these cards and compare the results.",
                "Played against my cards, this list must give the results of the question, "
                "with no card twice.",
            ],
            script(template, **self._fields(data, rng) | {"claim": claim}),
        )

    @override
    def small_case(self, data: CardGame, rng: random.Random) -> Step:
        code = """
        for number, (mine, result) in enumerate($rounds, 1):
            print(number, [card for card in $cards if $outcome(mine, card) == result])
        """
        template = _ROUNDS_DATA + _shift(_OUTCOMES[data.game]) + code
        return step(
            rng,
            [
                "First I list which cards fit each round by itself.",
                f"What can the opponent have played in each of the {len(data.rounds)} rounds?",
            ],
            script(template, **self._fields(data, rng)),
        )

    @override
    def first_attempt(self, data: CardGame, rng: random.Random) -> Step | None:
        first = [data.options(spot)[0] for spot in range(len(data.rounds))]
        if len(set(first)) == len(first):
            return None
        code = """
        $hand = []
        for mine, result in $rounds:
            $hand.append(next(card for card in $cards if $outcome(mine, card) == result))
        print(f"[{', '.join($hand)}]")
        """
        template = _ROUNDS_DATA + _shift(_OUTCOMES[data.game]) + code
        return Step(
            words="For each round I take the first card that gives the result.",
            code=script(template, **self._fields(data, rng)),
        )

    @override
    def in_words(self, data: CardGame, rng: random.Random) -> tuple[str, str] | None:
        options = {spot: data.options(spot) for spot in range(len(data.rounds))}
        lines = [
            f"Round {spot + 1} ({data.cards[own]}, {result}) allows "
            f"{join_words([data.cards[letter] for letter in options[spot]])}."
            for spot, (own, result) in enumerate(data.rounds)
        ]
        hand = next(
            choice
            for choice in itertools.product(*options.values())
            if len(set(choice)) == len(choice)
        )
        order = sorted(options, key=lambda spot: len(options[spot]))
        chosen = [f"{data.cards[hand[spot]]} for round {spot + 1}" for spot in order]
        start = rng.choice(
            [
                "No card may come twice, so from the tightest round on:",
                "Beginning where the choice is smallest, without a repetition:",
            ]
        )
        letters = "; ".join(f"{data.cards[letter]} is {letter}" for letter in hand)
        return (
            f"{' '.join(lines)} {start} {join_words(chosen)}. {letters}.",
            f"[{', '.join(hand)}]",
        )

    @override
    def wrong_answer(self, data: CardGame, answer: str, rng: random.Random) -> str | None:
        hand = answer.strip("[]").split(", ")
        for spot in range(len(hand) - 1):
            other = list(hand)
            other[spot], other[spot + 1] = hand[spot + 1], hand[spot]
            if any(
                data.outcome(own, card) != result
                for (own, result), card in zip(data.rounds, other, strict=True)
            ):
                return f"[{', '.join(other)}]"
        return None


def _shift(template: str) -> str:
    """Drop the last, shorter line of blanks so that templates join with equal indentation."""
    return template.rstrip(" ")


TEACHERS: tuple[Teacher[Any], ...] = (ConstrainedLinearArrangement(),)
