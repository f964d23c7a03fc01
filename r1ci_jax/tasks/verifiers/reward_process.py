"""The program that loads a taskset of `verifiers` and computes its rewards for their_task.py.

    python -m r1ci_jax.tasks.verifiers.reward_process '{"id": "gsm8k-v1"}' 10000

It writes its rows in one line of JSON, then a line for each line that it reads. The code of the
taskset is the user's choice and runs as the user. What the policy wrote is not: once the first
reward was computed, no text becomes code here, no program starts, no connection opens, and no file
is written, whatever a reward does with its argument.
"""

import asyncio
import inspect
import itertools
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import jail_scoring
from r1ci_jax.tasks.verifiers import verifiers_package

_FORBIDDEN: Final = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("subprocess.Popen", "socket.connect", "socket.bind", "socket.sendto", "ctypes.dlopen"),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link"),
    *("os.symlink", "os.truncate", "shutil.rmtree", "os.kill"),
)
_NO_DEFAULT: Final = inspect.Parameter("runtime", inspect.Parameter.KEYWORD_ONLY).default
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Rewards:
    """The rows of a taskset and their rewards."""

    def __init__(self, config: dict[str, Any], max_rows: int) -> None:
        """Load the rows.

        Raises:
            UserError: The rewards need what is not here.
        """
        self._vf = verifiers_package.load()
        settings = self._vf.taskset_config_type(config["id"]).model_validate(config)
        taskset = self._vf.load_taskset(settings)
        self.tasks = list(itertools.islice(taskset, max_rows))
        if not self.tasks:
            raise UserError("it has no rows")
        task = self.tasks[0]
        if problem := self._problem(task, [*taskset.toolsets(settings)]):
            raise UserError(problem)

    def _problem(self, task: Any, shared_tools: list[Any]) -> str | None:
        """Return why the taskset cannot be played here, if so."""
        rewards = task.hooks("reward")
        by_runtime = [each.__name__ for each in rewards if _needs_runtime(each)]
        if by_runtime or task.NEEDS_CONTAINER:
            return f"it needs a container ({', '.join(by_runtime) or 'for the task'})"
        if task.plugged_judges():
            return "it is scored by a language model"
        if shared_tools or type(task).toolsets(task.config):
            return "it has tools of its own"
        return None if rewards else "it has no rewards of its own"

    def rows(self) -> list[dict[str, str]]:
        """Return the texts of the rows."""
        return [
            {"prompt": task.data.prompt_text, "system": task.data.system_prompt or ""}
            for task in self.tasks
        ]

    def reward(self, row: int, reply: str) -> float:
        """Return the sum of the weighted rewards of a reply to a row's prompt."""
        vf, task = self._vf, self.tasks[row]
        said = vf.UserMessage(content=task.data.prompt_text)
        trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=task.data),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            nodes=[
                vf.MessageNode(message=said),
                vf.MessageNode(parent=0, message=vf.AssistantMessage(content=reply), sampled=True),
            ],
        )
        asyncio.run(task.score(trace))
        return float(trace.reward)


def _needs_runtime(function: Callable[..., Any]) -> bool:
    given = inspect.signature(function).parameters.get("runtime")
    return given is not None and given.default is _NO_DEFAULT


def forbid_effects() -> None:
    """Let no text become code from now on, no program start, and nothing leave the process."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if writes or event in _FORBIDDEN:
            raise PermissionError(f"a reward may not do this: {event}")

    exec(jail_scoring.NO_CODE_FROM_TEXT, {})  # ours
    sys.addaudithook(refuse)


def main() -> None:
    """Serve until the other side closes. Prints of the package must not mix with the replies."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(value: dict[str, Any]) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    try:
        rewards = Rewards(json.loads(sys.argv[1]), int(sys.argv[2]))
        rewards.reward(0, "")  # imports what it needs: later no source is compiled
        forbid_effects()
    except Exception as error:
        reply({"error": _line(error)})
        return
    reply({"rows": rewards.rows()})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply({"reward": rewards.reward(request["row"], request["reply"])})
        except Exception as error:  # a taskset's code may raise anything
            reply({"refused" if _is_refused(error) else "raised": _line(error)})


def _is_refused(error: BaseException) -> bool:
    """Return True if a reward did what `forbid_effects` forbids."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PermissionError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


if __name__ == "__main__":
    main()
