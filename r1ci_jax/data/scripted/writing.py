"""A demonstration by a scripted teacher: generators that yield scripts and take their results."""

import dataclasses
import random
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

from r1ci_jax.data.demonstrations import Agent, Demonstration, Segment, send_back
from r1ci_jax.data.external import selection
from r1ci_jax.data.external.selection import Rejection
from r1ci_jax.data.scripted import slips
from r1ci_jax.data.scripted.strategies import Kind, Strategy
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.text import first_stop, prompts, protocol
from r1ci_jax.text.protocol import Stop

type Writing[T] = Generator[str, ExecResult, T]
"""Yields a script, is sent its result, and returns what it was for."""

_CLOSINGS: Final = (
    "",
    "",
    "The script gives the answer.",
    "This output answers the question.",
    "That is what was asked for.",
)
_CONFIRMED: Final = (
    "The check holds, so the answer stands.",
    "The conditions hold.",
    "The second script confirms the result.",
    "True: the answer meets what the question asks.",
)
_DOUBTS: Final = (
    "That cannot be right: the script does not do all that the question asks. Once more:",
    "This output misses a part of the question, so I write the script anew.",
    "The script overlooks something that the question says.",
    "I do not trust this result; the script simplified the question.",
)
_REFUTED: Final = ("The check fails, so I solve it properly.", "False: that answer is wrong.")
_GUESSES: Final = ("", "My first guess: ", "At a glance: ", "Estimated without computing: ")
_SLIPS_TRIED: Final = 3


class RejectedError(Exception):
    """The trajectory becomes no demonstration."""

    def __init__(self, reason: Rejection) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One demonstration before its scripts have run."""

    example: Example
    teacher: Teacher[Any]
    data: Any
    strategy: Strategy
    step: Step
    """The script that solves the question."""
    first: Step | None
    """The script before it, of the kinds two_stage and second_attempt."""
    words_first: bool
    seed: str
    """Determines phrases and slips."""
    instructions: Mapping[str, str]


class _Trajectory:
    """The segments so far, and the turns that lead to more."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.segments: list[Segment] = []
        self.solved = 0
        """Number of segments up to the script that solves the question."""
        self.agent: Agent = plan.strategy[0]
        self.kind: Kind = plan.strategy[1]

    def run(self, step: Step, *, learned: bool = True) -> Writing[ExecResult]:
        """Say and run a script; a masked turn is read and not learned."""
        result = yield step.code
        self.say(step, result, learned=learned)
        return result

    def say(self, step: Step, result: ExecResult, *, learned: bool = True) -> None:
        """Add a script and its output."""
        words = f"{step.words}\n\n" if step.words else ""
        text = f"{words}```python\n{step.code}\n```"
        self.segments += [
            Segment.learned(text) if learned else Segment.masked(text),
            Segment.observed(protocol.observation(result)),
        ]

    def solve(self, before: str = "") -> Writing[str]:
        """Run the script that solves the question; return the answer."""
        step = self.plan.step
        words = step.words if self.plan.words_first and self.agent != "all_code" else ""
        step = Step(words=" ".join(filter(None, (before, words))), code=step.code)
        result = yield from self.run(step)
        self.solved = len(self.segments) - 1
        return self.read(result)

    def read(self, result: ExecResult) -> str:
        """Return the answer that the script's output holds."""
        if result.status is not Status.OK:
            raise RejectedError(Rejection.FAILED)
        answer = _answer(self.plan, result)
        if answer is None:
            raise RejectedError(Rejection.FAILED)
        return answer

    def confirm(self, answer: str) -> Writing[bool]:
        """Let a second script test the answer; False if the teacher has none for it."""
        check = self.plan.teacher.check(self.plan.data, answer, self.rng)
        if check is None:
            return False
        result = yield from self.run(check)
        if not _holds(result):
            raise RejectedError(Rejection.REFUTED)
        return True

    def finish(self, answer: str, closings: Sequence[str] = _CLOSINGS) -> Demonstration:
        """Add the answer; the caller scores it."""
        words = "" if self.agent == "all_code" else self.rng.choice(closings)
        self.segments.append(Segment.learned(f"{words}\n\n" * bool(words) + _marked(answer)))
        if not _pauses(self.segments):
            raise RejectedError(Rejection.BAD_FORMAT)
        plan = self.plan
        return Demonstration(
            example_id=plan.example.id,
            task=plan.example.task,
            agent=self.agent,
            kind=self.kind,
            prompt=prompts.render_question(
                plan.example.question, self.agent, instructions=plan.instructions
            ),
            segments=tuple(self.segments),
            correct=self.kind != "wrong",
        )


def write(plan: Plan) -> Writing[Demonstration]:
    """Write the demonstration that the plan names, or `code` where a part is lacking.

    Raises:
        RejectedError: It becomes none.
    """
    trajectory = _Trajectory(plan)
    match trajectory.kind:
        case "direct":
            return _direct(trajectory)
        case "switch" | "steered_right":
            return (yield from _worked_in_words(trajectory))
        case "steered_wrong":
            made = yield from _guessed(trajectory)
        case "repair":
            made = yield from _repaired(trajectory)
        case "second_attempt":
            made = yield from _attempted_again(trajectory)
        case "wrong":
            return (yield from _answered_wrongly(trajectory))
        case _:
            made = yield from _computed(trajectory)
    if _is_leaked(trajectory, made):
        raise RejectedError(Rejection.KNOWN_ANSWER)
    return made


def _computed(trajectory: _Trajectory) -> Writing[Demonstration]:
    """Kinds code, two_stage and check, and what remains of the others."""
    plan = trajectory.plan
    if plan.first is not None and trajectory.kind == "two_stage":
        result = yield from trajectory.run(plan.first)
        if result.status is not Status.OK:
            raise RejectedError(Rejection.FAILED)
    answer = yield from trajectory.solve()
    last = trajectory.segments[-1].text
    printed = last.removeprefix(f"\n{protocol.OBSERVATION_PREFIX}\n").strip()
    if trajectory.agent == "all_code" and printed != answer.strip():
        trajectory.agent = "code_agent"  # what it prints is not yet the answer
    if trajectory.kind == "check":
        if (yield from trajectory.confirm(answer)):
            return trajectory.finish(answer, _CONFIRMED)
        trajectory.kind = "code"
    return trajectory.finish(answer)


def _direct(trajectory: _Trajectory) -> Demonstration:
    words, answer = _in_words(trajectory)
    trajectory.segments = []
    return trajectory.finish(answer, (words,))


def _worked_in_words(trajectory: _Trajectory) -> Writing[Demonstration]:
    """Work it out in words, then test the result by a script: asked to (CodeSteer), or unasked."""
    words, answer = _in_words(trajectory)
    plan = trajectory.plan
    check = plan.teacher.check(plan.data, answer, trajectory.rng)
    if trajectory.kind == "steered_right":
        first = Segment.learned(f"{words}\n\n{_marked(answer)}")
        trajectory.segments += [first, *send_back(prompts.CHECK_MESSAGE, plan.instructions)]
        if check is None:
            computed = yield from trajectory.solve()
            if not registry.get(plan.example.task).score(plan.example, computed).correct:
                raise RejectedError(Rejection.WRONG)
            return trajectory.finish(computed)
    elif check is None:
        trajectory.kind = "direct"
        return _direct(trajectory)
    else:
        check = Step(words=f"{words}\n\n{check.words}", code=check.code)
    if not _holds((yield from trajectory.run(check))):
        raise RejectedError(Rejection.REFUTED)
    return trajectory.finish(answer, _CONFIRMED)


def _guessed(trajectory: _Trajectory) -> Writing[Demonstration]:
    """A wrong guess, the request to check it, and code that corrects it."""
    plan = trajectory.plan
    answer = trajectory.read((yield plan.step.code))
    wrong = plan.teacher.wrong_answer(plan.data, answer, trajectory.rng)
    # A guess with the right digits and a wrong sign would tell the answer.
    is_telling = selection.is_telling(answer.strip()) and answer.strip() in (wrong or "")
    is_right = wrong and registry.get(plan.example.task).score(plan.example, wrong).correct
    if wrong is None or is_telling or is_right:
        trajectory.agent, trajectory.kind = "code_agent", "code"
        return (yield from _computed(trajectory))
    guess = Segment.masked(trajectory.rng.choice(_GUESSES) + _marked(wrong))
    trajectory.segments += [guess, *send_back(prompts.CHECK_MESSAGE, plan.instructions)]
    before = ""
    if trajectory.rng.random() < 0.5:
        before = yield from _refutation(trajectory, wrong)
    answer = yield from trajectory.solve(before)
    return trajectory.finish(answer)


def _refutation(trajectory: _Trajectory, wrong: str) -> Writing[str]:
    """Let the teacher's check refute a wrong answer, if it has one that does; return words."""
    plan = trajectory.plan
    check = plan.teacher.check(plan.data, wrong, trajectory.rng)
    if check is None:
        return ""
    result = yield check.code
    if result.status is not Status.OK or result.stdout.split()[-1:] != ["False"]:
        return ""
    trajectory.say(check, result)
    return trajectory.rng.choice(_REFUTED)


def _repaired(trajectory: _Trajectory) -> Writing[Demonstration]:
    """A script that raises, which is read and not learned, then the repaired one."""
    step = trajectory.plan.step
    for code, words in slips.slips(step.code, trajectory.rng)[:_SLIPS_TRIED]:
        result = yield code
        if result.status is Status.EXCEPTION:
            told = step.words if trajectory.plan.words_first else ""
            trajectory.say(Step(words=told, code=code), result, learned=False)
            repaired = yield from trajectory.run(Step(words=words, code=step.code))
            trajectory.solved = len(trajectory.segments) - 1
            return trajectory.finish(trajectory.read(repaired))
    trajectory.kind = "code"
    return (yield from _computed(trajectory))


def _attempted_again(trajectory: _Trajectory) -> Writing[Demonstration]:
    """A script that answers wrongly, which is read and not learned, then the right one."""
    plan = trajectory.plan
    assert plan.first is not None, "the kind is only given where there is a first attempt"
    result = yield plan.first.code
    answer = _answer(plan, result) if result.status is Status.OK else None
    task = registry.get(plan.example.task)
    if answer is not None and task.score(plan.example, answer).correct:
        trajectory.kind = "code"
        return (yield from _computed(trajectory))
    trajectory.say(plan.first, result, learned=False)
    before = (yield from _refutation(trajectory, answer)) if answer else ""
    right = yield from trajectory.solve(before or trajectory.rng.choice(_DOUBTS))
    return trajectory.finish(right)


def _answered_wrongly(trajectory: _Trajectory) -> Writing[Demonstration]:
    """A script that answers wrongly and what it printed, or else a wrong guess: all is learned."""
    plan = trajectory.plan
    score = registry.get(plan.example.task).score
    if plan.first is not None:
        result = yield plan.first.code
        answer = _answer(plan, result) if result.status is Status.OK else None
        if answer is not None and not score(plan.example, answer).correct:
            trajectory.say(plan.first, result)
            return trajectory.finish(answer)
    right = trajectory.read((yield plan.step.code))
    guess = plan.teacher.wrong_answer(plan.data, right, trajectory.rng)
    if guess is not None and not score(plan.example, guess).correct:
        return trajectory.finish(guess)
    trajectory.kind = "code"
    return (yield from _computed(trajectory))


def _in_words(trajectory: _Trajectory) -> tuple[str, str]:
    found = trajectory.plan.teacher.in_words(trajectory.plan.data, trajectory.rng)
    if found is None:
        raise RejectedError(Rejection.NO_ANSWER)
    return found


def _answer(plan: Plan, result: ExecResult) -> str | None:
    """Return the teacher's answer; None if the output is not what it knows to read."""
    try:
        return plan.teacher.answer(plan.data, result.stdout) or None
    except (ValueError, LookupError, SyntaxError, AttributeError, TypeError):
        return None


def _holds(result: ExecResult) -> bool:
    """Return True if a check printed True as its last line."""
    return result.status is Status.OK and result.stdout.strip().split("\n")[-1] == "True"


def _is_leaked(trajectory: _Trajectory, made: Demonstration) -> bool:
    """Return True if the answer stands in the trajectory before its script had computed it."""
    answer = (protocol.final_answer(made.segments[-1].text) or "").strip()
    if not selection.is_telling(answer) or answer in trajectory.plan.example.question:
        return False
    for segment in made.segments[: trajectory.solved]:
        if answer in segment.text:
            return segment.role != "observation"
    return False


def _marked(answer: str) -> str:
    """Put the answer between the marks; a blank keeps its own angle brackets apart from them."""
    before, after = " " * answer.startswith("<"), " " * answer.endswith(">")
    return f"<<<{before}{answer}{after}>>>"


def _pauses(segments: Sequence[Segment]) -> bool:
    """Return True if sampling would pause first at the end of each of the policy's turns."""
    wanted = {"observation": Stop.CODE, "user": Stop.ANSWER, "": Stop.ANSWER}
    roles = [*(segment.role for segment in segments[1::2]), ""]
    return all(
        first_stop.find(segment.text) == (wanted[role], len(first_stop.encoded(segment.text)))
        for segment, role in zip(segments[::2], roles, strict=True)
    )
