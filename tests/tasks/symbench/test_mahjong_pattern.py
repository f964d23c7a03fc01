"""Mahjong patterns: each judgement by hand, golds against a replay of the question's text."""

import collections
import json
import pathlib
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import check
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import mahjong_pattern
from r1ci_jax.tasks.symbench.mahjong_pattern import CHI, PASS, PENG, Game

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = mahjong_pattern.MahjongPattern()


@pytest.mark.parametrize(
    ("hand", "card", "result"),
    [
        ("AADFHJLNPRTVX", "A", PENG),
        ("AAAFHJLNPRTVX", "A", PENG),
        ("ABDFHJLNPRTVX", "A", PASS),  # one A and no run
        ("ABCFHJLNPRTVX", "A", CHI),  # the new card is first
        ("ACEFHJLNPRTVX", "B", CHI),  # in the middle
        ("ABEGIKMORTVXZ", "C", CHI),  # last
        ("AABCFHJLNPRTV", "A", PENG),  # Peng goes before Chi
        ("ABBCCHJLNPRTV", "A", CHI),  # cards held twice hide no run
        ("BCDHJLNPRTVXZ", "G", PASS),  # a run without the new card
        ("ABHJLNPRTVXYZ", "A", PASS),  # no run across the end of the alphabet
        ("YZHJLNPRTVBEE", "A", PASS),
        ("YZHJLNPRTVBEE", "X", CHI),
        ("YYZHJLNPRTVBE", "Y", PENG),
        ("ACEGIKMOQSUWY", "A", PASS),
        ("XYYZAAABBBCCC", "[", PASS),
    ],
)
def test_judgements(hand: str, card: str, result: int) -> None:
    assert len(hand) == 13
    assert mahjong_pattern.resolve_card(list(hand), card) == result
    without = PENG if result == PENG else PASS
    assert mahjong_pattern.resolve_card(list(hand), card, runs=False) == without


def test_cards_come_and_go() -> None:
    game = Game(hand="ABC", rounds=(("D", "A"), ("D", "D"), ("D", "")))
    assert mahjong_pattern.final_hand(game) == ["B", "C", "D"]
    assert mahjong_pattern.final_hand(Game(hand="ABC", rounds=(("D", "E"), ("D", "")))) is None


def judging(result: int) -> Example:
    return Example(
        id="x", task=TASK.name, question="?", answer="", difficulty=1,
        metadata=json.dumps({"result": result}),
    )  # fmt: skip


def test_answers() -> None:
    for result in (PASS, PENG, CHI):
        assert TASK.score(judging(result), f" {result}\n").correct
        for text in ("0", "1", "2"):
            assert TASK.score(judging(result), text).correct == (text == str(result))
        for form in ("{} or 1", "{}\n1", "Chi ({})", "round 1: {}", "{},", "[{}]", "-{}1", "{}.5"):
            assert not TASK.score(judging(result), form.format(result)).correct
        for text in ("", "None", "Pass", "Peng", "Chi", "3", "-1", "0, 1, 2", "0 1 2"):
            assert not TASK.score(judging(result), text).correct


def replayed(question: str) -> tuple[int, int]:
    """The judgement by the hand as it is and by the first hand, from the question's text."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    start = re.search(r"hand at the start: ([A-Z ]+)\n", question)
    assert start is not None
    first = collections.Counter(start[1].split())
    held = first.copy()
    last = ""
    for added, removed in re.findall(r"Round \d+: add ([A-Z])(?:, then remove ([A-Z]))?", question):
        last = added
        if removed:
            held[added] += 1
            held[removed] -= 1
            assert held[removed] >= 0
    assert first.total() == held.total() == 13

    def judge(hand: collections.Counter[str]) -> int:
        if hand[last] > 1:
            return 1
        runs = [alphabet[n : n + 3] for n in range(24) if last in alphabet[n : n + 3]]
        return 2 if any(all(hand[c] for c in run if c != last) for run in runs) else 0

    return judge(held), judge(first)


def test_golds_agree_with_a_replay_of_the_question() -> None:
    for example in check.sample_examples(TASK, 3, 300):
        assert TASK.gold(example) == str(replayed(example.question)[0])


def test_the_first_hand_does_not_tell_the_answer(drawn: Drawn) -> None:
    for level in TASK.difficulties[1:]:
        examples = drawn(TASK, level, 300)
        told = sum(now == first for now, first in (replayed(e.question) for e in examples))
        assert told < 0.5 * len(examples)


def test_levels_grow_and_judgements_are_balanced(drawn: Drawn) -> None:
    rounds = []
    for level in TASK.difficulties:
        examples = drawn(TASK, level, 450)
        golds = collections.Counter(TASK.gold(example) for example in examples)
        assert set(golds) == {"0", "1", "2"} and max(golds.values()) < 0.4 * 450
        rounds.append(examples[0].question.count("\nRound "))
    assert rounds == [1, 2, 4, 7, 12]


def test_released_items(shared_data: pathlib.Path) -> None:
    rows = (shared_data / "symbench" / "mahjong_pattern.jsonl").read_text().splitlines()
    drawn = [json.loads(row) for row in rows]
    items = [
        TASK.parse_released(n, row["question"], row["solution"]) for n, row in enumerate(drawn)
    ]
    found: collections.Counter[str] = collections.Counter()
    for row, item in zip(drawn, items, strict=True):
        result = json.loads(item.example.metadata)["result"]
        if TASK.score(item.example, item.gold or "").correct:
            continue
        if (item.gold, result) == ("0", CHI):
            found["a run is missed because one of its letters is held twice"] += 1
        elif "Chi" not in row["question"]:
            found["a run is judged Chi though the question knows only Pass and Peng"] += 1
        elif "Add a [ card" in row["question"]:
            found["a run goes beyond Z to a card that is no letter"] += 1
    scored = sum(TASK.score(item.example, item.gold or "").correct for item in items)
    assert (len(items), scored) == (100, 91)
    assert found == mahjong_pattern.RELEASED_DEFECTS


def test_malformed_items_are_reported() -> None:
    good = "initial cards:ABCDEFGHIJKLM\n\nRound 1: Add a Z card and remove a Z card.\n"
    good += "Round 2: Add a A card\n"
    assert TASK.parse_released(7, good, {"solution": 0}).gold == "0"
    for question, solution in (
        ("", {"solution": 0}),
        (good, None),
        (good, {"solution": "0"}),
        (good.replace("remove a Z", "remove a Y"), {"solution": 0}),
        (good.replace("Round", "Turn"), {"solution": 0}),
    ):
        with pytest.raises(UserError, match="released item 7 of mahjong_pattern"):
            TASK.parse_released(7, question, solution)
