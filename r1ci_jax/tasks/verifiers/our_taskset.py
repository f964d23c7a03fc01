"""The tasks of the registry as a taskset of `verifiers`, scored by their own rules.

Its id is `r1ci_jax`: verifiers imports the package of that name and takes the taskset and the
harness that it exports. The harness is a plain conversation with tools, so what the policy writes
as code is run by the interpreter's jail alone.
"""

import asyncio
import dataclasses
import importlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

from r1ci_jax.tasks import base, registry
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.verifiers import interpreter_tool, verifiers_package
from r1ci_jax.text import protocol

vf: Any = verifiers_package.load()
_null_harness: Any = importlib.import_module("verifiers.v1.harnesses.null")

ID: Final = "r1ci_jax"
INSTRUCTIONS: Final = """\
Solve the problem below. Think step by step. Wherever exact computation, search or checking would \
help, call the tool run_python with a complete script that prints what you need to see.

When you are sure, give the final answer once between triple angle brackets: <<<answer>>>. Put \
nothing but the answer between them, in the form that the problem asks for.

Problem:
"""


class R1ciTasksetConfig(vf.TasksetConfig):
    """Which questions there are, set by `--env.taskset.*`."""

    tasks: list[str] = ["toy"]  # noqa: RUF012  # pydantic copies the default
    """Names of tasks and suites (`r1ci tasks list`)."""
    questions: int = 10
    """Questions of each task."""
    difficulties: list[int] = [1, 2, 3]  # noqa: RUF012  # likewise
    """Levels, mixed evenly; a task that has none of them takes all of its own."""
    seed: int = 0
    """Seed of the questions: those of two seeds are different questions."""
    interpreter: interpreter_tool.InterpreterConfig = interpreter_tool.InterpreterConfig()


class R1ciTaskData(vf.TaskData):
    """A question with what its scorer needs."""

    example: dict[str, Any]


class R1ciTask(vf.Task[R1ciTaskData, vf.State, vf.TaskConfig]):
    """One question; the reward is 1 for a correct answer between the marks, else 0."""

    @property
    def example(self) -> Example:
        """The question as the registry's task knows it."""
        return Example(**self.data.example)

    @property
    def key(self) -> str:
        """The question's id."""
        return self.example.id

    @vf.reward
    async def correct(self, trace: Any) -> float:
        """Score the answer of the last message by the task's own rules."""
        answer = protocol.final_answer(trace.last_reply)
        if answer is None:
            return 0.0
        example = self.example
        # Some tasks score in the jail, which takes a while.
        verdict = await asyncio.to_thread(registry.get(example.task).score, example, answer)
        return float(verdict.correct)

    @vf.metric
    async def has_answer(self, trace: Any) -> float:
        """1 if the last message has an answer between the marks."""
        return float(protocol.final_answer(trace.last_reply) is not None)

    async def validate(self, runtime: Any) -> bool | None:
        """Check that the stored answer scores as correct; None where none is stored."""
        example = self.example
        task = registry.get(example.task)
        gold = task.gold(example)
        return None if gold is None else task.score(example, gold).correct


class R1ciTaskset(vf.Taskset[R1ciTask, R1ciTasksetConfig]):
    """Questions of tasks of the registry."""

    def load(self) -> Iterator[Any]:
        """Yield the questions, task after task."""
        config = self.config
        for name in expand(config.tasks):
            task = registry.get(name)
            chosen = generate(task, config.questions, config.difficulties, config.seed)
            for example in chosen:
                data = R1ciTaskData(
                    id=example.id,
                    name=example.id,
                    prompt=INSTRUCTIONS + example.question,
                    example=dataclasses.asdict(example),
                )
                yield R1ciTask(data, config.task)

    @classmethod
    def toolsets(cls, config: R1ciTasksetConfig) -> list[Any]:
        """The interpreter, one for all rollouts."""
        return [interpreter_tool.Interpreter(config.interpreter)]


class R1ciHarness(_null_harness.NullHarness):
    """A conversation with tools, which runs nothing itself."""


def expand(words: Sequence[str]) -> list[str]:
    """Return the names of the tasks that names and suites stand for."""
    names = [
        name
        for word in words
        for name in (registry.names(suite=word) if word in registry.suites() else (word,))
    ]
    return list(dict.fromkeys(names))


def generate(task: Task, count: int, difficulties: Sequence[int], seed: int) -> Iterator[Example]:
    """Yield different questions of a task, the levels in turn, at most as many as it has."""
    levels = [each for each in difficulties if each in task.difficulties] or task.difficulties
    limit = task.count()
    seen: set[str] = set()
    for index in itertools.count() if limit is None else range(limit):
        for level in levels:
            if len(seen) == count:
                return
            example = task.generate(index, seed, level)
            question = base.normalize_question(example.question)
            if question not in seen:
                seen.add(question)
                yield example
        if index > 20 * count:  # a level with few questions
            return


def load_environment(
    tasks: Sequence[str] = ("toy",),
    *,
    questions: int = 10,
    difficulties: Sequence[int] = (1, 2, 3),
    seed: int = 0,
    **agent: Any,
) -> Any:
    """Make a `verifiers.v1.SingleAgentEnv` of these questions, with the interpreter as its tool.

    `agent` are settings of its one seat (`verifiers.v1.AgentConfig`), such as `max_turns`. Its
    harness runs on this machine unless `runtime` says otherwise; it executes nothing.
    """
    taskset = {"id": ID, "tasks": [*tasks], "questions": questions, "seed": seed}
    config = vf.SingleAgentEnvConfig(
        taskset={**taskset, "difficulties": [*difficulties]},
        agent={"runtime": {"type": "subprocess"}, **agent},
    )
    return vf.load_environment(config)
