"""The rule by which trajectories of others become demonstrations; what it rejects is counted.

Whoever wrote a trajectory, nothing that it says is believed: its scripts run in our sandbox, the
observations are what they print there, and the task's rules score the answer. What is kept is what
`external_demonstrations` accepts, so a file of it can be trained on as it is.
"""

import collections
import dataclasses
import enum
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from r1ci_jax.data.demonstrations import (
    Agent,
    Demonstration,
    Segment,
    guidance_turn,
    send_back,
)
from r1ci_jax.runtime import atomic_files
from r1ci_jax.sandbox.result import SANDBOX_FAULTS, ExecResult, Status
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import first_stop, prompts, protocol
from r1ci_jax.text.protocol import Stop

MAX_CHARACTERS: Final = 100_000
"""Characters of a trajectory that are looked at; no model reads more of a demonstration."""
_TELLING: Final = 4
"""Characters of an answer with a digit that stands in a script not by chance."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Rejection(enum.StrEnum):
    """The reason why a trajectory is no demonstration."""

    UNREADABLE = "the record has none of the known forms"
    NO_QUESTION = "its question is not one of the experiment"
    OTHER_SPLIT = "its question is kept for reinforcement learning or evaluation"
    TOO_LONG = "it is too long"
    CONTROL = "it holds control characters"
    OTHER_TOOL = "it calls a tool that is not the interpreter"
    UNFINISHED_TURN = "a turn ends without code and without an answer"
    FENCE_IN_CODE = "a script holds a code fence"
    STRAY_OUTPUT = "an output follows no script"
    MANY_SCRIPTS = "it has more scripts than limits.max_code_calls"
    SANDBOX_FAULT = "the sandbox gave no verdict about a script"
    OTHER_OUTPUT = "a script prints something else here"
    UNSTEADY = "a script prints something else each time"
    NO_ANSWER = "it has no answer"
    BAD_FORMAT = "fences or answer marks are left over"
    WRONG = "the answer is wrong"
    KNOWN_ANSWER = "a script holds the answer that it was to find"
    CUT_OFF = "an answer was cut off at the limit of its tokens"
    DECLINED = "the endpoint declined to answer"
    ENDPOINT_FAILED = "the endpoint failed too often"
    OTHER_FORM = "the question has a form that its teacher does not know"
    FAILED = "a script failed that was to work"
    REFUTED = "a script refutes the answer"
    DUPLICATE = "another one of the task has the same scripts"
    ENOUGH = "the task has enough"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a model, and what followed it."""

    text: str
    """Ends at a closed code block or a closed answer."""
    result: ExecResult | None = None
    """The result of the turn's script, if it ends in one, in our own sandbox."""
    reply: str = ""
    """What a user said to the turn's answer; empty if nothing."""
    guidance: str = ""
    """What a guide wrote that led to `reply`; empty if there was none, or it is not known."""

    @property
    def code(self) -> str | None:
        """The script that the turn ends in."""
        return None if self.result is None else protocol.last_code(self.text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """What a teacher made: the demonstrations, and the rest by reason."""

    demonstrations: Sequence[Demonstration]
    rejected: Mapping[Rejection, int]
    stopped: str = ""
    """Why it ended before it had tried everything; empty if it did not."""

    def summary(self) -> list[str]:
        """Return what there is to say, a line each, the most frequent reason first."""
        lines = [f"{len(self.demonstrations)} demonstrations kept"]
        ordered = sorted(self.rejected.items(), key=lambda item: (-item[1], item[0]))
        lines += [f"{count} rejected: {reason}" for reason, count in ordered]
        return [*lines, *([self.stopped] if self.stopped else [])]


class Selection:
    """Collects demonstrations: at most so many of a task, all distinct.

    Of more than a task takes, those with several turns are preferred up to a share: such a one
    replaces the latest of the others.
    """

    def __init__(
        self,
        most_per_task: int,
        *,
        fits: Callable[[Demonstration], bool] | None = None,
        multi_turn: float | None = None,
    ) -> None:
        """Start with none.

        Args:
            most_per_task: Demonstrations of a task that are kept.
            fits: Returns False for a demonstration that is too long to train.
            multi_turn: Fraction of a task's demonstrations up to which those with several turns
                are preferred; None: they are kept as they come.
        """
        self._wanted = round((multi_turn or 0.0) * most_per_task)
        self._several: collections.Counter[str] = collections.Counter()
        self.demonstrations: list[Demonstration] = []
        self.rejected: collections.Counter[Rejection] = collections.Counter()
        self.per_task: collections.Counter[str] = collections.Counter()
        self._most_per_task = most_per_task
        self._fits = fits
        self._seen: set[bytes] = set()

    def is_full(self, task: str) -> bool:
        """Return True if no more demonstrations of the task are kept, whatever they are."""
        is_preferred_full = self._several[task] >= self._wanted
        return self.per_task[task] >= self._most_per_task and is_preferred_full

    def offer(self, offered: Demonstration | Rejection) -> Rejection | None:
        """Keep a demonstration, or count why not; returns the reason."""
        reason = offered if isinstance(offered, Rejection) else self._problem(offered)
        if reason is not None:
            self.rejected[reason] += 1
        elif isinstance(offered, Demonstration):
            self._seen.add(identity(offered))
            if self.per_task[offered.task] >= self._most_per_task:
                self._give_way(offered.task)
            self.per_task[offered.task] += 1
            self._several[offered.task] += has_several_turns(offered)
            self.demonstrations.append(offered)
        return reason

    def made(self, *, stopped: str = "") -> Made:
        """Return what was collected, in the order in which it was offered."""
        return Made(
            demonstrations=tuple(self.demonstrations),
            rejected=dict(self.rejected),
            stopped=stopped,
        )

    def _problem(self, demonstration: Demonstration) -> Rejection | None:
        if self._fits is not None and not self._fits(demonstration):
            return Rejection.TOO_LONG
        if identity(demonstration) in self._seen:
            return Rejection.DUPLICATE
        if self.per_task[demonstration.task] < self._most_per_task:
            return None
        is_preferred = has_several_turns(demonstration) and not self.is_full(demonstration.task)
        return None if is_preferred else Rejection.ENOUGH

    def _give_way(self, task: str) -> None:
        """Drop the latest demonstration of a task without several turns."""
        place = max(
            place
            for place, each in enumerate(self.demonstrations)
            if each.task == task and not has_several_turns(each)
        )
        del self.demonstrations[place]
        self.per_task[task] -= 1
        self.rejected[Rejection.ENOUGH] += 1


def demonstration(
    example: Example,
    turns: Sequence[Turn],
    *,
    agent: Agent = "code_agent",
    instructions: Mapping[str, str] = prompts.NO_INSTRUCTIONS,
) -> Demonstration | Rejection:
    """Make a demonstration of a trajectory whose scripts have run, or say why it is none.

    A script that fails, and an answer that a reply corrects, are read and not learned.
    """
    if any(turn.result is not None and turn.result.status in SANDBOX_FAULTS for turn in turns):
        return Rejection.SANDBOX_FAULT
    if any(turn.reply for turn in turns):
        agent = "codesteer"
    is_code_answer = agent == "all_code" and len(turns) == 1 and turns[0].result is not None
    if is_code_answer:
        turns = [*turns, Turn(text=f"<<<{(turns[0].result or _NONE).stdout.strip()}>>>")]
    if problem := _format_problem(turns):
        return problem
    if prompts.GUIDE in instructions and not all(map(_is_guidable, turns)):
        return Rejection.BAD_FORMAT
    segments: list[Segment] = []
    for turn in turns:
        segments += _segments(example, turn, instructions)
    answer = protocol.final_answer(turns[-1].text)
    if answer is None:
        return Rejection.NO_ANSWER
    if not registry.get(example.task).score(example, answer).correct:
        return Rejection.WRONG
    if _knows_answer(example, turns, answer):
        return Rejection.KNOWN_ANSWER
    segments[-1] = Segment.learned(segments[-1].text)
    return Demonstration(
        example_id=example.id,
        task=example.task,
        agent=agent,
        kind=kind_of(turns),
        prompt=prompts.render_question(example.question, agent, instructions=instructions),
        segments=tuple(segments),
        correct=True,
    )


_NONE: Final = ExecResult(status=Status.OK)


def kind_of(turns: Sequence[Turn]) -> str:
    """Name what a trajectory shows: `direct`, `code`, `repair` or `several` scripts."""
    results = [turn.result for turn in turns if turn.result is not None]
    if not results:
        return "direct"
    if any(result.status is not Status.OK for result in results):
        return "repair"
    return "code" if len(results) == 1 else "several"


def write(path: Path, demonstrations: Iterable[Demonstration]) -> None:
    """Write demonstrations as JSON lines, atomically; `external_demonstrations` reads them."""
    lines = (json.dumps(dataclasses.asdict(each)) + "\n" for each in demonstrations)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_files.write_atomic(path, "".join(lines))


def _is_guidable(turn: Turn) -> bool:
    """Return True if a guide's turn can say what sent the answer back, and ends there."""
    said = turn.guidance or guidance_turn(turn.reply)
    is_ended = first_stop.find(said) == (Stop.ANSWER, len(first_stop.encoded(said)))
    is_said = bool(turn.guidance) or protocol.final_answer(said) == turn.reply
    return not turn.reply or (is_ended and is_said)


def _segments(example: Example, turn: Turn, instructions: Mapping[str, str]) -> list[Segment]:
    if turn.result is not None:
        is_right = turn.result.status is Status.OK
        said = Segment.learned(turn.text) if is_right else Segment.masked(turn.text)
        return [said, Segment.observed(protocol.observation(turn.result))]
    if not turn.reply:
        return [Segment.learned(turn.text)]
    answer = protocol.final_answer(turn.text)
    is_right = answer is not None and registry.get(example.task).score(example, answer).correct
    said = Segment.learned(turn.text) if is_right else Segment.masked(turn.text)
    return [said, *send_back(turn.reply, instructions, guidance=turn.guidance)]


def is_telling(answer: str) -> bool:
    """Return True if the answer stands in a text by chance only rarely."""
    has_digit = any(letter.isdigit() for letter in answer)
    return len(answer) >= (_TELLING if has_digit else 5 * _TELLING)


def _knows_answer(example: Example, turns: Sequence[Turn], answer: str) -> bool:
    """Return True if a script holds the answer, and nothing before it does.

    It would teach to print what one knows already. Short answers stand in scripts by chance, and
    words such as "valid" because the question wants them.
    """
    if not is_telling(answer):
        return False
    before = example.question
    for turn in turns:
        code = turn.code or ""
        if answer in before:
            return False
        if answer in code:
            return answer not in turn.text.replace(code, "")
        before += turn.text
        before += "" if turn.result is None else turn.result.stdout
    return False


def _format_problem(turns: Sequence[Turn]) -> Rejection | None:
    """Check the turns: where each ends, what stands in them, and that the last one answers."""
    texts = [text for turn in turns for text in (turn.text, turn.reply, turn.guidance)]
    if sum(map(len, texts)) > MAX_CHARACTERS:
        return Rejection.TOO_LONG
    if any(_CONTROL.search(text) for text in texts):
        return Rejection.CONTROL
    if not turns or turns[-1].result is not None or turns[-1].reply:
        return Rejection.NO_ANSWER
    for turn in turns:
        wanted = Stop.ANSWER if turn.result is None else Stop.CODE
        if first_stop.find(turn.text) != (wanted, len(first_stop.encoded(turn.text))):
            return Rejection.NO_ANSWER if turn is turns[-1] else Rejection.UNFINISHED_TURN
    begin = max((n + 1 for n, turn in enumerate(turns) if turn.reply), default=0)
    if not protocol.keeps_format("\n".join(turn.text for turn in turns[begin:])):
        return Rejection.BAD_FORMAT
    return None


def has_several_turns(demonstration: Demonstration) -> bool:
    """Return True if there are more turns than a script and the answer after it."""
    return sum(segment.role == "assistant" for segment in demonstration.segments) > 2


def scripts_of(demonstration: Demonstration) -> list[str]:
    """Return the scripts of a demonstration, apart from white space that says nothing."""
    texts = [segment.text for segment in demonstration.segments if segment.role == "assistant"]
    codes = [code for text in texts if (code := protocol.last_code(text)) is not None]
    return [" ".join(code.split()) for code in codes]


def identity(demonstration: Demonstration) -> bytes:
    """Return a digest of what makes two demonstrations the same: the scripts, or else the words."""
    texts = [segment.text for segment in demonstration.segments if segment.role == "assistant"]
    words = [demonstration.example_id, *(" ".join(text.split()) for text in texts)]
    parts = [demonstration.task, *(scripts_of(demonstration) or words)]
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).digest()
