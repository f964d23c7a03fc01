"""Laws of what the scripted teachers' pipeline writes: whole trajectories of all strategies.

R1CI_TEACHER_QUESTIONS=50 asks for more of each task than the suite does; -k TASK asks one alone.
"""

import dataclasses
import json
import os
import statistics
from typing import Any

import pytest

from r1ci_jax.config import DemonstrationConfig
from r1ci_jax.data.demonstrations import AGENTS, Demonstration
from r1ci_jax.data.external import scripts, selection
from r1ci_jax.data.external.selection import Made, Selection
from r1ci_jax.data.scripted import lengths, strategies
from r1ci_jax.data.scripted.lengths import LengthMeasure
from r1ci_jax.data.scripted.scripted_teachers import ScriptedTeachers
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Sandbox, SandboxConfig
from r1ci_jax.tasks.base import Example
from r1ci_jax.teachers import teacher_catalogue
from r1ci_jax.text import protocol
from r1ci_jax.text.tokenizer import Tokenizer
from tests.teachers import attempts
from tests.teachers.conftest import LIMITS

QUESTIONS = int(os.environ.get("R1CI_TEACHER_QUESTIONS", "10"))
MOST_REJECTED = 0.03 * QUESTIONS if QUESTIONS >= 20 else 0
MOST_LINES = 40
TEACHERS = teacher_catalogue.by_task()
EVEN = DemonstrationConfig(
    code_agent=0.7,
    code=0.1,
    check=0.1,
    repair=0.2,
    two_stage=0.1,
    switch=0.1,
    direct=0.1,
    codesteer=0.2,
)
"""Every strategy has the same weight, so that ten questions show all of them."""
RECIPE = DemonstrationConfig(multi_turn=0.5)
"""The weights of the paper's experiments, for the bars of many questions."""
OF_ALL_KINDS = ("2048", "letters", "bbh_web_of_lies", "rg_gcd", "rg_leg_counting")


def write(
    sandbox: Sandbox, examples: list[Example], tokenizer: Tokenizer, mix: DemonstrationConfig
) -> Made:
    measure = LengthMeasure(name="Qwen2.5", count=lambda text: len(tokenizer.encode(text)))
    source = ScriptedTeachers(sandbox=sandbox, seed=3, mix=mix, measure=measure)
    return source.teach(examples, Selection(len(examples)))


def questions(name: str) -> list[Example]:
    try:
        return attempts.examples_of(name, QUESTIONS)
    except UserError as error:
        pytest.skip(f"NOT TESTED: the questions of {name} are absent ({error})")


@pytest.mark.parametrize("name", TEACHERS)
def test_laws(name: str, sandbox: Sandbox, tokenizer: Tokenizer) -> None:
    examples = questions(name)
    made = write(sandbox, examples, tokenizer, RECIPE if QUESTIONS >= 20 else EVEN)
    assert sum(made.rejected.values()) <= MOST_REJECTED, made.rejected
    known = {example.id: example for example in examples}
    for each in made.demonstrations:
        assert not is_leaked(each, known[each.example_id]), each
    assert scripts.unsteady(made.demonstrations, sandbox) == set(), "the jail prints other things"
    _check_scripts(made.demonstrations)
    sizes = [sum(len(tokenizer.encode(s.text)) for s in d.segments) for d in made.demonstrations]
    assert statistics.median(sizes) <= 600 and max(sizes) <= 2048, sorted(sizes)


def is_leaked(made: Demonstration, example: Example) -> bool:
    """Return True if the answer stands in words or a script before it was printed.

    Words may work it out where there is no script before them, and a script that tests the
    result of words holds it. An answer that is printed in another form counts as printed by the
    script that solves the question.
    """
    answer = (protocol.final_answer(made.segments[-1].text) or "").strip()
    if not selection.is_telling(answer) or answer in example.question:
        return False
    if made.kind in ("direct", "switch", "steered_right"):
        return False
    printed = 0
    for segment in made.segments[:-1]:
        if answer in segment.text:
            return segment.role != "observation" and printed < _SCRIPTS.get(made.kind, 1)
        printed += segment.role == "observation"
    return False


_SCRIPTS: dict[str, int] = dict.fromkeys(("two_stage", "second_attempt", "repair"), 2)
"""Scripts up to the one that solves the question."""


def _check_scripts(made: Any) -> None:
    """They are short, and no two trajectories share one."""
    owners: dict[str, str] = {}
    for each in made:
        for code in set(selection.scripts_of(each)):
            assert code not in owners, (each.example_id, owners[code], code)
            owners[code] = each.example_id
        for segment in each.segments:
            code = protocol.last_code(segment.text) if segment.role == "assistant" else None
            assert len((code or "").splitlines()) <= MOST_LINES, (each.example_id, code)


def test_all_agents_and_kinds_appear(sandbox: Sandbox, tokenizer: Tokenizer) -> None:
    kinds: set[str] = set()
    agents: set[str] = set()
    for name in OF_ALL_KINDS:
        for each in write(sandbox, questions(name), tokenizer, EVEN).demonstrations:
            kinds.add(each.kind)
            agents.add(each.agent)
    assert agents == set(AGENTS)
    weights = strategies.weights(EVEN)
    assert kinds == {kind for (_, kind), weight in weights.items() if weight}


def test_the_number_of_workers_changes_no_byte(sandbox: Sandbox, tokenizer: Tokenizer) -> None:
    names = [*TEACHERS][::6]
    examples = [example for name in names for example in questions(name)]
    with Sandbox(SandboxConfig(workers=1, limits=LIMITS)) as alone:
        one, two = (write(each, examples, tokenizer, EVEN) for each in (alone, sandbox))
    assert _bytes(one) == _bytes(two) and one.rejected == two.rejected
    assert len({each.task for each in one.demonstrations}) == len(names)


def _bytes(made: Made) -> bytes:
    return json.dumps([dataclasses.asdict(each) for each in made.demonstrations]).encode()


def test_the_estimate_is_no_shorter_than_long_trajectories(
    sandbox: Sandbox, tokenizer: Tokenizer
) -> None:
    for name in [*TEACHERS][::9]:
        for each in write(sandbox, questions(name), tokenizer, EVEN).demonstrations:
            tokens = sum(len(tokenizer.encode(segment.text)) for segment in each.segments)
            assert tokens < 400 or tokens <= lengths.ESTIMATE.length(each), each.example_id
