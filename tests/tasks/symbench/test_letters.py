"""Letters: counts and positions, in the one form that is asked for."""

import json
import pathlib
import re
from collections.abc import Callable

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import check
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import letters

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = letters.Letters()


def asking(letter: str, word: str) -> Example:
    return TASK.parse_released(0, "", {"word": word, "letter": letter}).example


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
        "Count: 3, Positions: [2, 4, 6];",
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
    for example in check.sample_examples(TASK, 3, 100):
        found = re.search(r'letter "(.)" occur.*\n\n([a-z]+)\n', example.question)
        assert found is not None
        letter, word = found[1], found[2]
        pieces = word.split(letter)
        ends = [len(letter.join(pieces[:n])) + 1 for n in range(1, len(pieces))]
        assert TASK.gold(example) == f"Count: {len(ends)}, Positions: {ends}"


def test_words_grow_with_the_level(drawn: Drawn) -> None:
    lengths = [
        sum(len(json.loads(example.metadata)["word"]) for example in drawn(TASK, level, 400))
        for level in TASK.difficulties
    ]
    assert lengths == sorted(lengths) and lengths[-1] > 5 * lengths[0]


def test_released_counts_are_those_of_the_files(shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench" / "letters.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        item = TASK.parse_released(number, "", json.loads(line))
        # The file's name holds the count that the release meant.
        count = json.loads(line)["id"].split("_")[-2]
        assert (item.gold or "").startswith(f"Count: {count}, ")


@pytest.mark.parametrize("solution", [None, [], {"word": "banana"}, {"word": "a", "letter": "ab"}])
def test_malformed_items_are_reported(solution: object) -> None:
    with pytest.raises(UserError, match="released item 7 of letters"):
        TASK.parse_released(7, "", solution)
