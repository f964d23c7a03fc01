"""Laws of every scripted teacher: right, varied, short, and no answer before it was computed.

R1CI_TEACHER_QUESTIONS=50 asks more of each than the suite does; -k TASK asks one task alone. In the
suite nothing may be wrong, unreadable or written twice; of many questions three in a hundred may.

Another datum in a script must change what the script prints, for every form of every task. Of the
scripts that print a verdict (`VERDICTS`: `bbh_formal_fallacies` prints valid or invalid, which few
changes of a statement turn into the other) one form suffices, and the script must hold what the
question says.
"""

import ast
import os
from typing import Any

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.result import Status
from r1ci_jax.tasks import registry
from r1ci_jax.teachers import teacher_catalogue
from r1ci_jax.teachers.teacher import Teacher, UnreadableQuestionError
from tests.teachers import attempts, changed_data
from tests.teachers.attempts import Attempt

QUESTIONS = int(os.environ.get("R1CI_TEACHER_QUESTIONS", "6"))
MOST_WRONG = 0.03 * QUESTIONS if QUESTIONS >= 20 else 0
MOST_LINES = 40
TEACHERS = teacher_catalogue.by_task()
VERDICTS = frozenset({"bbh_formal_fallacies"})


def test_every_teacher_teaches_a_task_that_is_trained_on() -> None:
    assert {name for name in TEACHERS if registry.get(name).split == "test"} == set()
    assert teacher_catalogue.source_digest() == teacher_catalogue.source_digest()


@pytest.mark.parametrize("name", TEACHERS)
def test_laws(name: str, sandbox: Sandbox, brief_sandbox: Sandbox) -> None:
    teacher = TEACHERS[name]
    assert len(set(teacher.forms)) >= 3
    with pytest.raises(UnreadableQuestionError):
        teacher.parse("What is your favorite color, and why?")
    try:
        examples = attempts.examples_of(name, max(QUESTIONS, len(teacher.forms)))
    except UserError as error:
        pytest.skip(f"NOT TESTED: the questions of {name} are absent ({error})")
    made = attempts.attempt_all(teacher, examples, sandbox)
    right = [each for each in made if each.correct]
    assert len(examples) - len(right) <= MOST_WRONG, [
        *(f"unreadable: {len(examples) - len(made)}",),
        *((e.example.id, e.form, e.printed) for e in made if not e.correct),
    ]
    assert {each.form for each in right} == set(teacher.forms), "a form was never met"
    for each in right:
        _check_texts(each)
        _check_leak(each)
        _check_others(each)
    _check_distinct(right)
    _check_data(teacher, right, brief_sandbox)


def _check_texts(made: Attempt) -> None:
    """The texts can be a trajectory: nothing in them ends a block or an answer early."""
    for step in (made.step, *(step for step, _ in made.others.values())):
        assert step.code and not step.code.endswith("\n"), made.example.id
        assert "```" not in step.code + step.words and "<<<" not in step.code + step.words
        lines = len(step.code.splitlines())
        assert lines <= MOST_LINES, f"{made.example.id}, {made.form}: {lines} lines"
    assert made.answer and "<<<" not in made.answer and ">>>" not in made.answer, made.example.id


def _check_leak(made: Attempt) -> None:
    """The answer stands in no words and no script before it was printed.

    Short ones stand there by chance: of those with a digit four characters or more are looked
    for, of others twenty. What the question itself holds is no leak.
    """
    answer = made.answer.strip()
    telling = len(answer) >= (4 if any(char.isdigit() for char in answer) else 20)
    if not telling or answer in made.example.question:
        return
    before = [made.step, *(made.others[k][0] for k in ("small_case",) if k in made.others)]
    for step in before:
        assert answer not in step.words, (made.example.id, answer)
        assert answer not in step.code, (made.example.id, answer)


def _check_others(made: Attempt) -> None:
    """The further scripts do what they are for."""
    name = made.example.id
    if found := made.others.get("check"):
        assert found[1].stdout.strip().splitlines()[-1:] == ["True"], (name, found)
    if found := made.others.get("small_case"):
        assert found[1].status is Status.OK and found[1].stdout.strip(), (name, found)
    if found := made.others.get("first_attempt"):
        assert found[0].code != made.step.code, name
    assert made.in_words_correct, (name, made.in_words)
    assert not made.wrong_is_correct, (name, made.wrong_answer)


def _check_distinct(made: list[Attempt]) -> None:
    """No script stands twice, whatever it is for.

    Of many questions some have the same data in other words; `r1ci synth` keeps one of those.
    """
    owners: dict[str, str] = {}
    twice: list[str] = []
    for each in made:
        own = {each.step.code, *(step.code for step, _ in each.others.values())}
        twice += [f"{each.example.id}, {owners[code]}:\n{code}" for code in own if code in owners]
        owners |= dict.fromkeys(own, each.example.id)
    assert len(twice) <= MOST_WRONG, "\n".join(["the same script:", *twice])


def _check_data(teacher: Teacher[Any], made: list[Attempt], sandbox: Sandbox) -> None:
    """Another datum changes what the script prints."""
    constant = [form for form in teacher.forms if not _reads(form, made, sandbox)]
    if teacher.task in VERDICTS:
        assert len(constant) < len(teacher.forms), "no form reads its data"
        assert all(_has_data(each) for each in made)
        return
    assert not constant, "these print the same for other data"


def _reads(form: str, made: list[Attempt], sandbox: Sandbox) -> bool:
    """Return True if a changed datum changes the output of a script of this form."""
    for each in [each for each in made if each.form == form][:3]:
        for code in changed_data.changed(each.step.code, each.example.question):
            now = sandbox.run(code)
            if each.printed != now.stdout + now.stderr[-500:]:
                return True
    return False


def _has_data(made: Attempt) -> bool:
    """Return True if literals of the script stand in the question: a long one, or several."""
    nodes = [n for n in ast.walk(ast.parse(made.step.code)) if isinstance(n, ast.Constant)]
    texts = {str(n.value).strip() for n in nodes if type(n.value) in (int, float, str)}
    known = {text for text in texts if text and text in made.example.question}
    return len(known) >= 3 or any(len(text) >= 6 for text in known)
