"""A teacher of questions that are answered Yes or No."""

import random
from typing import override

from r1ci_jax.teachers.template_teacher import PatternTeacher


class YesNoTeacher[D](PatternTeacher[D]):
    """Names an answer in the check as a truth value too; the wrong answer is the other one."""

    @override
    def answer_values(self, data: D, answer: str) -> dict[str, object]:
        return {"answer": answer, "claimed": answer == "Yes"}

    @override
    def wrong_answer(self, data: D, answer: str, rng: random.Random) -> str:
        return "No" if answer == "Yes" else "Yes"
