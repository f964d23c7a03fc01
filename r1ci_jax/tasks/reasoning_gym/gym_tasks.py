"""The 84 Reasoning-Gym tasks: questions drawn by the package `reasoning-gym`.

The choice is in `reasoning_gym_choice` (what was left out and why), `reasoning_gym_algorithms`,
`reasoning_gym_arithmetic` and `reasoning_gym_puzzles`; `reasoning_gym_judge` says how answers are
judged and what that isolates.
The whole drawn entry is kept in an example's metadata: scoring never draws it again.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Final, override

from r1ci_jax.tasks import answers, base
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.reasoning_gym.choice import DatasetChoice
from r1ci_jax.tasks.reasoning_gym.gym_algorithms import CHOSEN as _ALGORITHMS
from r1ci_jax.tasks.reasoning_gym.gym_arithmetic import CHOSEN as _ARITHMETIC
from r1ci_jax.tasks.reasoning_gym.gym_puzzles import CHOSEN as _PUZZLES
from r1ci_jax.tasks.reasoning_gym.gym_scoring import RULES, EntryGenerator, JailScorer, Job, Scorer

CHOSEN: Final[dict[str, DatasetChoice]] = {**_ALGORITHMS, **_ARITHMETIC, **_PUZZLES}
NAMES: Final = tuple(f"rg_{dataset}" for dataset in CHOSEN)
"""The tasks' names; `make` makes each."""

_generator: Final = EntryGenerator()
_scorer: Final = JailScorer()


def make(name: str, scorer: Scorer = _scorer) -> "ReasoningGym":
    """The task of that name.

    Args:
        name: One of `NAMES`.
        judge: Who runs the package's own scorers.
    """
    assert name in NAMES, name
    return ReasoningGym(name.removeprefix("rg_"), scorer)


def dataset_seed(task: str, seed: int, difficulty: int) -> int:
    """The seed for the package, where item i of seed s is item i - 1 of seed s + 1."""
    key = f"{task}\x1f{seed}\x1f{difficulty}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:6], "big")


class ReasoningGym(base.Task):
    """One data set of the package."""

    suite = "reasoning_gym"
    split = "train"  # the fixed split is in tasks/train_test_split.py

    def __init__(self, dataset: str, scorer: Scorer) -> None:
        self._dataset = dataset
        self._choice = CHOSEN[dataset]
        self._judge = scorer
        self.name = f"rg_{dataset}"
        self.kind = self._choice.kind
        self.answer_format = self._choice.form
        self.difficulties = tuple(range(1, self._choice.levels + 1))
        self.many_answers = self._choice.many

    @override
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        assert difficulty in self.difficulties, f"{self.name} has no difficulty {difficulty}"
        entry = _generator.entry(
            {
                "dataset": self._dataset,
                "config": json.dumps(self._choice.config(difficulty), sort_keys=True),
                "seed": dataset_seed(self.name, seed, difficulty),
                "index": index,
                "refused": self._choice.refused,
                "chunk": self._choice.chunk,
            }
        )
        parts = (str(entry["question"]).strip(), self._choice.say)
        return Example(
            id=f"{self.name}/d{difficulty}/s{seed}/{index}",
            task=self.name,
            question="\n\n".join(part for part in parts if part),
            answer=json.dumps(self._gold(entry)),
            difficulty=difficulty,
            metadata=json.dumps({"entry": entry}, sort_keys=True),
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        return self.score_all([(example, answer_text)])[0]

    @override
    def score_all(self, pairs: Sequence[tuple[Example, str]]) -> list[Verdict]:
        verdicts = [self._without_package(example, text) for example, text in pairs]
        waiting = [i for i, verdict in enumerate(verdicts) if verdict is None]
        scores = self._judge.scores([self._job(*pairs[i]) for i in waiting])
        for i, score in zip(waiting, scores, strict=True):
            verdicts[i] = self._from_score(score, pairs[i][1])
        return [verdict for verdict in verdicts if verdict is not None]

    def _without_package(self, example: Example, text: str) -> Verdict | None:
        """The verdict, or None where the package's scorer is to decide."""
        choice = self._choice
        if len(text) > 2 * choice.most or len(text.strip()) > choice.most:
            return Verdict(correct=False, reason=f"longer than {choice.most} characters")
        text = text.strip()
        if not text:
            return Verdict(correct=False, reason="empty")
        if choice.rule == "package":
            if re.fullmatch(choice.shape, text) is None:
                return Verdict(
                    correct=False, reason=f"{answers.format_answer(text)} is not {choice.form}"
                )
            return None
        gold = json.loads(example.answer)
        entry: dict[str, Any] = json.loads(example.metadata)["entry"]
        if RULES[choice.rule](gold, text, entry):
            return Verdict(correct=True, reason="equals the answer or obeys the rules")
        return Verdict(correct=False, reason=f"{answers.format_answer(text)} is not the answer")

    def _job(self, example: Example, text: str) -> Job:
        return Job(
            dataset=self._dataset,
            config=json.dumps(self._choice.scoring, sort_keys=True),
            entry=json.loads(example.metadata)["entry"],
            answer=text.strip(),
        )

    def _from_score(self, score: float | None, text: str) -> Verdict:
        if score is None:
            return Verdict(correct=False, reason="the scorer took too long or broke off")
        if score == 1.0:
            return Verdict(correct=True, reason="the package's scorer gives 1")
        return Verdict(
            correct=False,
            reason=f"{answers.format_answer(text.strip())} gets {score:.2f} of the scorer",
        )

    def _gold(self, entry: dict[str, Any]) -> str:
        """A right answer as text."""
        found = entry["metadata"][self._choice.gold] if self._choice.gold else entry["answer"]
        gold = found.strip() if isinstance(found, str) else json.dumps(found)
        # 0 for 0.0, so that nobody takes them for two answers.
        return re.sub(r"\.0+(?![0-9])", "", gold) if self._choice.rule == "numbers" else gold
