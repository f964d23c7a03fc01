"""Count a letter in a made-up word."""

import json
import random
from typing import override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.toy import toy_task

_LETTERS = "abdeimno"


class Letters(toy_task.ToyTask):
    """Count a letter in a made-up word."""

    name = "toy_letters"
    answer_format = "an integer"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        letter = rng.choice(_LETTERS)
        # An evenly distributed count gives little reward for always naming the most frequent count.
        count = rng.randint(1, 2 + difficulty)
        others = _LETTERS.replace(letter, "")
        word = [letter] * count + rng.choices(others, k=3 + 2 * difficulty - count)
        rng.shuffle(word)
        text = "".join(word)
        return Puzzle(
            question=f"How many '{letter}' in '{text}'?",
            answer=count,
            metadata={"letter": letter, "word": text},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        return answers.score_integer(json.loads(example.answer), answer_text)

    @override
    def reference_solution(
        self, example: Example, rng: random.Random
    ) -> toy_task.ReferenceSolution:
        metadata = json.loads(example.metadata)
        letter, word, count = metadata["letter"], metadata["word"], json.loads(example.answer)
        code = f"print('{word}'.count('{letter}'))"
        return toy_task.ReferenceSolution(
            code=code,
            faulty_code=toy_task.misspell(code, rng, "print", "count"),
            check=f"print(sum(c=='{letter}' for c in '{word}'))",
            wrong_answer=str(count + rng.choice((-1, 1))),
        )
