"""Our tasks as a taskset of `verifiers` (an extra), and a taskset of others as a task."""

import asyncio
import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import user_modules
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.verifiers import their_task, verifiers_package
from tests.project import snippets

HAS_PACKAGE = importlib.util.find_spec("verifiers") is not None
needs_package = pytest.mark.skipif(
    not HAS_PACKAGE,
    reason="VERIFIERS MISSING: the adapters of tasks/verifiers are not checked; it needs an "
    "environment of its own (docs/verifiers.md)",
)

THEIRS = """
import asyncio, os
import verifiers.v1 as vf

class Data(vf.TaskData):
    answer: str

class Sum(vf.Task[Data, vf.State, vf.TaskConfig]):
    @vf.reward(weight=0.75)
    async def right(self, trace) -> float:
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=0.25)
    async def short(self, trace) -> float:
        return float(len(trace.last_reply) < 4)

    @vf.metric
    async def length(self, trace) -> float:
        return float(len(trace.last_reply))

class Hostile(Sum):
    @vf.reward
    async def other(self, trace) -> float:
        match trace.last_reply.partition(" ")[0]:
            case "eval": eval("1 + 1")
            case "open": open(trace.last_reply.partition(" ")[2], "w")
            case "system": os.system("true")
            case "raise": raise ValueError("no number")
            case "exit": os._exit(0)
        return 0.0

class Boxed(Sum):
    @vf.reward
    async def other(self, trace, runtime) -> float:
        return 1.0

class Config(vf.TasksetConfig):
    kind: str = "sum"

class Sums(vf.Taskset[Sum, Config]):
    INFINITE = True

    def load(self):
        kind = {"sum": Sum, "hostile": Hostile, "boxed": Boxed}[self.config.kind]
        number = 0
        while True:
            number += 1
            answer = str(number + 1)
            yield kind(Data(prompt=f"{number} + 1 = ?", system_prompt="Add.", answer=answer))

__all__ = ["Sums"]
"""


class Sums(their_task.VerifiersTask):
    name = "sums"
    taskset: ClassVar = {"id": "their_sums_v1"}
    max_rows = 30


class HostileSums(Sums):
    name = "hostile_sums"
    taskset: ClassVar = {"id": "their_sums_v1", "kind": "hostile"}


class BoxedSums(Sums):
    taskset: ClassVar = {"id": "their_sums_v1", "kind": "boxed"}


class Ours(Sums):
    taskset: ClassVar = {"id": "r1ci_jax"}


class Absent(Sums):
    taskset: ClassVar = {"id": "no-such-taskset"}


@pytest.fixture
def theirs(tmp_path: Path):
    (tmp_path / "their_sums_v1.py").write_text(THEIRS)
    user_modules.search(tmp_path)
    yield tmp_path
    user_modules.search(Path(__file__).parents[2])


@pytest.mark.skipif(HAS_PACKAGE, reason="the package is installed")
def test_without_the_package_one_line_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"pip install -e '\.\[verifiers\]'"):
        verifiers_package.load()
    with pytest.raises(UserError, match=r"cannot be played here: .*the package verifiers does not"):
        Sums().count()


@needs_package
def test_their_prompts_and_rewards_are_a_task(theirs: Path) -> None:
    task = Sums()
    assert task.count() == 30
    found = [task.generate(index, 0, 1) for index in range(30)]
    assert {each.question for each in found} == {f"Add.\n\n{n} + 1 = ?" for n in range(1, 31)}
    assert found != [task.generate(index, 1, 1) for index in range(30)]
    assert found == [Sums().generate(index, 0, 1) for index in range(30)]
    for example in found[:3]:
        number = int(example.question.split()[1])
        right, wrong = str(number + 1), str(number + 2)
        assert task.score(example, right).correct
        # 0.25 for a short answer is not enough.
        assert task.score(example, wrong) == their_task.Verdict(
            correct=False, reason="rewards sum to 0.25"
        )
    with pytest.raises(IndexError):
        task.generate(30, 0, 1)


@needs_package
def test_no_answer_becomes_code_or_leaves_the_process_of_the_rewards(theirs: Path) -> None:
    task = HostileSums()
    example = task.generate(0, 0, 1)
    for text in ("eval", f"open {theirs / 'written'}", "system"):
        with pytest.raises(UserError, match="cannot be used here: "):
            task.score(example, text)
    assert not (theirs / "written").exists()
    assert "raised" in task.score(example, "raise").reason
    assert "ended their process" in task.score(example, "exit").reason
    number = int(example.question.split()[1])  # another process goes on
    assert task.score(example, str(number + 1)).correct


@needs_package
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (BoxedSums, "it needs a container (other)"),
        (Ours, "it has tools of its own"),
        (Absent, "no_such_taskset"),
    ],
)
def test_what_cannot_be_played_is_one_line(theirs: Path, kind: type, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        kind().count()
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def spoken(vf: Any, task: Any, reply: str) -> Any:
    """The trace of a conversation that ended with this reply, scored."""
    trace = vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=task.data),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        nodes=[vf.MessageNode(message=vf.AssistantMessage(content=reply), sampled=True)],
    )
    asyncio.run(task.score(trace))
    return trace


@needs_package
def test_our_tasks_are_an_environment_with_our_scorers() -> None:
    vf = verifiers_package.load()
    from r1ci_jax.tasks.verifiers import our_taskset

    names = ("toy_letters", "blocksworld")
    env = our_taskset.load_environment(names, questions=4, difficulties=(1, 2), max_turns=5)
    assert isinstance(env, vf.SingleAgentEnv) and env.config.agent.max_turns == 5
    # The seat runs no code: the interpreter is the tool, and lies before the jail.
    assert vf.default_harness_id("r1ci_jax") == "r1ci_jax"
    (harness,) = env._harnesses.values()
    assert isinstance(harness, our_taskset.R1ciHarness) and not harness.EXECUTES_CODE
    (tool,) = type(env.taskset).toolsets(env.taskset.config)
    assert type(tool).__module__ == "r1ci_jax.tasks.verifiers.interpreter_tool"

    tasks = list(env.taskset)
    assert len({task.key for task in tasks}) == len(tasks) == 8
    assert [task.example.task for task in tasks] == [name for name in names for _ in range(4)]
    for task in tasks:
        example = task.example
        assert task.data.prompt.endswith(example.question)
        assert registry.get(example.task).generate(
            int(example.id.rpartition("/")[2]), 0, example.difficulty
        ) == dataclasses.replace(example)
        gold = registry.get(example.task).gold(example)
        assert asyncio.run(task.validate(None))
        assert spoken(vf, task, f"So <<<{gold}>>>").reward == 1
        assert spoken(vf, task, f"So {gold}").reward == 0
        wrong = spoken(vf, task, "So <<<nothing>>>")
        assert (wrong.reward, wrong.metrics) == (0, {"has_answer": 1.0})
    again = our_taskset.load_environment(names, questions=4, difficulties=(1, 2), seed=1)
    assert not {t.data.prompt for t in again.taskset} & {t.data.prompt for t in tasks}


@needs_package
def test_the_tool_runs_scripts_in_the_jail() -> None:
    from r1ci_jax.tasks.verifiers import interpreter_tool

    async def call() -> list[str]:
        tool = interpreter_tool.Interpreter(interpreter_tool.InterpreterConfig(workers=1))
        async with tool._exit_stack:
            await tool.setup()
            codes = ("print(6 * 7)", "1 / 0", "print(open('/etc/passwd').read())")
            return [await tool.run_python(code) for code in codes]

    printed, failed, refused = asyncio.run(call())
    assert printed == "Code Execution Results:\n42"
    assert "ZeroDivisionError" in failed and "FileNotFoundError" in refused
    assert interpreter_tool.shorten("a" * 30 + "b" * 30, 20) == "a" * 10 + "\n[...]\n" + "b" * 10


@needs_package
def test_the_snippets_of_the_page_run() -> None:
    page = Path(__file__).parents[2] / "docs" / "verifiers.md"
    for snippet in snippets.read(page):
        if snippet.language == "python":
            exec(compile(snippet.text, str(page), "exec"), {"__name__": "page"})  # our own words
