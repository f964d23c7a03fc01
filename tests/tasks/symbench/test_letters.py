"""Letters: counts and positions, in the one form that is asked for."""

import collections
import json
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import check
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.symbench import letters

TASK = letters.Letters()


def asking(letter: str, word: str) -> Example:
    return TASK.released(0, "", {"word": word, "letter": letter}).example


@pytest.mark.parametrize(
    "text",
    [
        "Count: 3, Positions: [2, 4, 6]",
        " Count: 3, Positions: [2,4,6]\n",
        "Count:3,Positions:[ 6, 4 ,2 ]",
    ],
)
def test_right_answers(text: str) -> None:
    assert TASK.score(asking("a", "banana"), text).correct


@pytest.mark.parametrize(
    "text",
    [
        "Count: 2, Positions: [2, 4, 6]",
        "Count: 3, Positions: [1, 3, 5]",
        "Count: 3, Positions: [2, 4]",
        "Count: 3, Positions: [2, 4, 4, 6]",
        "Count: 3, Positions: [2, 4, 6, 7]",
        "Count: 3, Positions: [2 4 6]",
        "Count: 3, Positions: [2, 4, 6",
        "Count: 3, Positions: [2, 4, 6,]",
        "Count: 3, Positions: [,2, 4, 6]",
        "Count: 3, Positions: 2, 4, 6",
        "Count: 3, Positions: []",
        "3, [2, 4, 6]",
        "3",
        "Positions: [2, 4, 6]",
        "Count: 3, Positions: [2, 4, 6].",
        "Count: 3, Positions: [2, 4, 6]\nCount: 2, Positions: [2, 4]",
        "The answer is Count: 3, Positions: [2, 4, 6]",
    ],
)
def test_wrong_answers(text: str) -> None:
    assert not TASK.score(asking("a", "banana"), text).correct


def test_a_letter_that_is_not_there() -> None:
    assert TASK.score(asking("z", "banana"), "Count: 0, Positions: []").correct
    assert not TASK.score(asking("z", "banana"), "Count: 0, Positions: [0]").correct


def test_golds_agree_with_another_way_of_counting() -> None:
    for example in check.sample(TASK, 3, 100):
        found = re.search(r'letter "(.)" occur.*\n\n([a-z]+)\n', example.question)
        assert found is not None
        letter, word = found[1], found[2]
        pieces = word.split(letter)
        ends = [len(letter.join(pieces[:n])) + 1 for n in range(1, len(pieces))]
        assert TASK.gold(example) == f"Count: {len(ends)}, Positions: {ends}"


def test_golds_score_and_nothing_else_does() -> None:
    examples = check.sample(TASK, 0, 100)
    golds = [TASK.gold(example) or "" for example in examples]
    for position, (example, gold) in enumerate(zip(examples, golds, strict=True)):
        assert TASK.score(example, gold).correct
        assert TASK.score(example, f" {gold}\n").correct
        other = golds[(position + 5) % 100]
        rejected = (other, "", "0", "None", example.question, f"{gold}\n1", f"{gold} or 1")
        assert not any(TASK.score(example, text).correct for text in rejected if text != gold)


def test_levels_grow_and_no_constant_pays() -> None:
    lengths = []
    for level in TASK.difficulties:
        examples = [TASK.generate(i, 0, level) for i in range(400)]
        assert len({example.question for example in examples}) == 400
        golds = collections.Counter(TASK.gold(example) for example in examples)
        assert golds.most_common(1)[0][1] < 40
        lengths.append(sum(len(json.loads(example.metadata)["word"]) for example in examples))
    assert lengths == sorted(lengths) and lengths[-1] > 5 * lengths[0]


def test_hostile_answers() -> None:
    example = asking("a", "banana")
    start = "Count: 3, Positions: ["
    for text in (
        "9**9**9**9",
        "__import__('os').system('true')",
        "[" * 10_000_000,
        start + "2, " * 3_000_000,
        start + "9" * 3_900 + "]",
        start + " " * 3_900,
        start + "², 4, 6]",
    ):
        verdict = TASK.score(example, text)
        assert not verdict.correct and "\n" not in verdict.reason and len(verdict.reason) < 120


def test_released_items(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "letters.jsonl").read_text().splitlines()
    items = [TASK.released(n, "", json.loads(line)) for n, line in enumerate(lines)]
    scored = sum(TASK.score(item.example, item.gold or "").correct for item in items)
    assert (len(items), scored, letters.RELEASED_DEFECTS) == (221, 221, {})
    # The file's name holds the count that the release meant.
    for line, item in zip(lines, items, strict=True):
        count = json.loads(line)["id"].split("_")[-2]
        assert (item.gold or "").startswith(f"Count: {count}, ")


@pytest.mark.parametrize("solution", [None, [], {"word": "banana"}, {"word": "a", "letter": "ab"}])
def test_malformed_items_are_reported(solution: object) -> None:
    with pytest.raises(UserError, match="released item 7 of letters"):
        TASK.released(7, "", solution)
