"""Constrained linear arrangement: the three games, against all ways of playing."""

import itertools
import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench.constrained_linear_arrangement import (
    RELEASED_DEFECTS,
    ConstrainedLinearArrangement,
    solutions,
)

TASK = ConstrainedLinearArrangement()
EXAMPLES = [TASK.generate(i, 3, level) for level in TASK.difficulties for i in range(20)]


def gold(example: Example) -> str:
    text = TASK.gold(example)
    assert text is not None
    return text


def item(game: str, letters: str, played: str, results: str) -> Example:
    names = {"w": "win", "d": "draw", "l": "loss"}
    metadata = {
        "game": game,
        "letters": letters,
        "played": list(played),
        "results": [names[result] for result in results],
    }
    return TASK.item(0, "", metadata, None).example


STICK = {"Stick": "Tiger", "Tiger": "Chicken", "Chicken": "Worm", "Worm": "Stick"}
GENERATES = {"Wood": "Fire", "Fire": "Earth", "Earth": "Metal", "Metal": "Water", "Water": "Wood"}
OVERCOMES = {"Wood": "Earth", "Earth": "Water", "Water": "Fire", "Fire": "Metal", "Metal": "Wood"}
RANKS = ["Mouse", "Cat", "Dog", "Wolf", "Leopard", "Tiger", "Lion", "Elephant"]


def winning_pairs(question: str) -> set[tuple[str, str]]:
    """The winner's and the loser's card, by their names, in all rounds that are no draw."""
    if "Stick" in question:
        return set(STICK.items())
    if "Wood" in question:
        return set(OVERCOMES.items()) | {(made, maker) for maker, made in GENERATES.items()}
    stronger = {(b, a) for a, b in itertools.combinations(RANKS, 2)}
    return (stronger - {("Elephant", "Mouse")}) | {("Mouse", "Elephant")}


def fitting(question: str) -> set[str]:
    """All right answers, from the question's text by trying every way of playing."""
    cards = {letter: name for name, letter in re.findall(r"(\w+) \(([A-H])\)", question)}
    rounds = re.findall(r"you played ([A-H]), result: (\w+)", question)
    pairs = winning_pairs(question)

    def result(own: str, other: str) -> str:
        if (cards[own], cards[other]) in pairs:
            return "win"
        return "loss" if (cards[other], cards[own]) in pairs else "draw"

    fits = [[card for card in cards if result(own, card) == told] for own, told in rounds]
    ways = itertools.product(*fits)
    return {f"[{', '.join(way)}]" for way in ways if len(set(way)) == len(way)}


def test_golds_and_other_solutions_agree_with_trying_everything() -> None:
    for example in EXAMPLES:
        right = fitting(example.question)
        assert gold(example) in right and 1 <= len(right) <= 6
        assert all(TASK.score(example, text).correct for text in right)
        given = json.loads(example.metadata)
        played = [given["letters"].index(card) for card in given["played"]]
        assert solutions(given["game"], played, given["results"], 99) == len(right)


def test_exactly_the_fitting_lists_score() -> None:
    for example in EXAMPLES[:30]:
        given, right = json.loads(example.metadata), fitting(example.question)
        for way in itertools.permutations(given["letters"], len(given["played"])):
            text = f"[{', '.join(way)}]"
            assert TASK.score(example, text).correct == (text in right)


@pytest.mark.parametrize(
    ("game", "letters", "played", "results", "right", "wrong"),
    [
        # Stick A beats Tiger B beats Chicken C beats Worm D beats Stick A.
        ("stick", "ABCD", "ABCD", "wldd", ["B,A,C,D"], ["D,A,C,B", "B,A,D,C"]),
        ("stick", "DBCA", "D", "d", ["D", "C"], ["B", "A"]),
        # Wood A, Fire B, Earth C, Metal D, Water E.
        ("elements", "ABCDE", "D", "w", ["A", "C"], ["B", "D", "E"]),
        ("elements", "ABCDE", "D", "l", ["B", "E"], ["A", "C", "D"]),
        ("elements", "ABCDE", "DCE", "dww", ["D,E,B"], ["D,B,A", "D,E,A", "D,B,B"]),
        # Elephant A to Mouse H.
        ("animals", "ABCDEFGH", "AH", "lw", ["H,A"], ["B,A", "H,G", "H,H"]),
        ("animals", "ABCDEFGH", "GB", "wl", ["H,A"], ["A,H", "G,A", "F,A"]),
        ("animals", "HGFEDCBA", "HA", "lw", ["A,H"], ["H,A", "G,H"]),
    ],
)
def test_each_game(
    game: str, letters: str, played: str, results: str, right: list[str], wrong: list[str]
) -> None:
    example = item(game, letters, played, results)
    assert all(TASK.score(example, text).correct for text in right)
    assert not any(TASK.score(example, text).correct for text in wrong)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[D, E]", "2 letters for 3 rounds"),
        ("[D, E, B, A]", "4 letters"),
        ("[D, B, B]", "twice"),
        ("[D, E, F]", "no card"),
        ("[D, E, A]", "round 3 would be a loss"),
        ("[D, E, b]", "not a list"),
        ("D E B", "not a list"),
        ("DEB", "not a list"),
        ("[D, E, B,]", "not a list"),
        ("[[D, E, B]]", "not a list"),
        ("Metal, Water, Fire", "not a list"),
        ("D, E, B\nD, E, B", "not a list"),
    ],
)
def test_wrong_answers_and_why(text: str, reason: str) -> None:
    verdict = TASK.score(item("elements", "ABCDE", "DCE", "dww"), text)
    assert not verdict.correct and reason in verdict.reason, verdict


def test_right_forms() -> None:
    example = item("elements", "ABCDE", "DCE", "dww")
    for text in ("D,E,B", " [D, E, B]\n", "['D', 'E', 'B']", '["D","E","B"]', "D , E , B"):
        assert TASK.score(example, text).correct


def test_golds_of_other_items_score_only_where_they_fit() -> None:
    for position, example in enumerate(EXAMPLES):
        right = fitting(example.question)
        for other in (gold(EXAMPLES[position - 1]), gold(EXAMPLES[(position + 1) % len(EXAMPLES)])):
            assert TASK.score(example, other).correct == (other in right)


def test_released_sample(shared_data: pathlib.Path) -> None:
    """The defects are all of one kind: elements whose results break the stated rules."""
    scored, faulty = 0, []
    path = shared_data / "symbench" / "constrained_linear_arrangement.jsonl"
    for number, line in enumerate(path.read_text().splitlines()):
        row = json.loads(line)
        found = TASK.parse_released(number, row["question"], row["solution"])
        assert found.gold is not None
        if TASK.score(found.example, found.gold).correct:
            scored += 1
            continue
        given = json.loads(found.example.metadata)
        cards = found.gold.strip("[]").split(", ")
        faulty.append(given["game"])
        assert any(
            result == "draw" and own != card
            for own, card, result in zip(given["played"], cards, given["results"], strict=True)
        )
    assert (scored, faulty) == (73, ["elements"] * 27)
    assert list(RELEASED_DEFECTS.values()) == [27]


def test_unreadable_released_items_are_reported() -> None:
    question = "each have a set of five-element flags\nRound 1: D, draw.\nRound 2: C, win.\n"
    found = TASK.parse_released(1, question, {"solution": ["D", "E"]})
    assert found.gold == "[D, E]" and TASK.score(found.example, found.gold).correct
    assert json.loads(found.example.metadata)["game"] == "elements"
    broken = [("Hello", {"solution": []}), (question, None), (question, {"solution": "D"})]
    for case in [*broken, (question[:40], {"solution": ["D"]})]:
        with pytest.raises(UserError, match="released item 4 of constrained_linear_arrangement"):
            TASK.parse_released(4, *case)
