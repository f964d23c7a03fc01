"""Which strategy each question is shown with, by the weights of the experiment."""

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from r1ci_jax.data.demonstrations import Agent
from r1ci_jax.demonstration_config import DemonstrationConfig
from r1ci_jax.teachers.teacher import Teacher

Kind = Literal[
    "code",
    "check",
    "repair",
    "second_attempt",
    "two_stage",
    "switch",
    "direct",
    "steered_wrong",
    "steered_right",
    "wrong",
]
"""What a demonstration shows (docs/demonstrations.md has a table)."""
Strategy = tuple[Agent, Kind]

MULTI_TURN: tuple[Kind, ...] = ("check", "repair", "second_attempt", "two_stage", "switch")
"""Kinds of the Code Agent with several turns, or with a change from words to code."""


def weights(mix: DemonstrationConfig) -> dict[Strategy, float]:
    """Return the weight of every strategy; they sum to one."""
    kinds: dict[Kind, float] = {
        "code": mix.code,
        "check": mix.check,
        "repair": mix.repair * (1 - mix.own_mistake),
        "second_attempt": mix.repair * mix.own_mistake,
        "two_stage": mix.two_stage,
        "switch": mix.switch,
        "direct": mix.direct,
    }
    if mix.multi_turn is not None:
        several = sum(kinds[kind] for kind in MULTI_TURN)
        one = sum(kinds.values()) - several
        for kind in kinds:
            share, total = (
                (mix.multi_turn, several) if kind in MULTI_TURN else (1 - mix.multi_turn, one)
            )
            kinds[kind] *= share / total if total else 0
    total = sum(kinds.values()) or 1.0
    table: dict[Strategy, float] = {
        ("code_agent", kind): mix.code_agent * (1 - mix.wrong) * weight / total
        for kind, weight in kinds.items()
    }
    table["all_text", "direct"] = mix.all_text
    table["all_code", "code"] = mix.all_code
    table["codesteer", "steered_wrong"] = mix.codesteer * mix.wrong_first
    table["codesteer", "steered_right"] = mix.codesteer * (1 - mix.wrong_first)
    table["code_agent", "wrong"] = mix.code_agent * mix.wrong
    whole = sum(table.values())
    return {strategy: weight / whole for strategy, weight in table.items()}


def available(teacher: Teacher[Any], data: Any) -> set[Kind]:
    """Return the kinds that a teacher can show with this question.

    A kind that needs an answer to be tried out (a check, a wrong guess) counts if the teacher
    defines it; where it turns out to have none, the writer shows `code`.
    """
    rng = random.Random(0)
    has_check = _defines(teacher, "check")
    kinds: set[Kind] = {"code", "repair"}
    if has_check:
        kinds.add("check")
    if teacher.first_attempt(data, rng) is not None:
        kinds.update(("second_attempt", "wrong"))
    if teacher.small_case(data, rng) is not None:
        kinds.add("two_stage")
    if teacher.in_words(data, rng) is not None:
        kinds.update(("direct", "steered_right"))
        if has_check:
            kinds.add("switch")
    if _defines(teacher, "wrong_answer"):
        kinds.update(("steered_wrong", "wrong"))
    return kinds


def defined(teacher: Teacher[Any]) -> tuple[str, ...]:
    """Return the optional methods that a teacher has, for the table of coverage."""
    names = ("check", "small_case", "first_attempt", "in_words", "wrong_answer")
    return tuple(name for name in names if _defines(teacher, name))


def assign(
    possible: Sequence[Collection[Kind]],
    table: Mapping[Strategy, float],
    rng: random.Random,
) -> list[Strategy]:
    """Give each question one of its possible strategies, in proportion to the weights.

    In a shuffled order, each question takes the possible strategy that is furthest behind its
    share (the method of Sainte-Laguë), so what a task lacks goes to its other strategies.
    """
    used = dict.fromkeys(table, 0)
    chosen: dict[int, Strategy] = {}
    order = list(range(len(possible)))
    rng.shuffle(order)
    fallback: Strategy = ("code_agent", "code")
    for position in order:
        ready = [s for s, weight in table.items() if weight > 0 and s[1] in possible[position]]
        # Ties fall differently for each task, so that rare strategies are not always the missing.
        rng.shuffle(ready)
        best = min(ready, key=lambda s: (2 * used[s] + 1) / table[s], default=fallback)
        used[best] = used.get(best, 0) + 1
        chosen[position] = best
    return [chosen[position] for position in range(len(possible))]


def _defines(teacher: Teacher[Any], name: str) -> bool:
    return getattr(type(teacher), name) is not getattr(Teacher, name)
