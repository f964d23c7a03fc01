"""A taskset of `verifiers` as a task: its prompts are the questions, its rewards the scorer.

    class Gsm8k(their_task.VerifiersTask):
        name = "gsm8k"
        taskset = {"id": "gsm8k-v1"}

    registry.register("gsm8k", "my_tasks:Gsm8k", suite="verifiers")

The package and the taskset's code run in a process of their own (reward_process.py), and so do the
rewards, in which no text becomes code. A taskset whose rewards need a container, a language model
or tools of its own is refused: nothing here provides these.
"""

import atexit
import functools
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final, override

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example, Verdict

PROGRAM: Final = "r1ci_jax.tasks.verifiers.reward_process"
START_SECONDS: Final = 600.0
"""Time for importing the package and loading the rows, which may be a download."""
SCORE_SECONDS: Final = 20.0
"""Time for the rewards of one answer; one that takes longer is wrong."""
KEPT_VARIABLES: Final = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "SSL_CERT_FILE",
)
"""Environment that the process gets: no keys of other services."""


class VerifiersTask(base.Task):
    """Base class of a taskset that is played here; `name` and `taskset` name it."""

    taskset: ClassVar[Mapping[str, Any]]
    """Its config: `id`, the installed package, and what else `--env.taskset.*` would set."""
    max_rows: ClassVar[int] = 10_000
    """Rows that are read, in their order; an endless taskset has no others."""
    right_from: ClassVar[float] = 1.0
    """Smallest sum of the weighted rewards that counts as correct."""
    instructions: ClassVar[str] = ""
    """Text before each question, in place of the taskset's system prompt, where that asks for
    another form of answer than ours."""

    suite = "verifiers"
    split = "train"
    kind = "reasoning"
    answer_format = "what the rewards of the taskset accept"
    difficulties = (1,)
    many_answers = True
    marks_matter = True

    def reply(self, answer_text: str) -> str:
        """Return the last message that the rewards read, given the text between our marks."""
        return answer_text

    @override
    def count(self) -> int:
        return len(self._process().rows)

    @override
    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        self.require_difficulty(difficulty)
        rows = self._process().rows
        if not 0 <= index < len(rows):
            raise IndexError(f"{self.name} has {len(rows)} questions, there is no index {index}")
        order = [*range(len(rows))]
        base.example_rng(self.name, seed, 1, 0).shuffle(order)
        row = rows[order[index]]
        before = self.instructions or row["system"]
        return Example(
            id=f"{self.name}/d{difficulty}/s{seed}/{index}",
            task=self.name,
            question=f"{before}\n\n{row['prompt']}" if before else row["prompt"],
            answer="",
            difficulty=difficulty,
            metadata=json.dumps({"row": order[index]}),
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        row = json.loads(example.metadata)["row"]
        reward = self._process().reward(row, self.reply(answer_text))
        if isinstance(reward, str):
            return Verdict(correct=False, reason=reward)
        return Verdict(correct=reward >= self.right_from, reason=f"rewards sum to {reward:g}")

    def _process(self) -> "RewardProcess":
        return _shared_process(json.dumps(dict(self.taskset), sort_keys=True), self.max_rows)


@functools.cache
def _shared_process(taskset: str, max_rows: int) -> "RewardProcess":
    process = RewardProcess(taskset, max_rows)
    atexit.register(process.close)
    return process


class RewardProcess:
    """The process that loads a taskset and computes its rewards; threads share it."""

    def __init__(self, taskset: str, max_rows: int) -> None:
        """Start it with the taskset's config as JSON, and read the rows.

        Raises:
            UserError: The taskset cannot be loaded, or cannot be played here.
        """
        self._command = [sys.executable, "-m", PROGRAM, taskset, str(max_rows)]
        self._lock = threading.Lock()
        self.rows: list[dict[str, str]] = self._start()

    def reward(self, row: int, reply: str) -> float | str:
        """Return the sum of the weighted rewards of a reply, or why there is none for this reply.

        Raises:
            UserError: The rewards do what is forbidden beside a reply, such as running it.
        """
        with self._lock:
            if self._process.poll() is not None:
                self._start()
            found = self._ask({"row": row, "reply": reply}, SCORE_SECONDS)
            if found is None:
                self.close()
                return f"the rewards took over {SCORE_SECONDS:.0f} s, or ended their process"
        if "refused" in found:
            raise UserError(
                f"the rewards of {self._command[3]} cannot be used here: {found['refused']}"
            )
        return f"the rewards raised {found['raised']}" if "raised" in found else found["reward"]

    def close(self) -> None:
        """End the process; the next question about a reward starts another."""
        self._process.kill()
        self._process.communicate()

    def _start(self) -> list[dict[str, str]]:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        found = self._read(START_SECONDS)
        if found is None or "error" in found:
            self.close()
            reason = "it ended or took too long" if found is None else found["error"]
            raise UserError(f"the taskset {self._command[3]} cannot be played here: {reason}")
        return found["rows"]

    def _ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        return self._read(seconds)

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """Read one line; None if it does not come in time."""
        stdout = self._process.stdout
        assert stdout is not None
        end, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(end - time.monotonic(), 0)):
                    return None
                chunk = os.read(stdout.fileno(), 1 << 20)
                if not chunk:
                    return None
                line += chunk
        return json.loads(line)
