"""In a runner's place, for tests of measurements."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

from r1ci_jax.curriculum import potential
from r1ci_jax.rollout.runner import Request
from r1ci_jax.rollout.trajectory import StopReason, Trajectory
from r1ci_jax.tasks.base import Example


class CountingRunner:
    """In the runner's place: answers each question correctly as often as it is told."""

    def __init__(
        self,
        correct: Mapping[str, int],
        faults: Mapping[str, int] | None = None,
        *,
        breaks_at: str = "",
    ) -> None:
        self.correct = correct
        self.faults = faults or {}
        self.breaks_at = breaks_at
        self.requests: list[Request] = []

    def run_batches(
        self, batches: Iterable[Sequence[Request]], *, on_done: Callable[[int], None] | None = None
    ) -> Generator[list[Trajectory]]:
        for batch in batches:
            yield [self._answer(request) for request in batch]

    def _answer(self, request: Request) -> Trajectory:
        self.requests.append(request)
        name = request.example.id
        if name == self.breaks_at:
            raise KeyboardInterrupt
        # The last members are those whose interpreter fails, the first ones are correct.
        member = request.rollout_id.sample_index % potential.FIRST_SAMPLE_AGAIN
        void = member >= 20 - self.faults.get(name, 0)
        return Trajectory(
            example_id=name,
            task=request.example.task,
            question="",
            agent=request.agent.name,
            rollout_id=request.rollout_id,
            tokens=(),
            sampled=(),
            logprobs=(),
            code_calls=(),
            stop=StopReason.SANDBOX_FAULT if void else StopReason.ANSWER,
            answer=None,
            correct=member < self.correct[name],
            reward=0.0,
        )


def example(number: int, answer: str = "1") -> Example:
    return Example(id=f"q{number}", task="toy_letters", question="?", answer=answer, difficulty=1)
