"""What a scripted teacher writes for a few questions, with every script run in one sandbox.

For many questions of one's own tasks: python -m tests.teachers.attempts 50 letters game24
"""

import collections
import concurrent.futures
import dataclasses
import random
import statistics
import sys
from typing import Any

from r1ci_jax.sandbox import Sandbox, SandboxConfig
from r1ci_jax.sandbox.result import ExecResult
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.teachers import teacher_catalogue
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError

SEED = 80
LEVELS = (1, 2, 3)


@dataclasses.dataclass
class Attempt:
    """One question, and all that the teacher says to it."""

    example: Example
    form: str
    step: Step
    printed: str = ""
    """What the script printed, or its error."""
    answer: str = ""
    correct: bool = False
    others: dict[str, tuple[Step, ExecResult]] = dataclasses.field(default_factory=dict)
    """`check`, `small_case`, `first_attempt`, and `check_wrong`: the check of a wrong answer."""
    in_words: tuple[str, str] | None = None
    in_words_correct: bool = True
    wrong_answer: str | None = None
    wrong_is_correct: bool = False
    first_is_correct: bool = False


def examples_of(task_name: str, count: int, levels: tuple[int, ...] = LEVELS) -> list[Example]:
    """Return different questions, spread over the levels that the task has."""
    task = registry.get(task_name)
    chosen = [level for level in levels if level in task.difficulties] or [task.difficulties[0]]
    found: dict[str, Example] = {}
    limit = task.count()
    for index in range(20 * count if limit is None else limit):
        # A published question has one level only, and its index is its place.
        example = task.generate(index, SEED, chosen[index % len(chosen)])
        found.setdefault(example.question, example)
        if len(found) == count:
            break
    return list(found.values())


def attempt_all(teacher: Teacher[Any], examples: list[Example], sandbox: Sandbox) -> list[Attempt]:
    """Let the teacher answer the questions that it can read, in all the ways that it has."""
    examples = [example for example in examples if _is_readable(teacher, example)]
    with concurrent.futures.ThreadPoolExecutor(sandbox.config.workers) as pool:
        numbered = list(enumerate(examples))
        return list(pool.map(lambda item: _attempt(teacher, item[0], item[1], sandbox), numbered))


def _attempt(teacher: Teacher[Any], number: int, example: Example, sandbox: Sandbox) -> Attempt:
    task = registry.get(example.task)
    rng = random.Random(f"{example.id} {number}")
    data = teacher.parse(example.question)
    form = teacher.forms[number % len(teacher.forms)]
    made = Attempt(example=example, form=form, step=teacher.step(data, form, rng))
    result = sandbox.run(made.step.code)
    made.printed = result.stdout + result.stderr[-500:]
    try:
        made.answer = teacher.answer(data, result.stdout)
    except Exception as error:
        made.printed += f"\n{error!r}"
        return made
    made.correct = task.score(example, made.answer).correct
    if not made.correct:
        return made
    made.wrong_answer = teacher.wrong_answer(data, made.answer, rng)
    further = {
        "check": teacher.check(data, made.answer, rng),
        "small_case": teacher.small_case(data, rng),
        "first_attempt": teacher.first_attempt(data, rng),
    }
    if made.wrong_answer is not None:
        made.wrong_is_correct = task.score(example, made.wrong_answer).correct
        further["check_wrong"] = teacher.check(data, made.wrong_answer, rng)
    made.others = {
        name: (step, sandbox.run(step.code)) for name, step in further.items() if step is not None
    }
    if first := made.others.get("first_attempt"):
        made.first_is_correct = _is_correct(teacher, data, example, first[1].stdout)
    made.in_words = teacher.in_words(data, rng)
    if made.in_words is not None:
        made.in_words_correct = task.score(example, made.in_words[1]).correct
    return made


def _is_readable(teacher: Teacher[Any], example: Example) -> bool:
    try:
        teacher.parse(example.question)
    except UnreadableQuestionError:
        return False
    return True


def _is_correct(teacher: Teacher[Any], data: Any, example: Example, printed: str) -> bool:
    try:
        answer = teacher.answer(data, printed)
    except Exception:
        return False  # Nothing that has the form of an answer was printed.
    return registry.get(example.task).score(example, answer).correct


def main() -> None:
    count, *names = sys.argv[1:]
    with Sandbox(SandboxConfig(workers=1)) as sandbox:
        for name, teacher in teacher_catalogue.by_task().items():
            if names and name not in names:
                continue
            made = attempt_all(teacher, examples_of(name, int(count)), sandbox)
            right = sum(each.correct for each in made)
            print(f"{name}: {right} of {len(made)} correct")
            print(collections.Counter(key for each in made for key in each.others))
            size = statistics.median(len(each.step.words + each.step.code) for each in made)
            print(f"median {size:.0f} characters")
            for each in made:
                if not each.correct:
                    print(each.form, each.example.question, each.printed, each.answer, sep="\n")


if __name__ == "__main__":
    main()
