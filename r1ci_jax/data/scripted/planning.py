"""Plans of a task's demonstrations: strategy, form and first scripts, no script planned twice."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from r1ci_jax.data.external.selection import Rejection
from r1ci_jax.data.scripted import strategies
from r1ci_jax.data.scripted.strategies import Kind, Strategy
from r1ci_jax.data.scripted.writing import Plan
from r1ci_jax.demonstration_config import DemonstrationConfig
from r1ci_jax.tasks.base import Example
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError

_PHRASINGS: Final = 12
"""How often a script is written anew that another question of the task has already."""


class Planner:
    """Plans the demonstrations of one task; the seed and the questions determine the plans."""

    def __init__(
        self,
        teacher: Teacher[Any],
        examples: Sequence[Example],
        *,
        seed: int,
        mix: DemonstrationConfig,
        instructions: Mapping[str, str],
    ) -> None:
        """Read the questions, and give each of them a strategy."""
        self._teacher, self._examples, self._seed = teacher, examples, seed
        self._mix, self._instructions = mix, instructions
        self._data = [_parse(teacher, example) for example in examples]
        rng = random.Random(f"strategies {teacher.task} {seed}")
        self._strategies = strategies.assign(
            [
                set[Kind]() if isinstance(data, Rejection) else strategies.available(teacher, data)
                for data in self._data
            ],
            strategies.weights(mix),
            rng,
        )
        self._begin = rng.randrange(len(teacher.forms))
        self._next_phrasing = [0] * len(examples)
        self._owners: dict[str, int] = {}

    def plan(self, number: int, *, kind: Kind | None = None) -> Plan | Rejection:
        """Plan the demonstration of one question; a second call plans it with other phrases.

        `kind` replaces the kind of the question's strategy, for the Code Agent.
        """
        data = self._data[number]
        if isinstance(data, Rejection):
            return data
        strategy = self._strategies[number] if kind is None else ("code_agent", kind)
        begin = self._next_phrasing[number]
        for phrasing in range(begin, begin + _PHRASINGS):
            place = self._begin + number + (phrasing - begin) // 4
            form = self._teacher.forms[place % len(self._teacher.forms)]
            rng = self._rng(number, phrasing)
            step = self._teacher.step(data, form, rng)
            first: Step | None = None
            if strategy[1] == "two_stage":
                first = self._teacher.small_case(data, rng)
            elif strategy[1] in ("second_attempt", "wrong"):
                first = self._teacher.first_attempt(data, rng)
            codes = {step.code, *([first.code] if first else [])}
            if all(self._owners.get(code, number) == number for code in codes):
                self._owners |= dict.fromkeys(codes, number)
                self._next_phrasing[number] = phrasing + 1
                if first is None and strategy[1] in ("two_stage", "second_attempt"):
                    strategy = ("code_agent", "code")
                return self._planned(number, strategy, step, first, rng)
        return Rejection.DUPLICATE

    def shorter(self, number: int, *, has_words: bool) -> Plan | Rejection:
        """Plan it as kind `code`, with the shortest of the scripts that the teacher has for it.

        `has_words`: words may precede the script, as they do in other plans.
        """
        data = self._data[number]
        if isinstance(data, Rejection):
            return data
        phrasing = self._next_phrasing[number]
        self._next_phrasing[number] += 1
        found: list[tuple[Step, random.Random]] = []
        for form in self._teacher.forms:
            rng = self._rng(number, phrasing)
            found.append((self._teacher.step(data, form, rng), rng))
        step, rng = min(found, key=lambda pair: len(pair[0].code))
        if self._owners.get(step.code, number) != number:
            return self.plan(number, kind="code")
        self._owners[step.code] = number
        planned = self._planned(number, ("code_agent", "code"), step, None, rng)
        return planned if has_words else dataclasses.replace(planned, words_first=False)

    def _rng(self, number: int, phrasing: int) -> random.Random:
        return random.Random(f"{self._examples[number].id} {self._seed} {phrasing}")

    def _planned(
        self,
        number: int,
        strategy: Strategy,
        step: Step,
        first: Step | None,
        rng: random.Random,
    ) -> Plan:
        example = self._examples[number]
        return Plan(
            example=example,
            teacher=self._teacher,
            data=self._data[number],
            strategy=strategy,
            step=step,
            first=first,
            words_first=rng.random() < self._mix.words_first,
            seed=f"turns {example.id} {self._seed} {self._next_phrasing[number] - 1}",
            instructions=self._instructions,
        )


def _parse(teacher: Teacher[Any], example: Example) -> Any:
    try:
        return teacher.parse(example.question)
    except UnreadableQuestionError:
        return Rejection.OTHER_FORM
