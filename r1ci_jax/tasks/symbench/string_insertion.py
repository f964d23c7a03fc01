"""Insert letters after given pieces of a string."""

import itertools
import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {}

_LEVELS: Final = {
    1: (3, 3, 3, 10, 1),
    2: (4, 3, 4, 18, 1),
    3: (4, 3, 5, 24, 2),
    4: (5, 4, 6, 32, 2),
    5: (5, 4, 8, 48, 3),
}
"""Letters in use, length of the pieces, number of rules, length of the string, rounds."""

_PLANTED: Final = 0.6
"""The probability that a generated part of the string is one of the pieces, not a single letter."""
_FEWEST: Final = 2
"""The least number of letters inserted in the first round; each later round inserts one or more."""
_TIMES: Final = {1: "once", 2: "twice, the second time on the result of the first,"}

_RELEASED_RULE = re.compile(
    r"a substring ([A-Z]+) in the string, insert the character ([A-Z]) after"
)
_RELEASED_STRING = re.compile(r"Given the string ([A-Z]+), what will")

_QUESTION = """\
The operation T inserts letters into a string by these rules:

{rules}

T first finds every occurrence of these pieces in the string as it is; occurrences may overlap, \
and each of them counts. Then it inserts all the letters at once, each directly behind the last \
letter of its occurrence. Letters that T itself inserts form no new occurrences while it runs.

Apply T {times} to the string {string}.

Which string comes out? Answer with that string alone, for example XYZZY."""


class StringInsertion(symbench_task.SymbenchTask):
    """Insert letters after given pieces of a string."""

    name = "string_insertion"
    kind = "execution"
    answer_format = "a string of letters, with or without quotes"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        count, size, rules, length, rounds = _LEVELS[difficulty]
        letters = "ABCDE"[:count]
        while True:
            pieces = _pieces(rng, letters, size, rules)
            string = _string(rng, letters, pieces, length)
            states = _rounds(string, pieces, rounds)
            gains = [len(b) - len(a) for a, b in itertools.pairwise(states)]
            if gains[0] >= _FEWEST and min(gains) > 0:
                break
        listed = (
            f"- behind each occurrence of {piece}, insert {letter}"
            for piece, letter in pieces.items()
        )
        return Puzzle(
            question=_QUESTION.format(
                rules="\n".join(listed),
                times=_TIMES.get(rounds, f"{rounds} times, each time on the result before,"),
                string=string,
            ),
            answer=states[-1],
            metadata={"rounds": rounds, "rules": pieces, "string": string},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        metadata = json.loads(example.metadata)
        expected = _rounds(metadata["string"], metadata["rules"], metadata["rounds"])[-1]
        return answers.score_word(expected, answer_text)

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        rules = dict(_RELEASED_RULE.findall(question))
        string = _RELEASED_STRING.search(question)
        if string is None or len({len(piece) for piece in rules}) != 1:
            raise self.malformed(number, "the question shows no string or no pieces of one length")
        gold = symbench_task.read_field(solution, "modified_string")
        if not isinstance(gold, str):
            raise self.malformed(number, "the solution holds no answer")
        metadata = {"rounds": 1, "rules": rules, "string": string[1]}
        return self.item(number, question, metadata, gold)


def insert_pieces(string: str, rules: dict[str, str]) -> str:
    """Return the string after one operation. All pieces have one length, so no two end together."""
    size = len(next(iter(rules)))
    return "".join(
        letter + rules.get(string[max(0, end - size) : end], "")
        for end, letter in enumerate(string, 1)
    )


def _rounds(string: str, rules: dict[str, str], rounds: int) -> list[str]:
    states = [string]
    for _ in range(rounds):
        states.append(insert_pieces(states[-1], rules))
    return states


def _pieces(rng: random.Random, letters: str, size: int, count: int) -> dict[str, str]:
    """Choose distinct pieces and the letter to insert after each."""
    rules: dict[str, str] = {}
    while len(rules) < count:
        rules["".join(rng.choices(letters, k=size))] = rng.choice(letters)
    return rules


def _string(rng: random.Random, letters: str, pieces: dict[str, str], length: int) -> str:
    string = ""
    while len(string) < length:
        string += rng.choice(list(pieces) if rng.random() < _PLANTED else letters)
    return string[:length]
