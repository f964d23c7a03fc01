"""Count a letter in a made-up word."""

import json
import random
from typing import override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.toy import puzzle

_LETTERS = "abdeimno"


class Letters(puzzle.ToyTask):
    """Count a letter in a made-up word."""

    name = "toy_letters"
    answer_format = "an integer"

    @override
    def draw(self, rng: random.Random, difficulty: int) -> puzzle.Puzzle:
        letter = rng.choice(_LETTERS)
        # A count drawn evenly leaves little to win by always naming the commonest count.
        count = rng.randint(1, 2 + difficulty)
        others = _LETTERS.replace(letter, "")
        word = [letter] * count + rng.choices(others, k=3 + 2 * difficulty - count)
        rng.shuffle(word)
        text = "".join(word)
        return puzzle.Puzzle(
            question=f"How many '{letter}' in '{text}'?",
            answer=count,
            metadata={"letter": letter, "word": text},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        return answers.judge_integer(json.loads(example.answer), answer_text)

    @override
    def worked(self, example: Example, rng: random.Random) -> puzzle.Worked:
        drawn = json.loads(example.metadata)
        letter, word, count = drawn["letter"], drawn["word"], json.loads(example.answer)
        code = f"print('{word}'.count('{letter}'))"
        return puzzle.Worked(
            code=code,
            faulty=puzzle.misspelt(code, rng, "print", "count"),
            check=f"print(sum(c=='{letter}' for c in '{word}'))",
            wrong=str(count + rng.choice((-1, 1))),
        )
