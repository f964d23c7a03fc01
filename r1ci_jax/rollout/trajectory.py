"""What a rollout leaves behind: exact tokens, who wrote them, how likely they were, what ran."""

import dataclasses
import enum

from r1ci_jax.sandbox import ExecResult


class StopReason(enum.StrEnum):
    """Why a trajectory ended."""

    ANSWER = "answer"
    """The policy closed an answer that its way of answering lets count."""
    EOS = "eos"
    """The policy ended its turn without an answer."""
    MAX_CODE_CALLS = "max_code_calls"
    """It wrote one code block more than it may run."""
    MAX_TURNS = "max_turns"
    """It would have gone on once more often than it may."""
    MAX_TURN_TOKENS = "max_turn_tokens"
    """It sampled too many tokens without a pause."""
    MAX_TOKENS = "max_tokens"
    """Its budget of sampled tokens was used up."""
    WALL_TIME = "wall_time"
    """It took too long."""
    CONTEXT_FULL = "context_full"
    """Its cache row was full, or the next observation would not have fitted."""
    SANDBOX_FAULT = "sandbox_fault"
    """The interpreter itself failed, not the script: never trained on, never scored as wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeCall:
    """One code block and what came of it."""

    code: str
    result: ExecResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One episode as the model saw and wrote it; text is never tokenised again.

    Example (one code call; `·` marks tokens that the policy did not choose):
        text      ·user: 2^9?  ```python print(2**9) ```  ·512   <<<512>>>
        tokens     9 9 9 9      4 7 7 7 4                  8 8    5 6 5
        sampled    0 0 0 0      1 1 1 1 1                  0 0    1 1 1
    """

    example_id: str
    task: str
    question: str
    agent: str
    rollout_id: tuple[int, int]
    """(rollout id, member of its group): names its random numbers."""
    tokens: tuple[int, ...]
    """Prompt, samples and observations, in order."""
    sampled: tuple[bool, ...]
    """True where the policy chose the token; only these train."""
    logprobs: tuple[float, ...]
    """Log-probability under the distribution sampled from; 0.0 where not sampled."""
    code_calls: tuple[CodeCall, ...]
    stop: StopReason
    answer: str | None
    """Text between the answer marks, or None."""
    correct: bool
    reward: float
    num_stale_tokens: int = 0
    """So many of its first tokens were there before the weights that it is trained on: it was
    carried over from an earlier step."""

    def __post_init__(self) -> None:
        assert len(self.tokens) == len(self.sampled) == len(self.logprobs)

    @property
    def is_valid(self) -> bool:
        """False when the sandbox failed: such a row neither trains nor counts in its group."""
        return self.stop is not StopReason.SANDBOX_FAULT

    @property
    def num_turns(self) -> int:
        """How often the policy was asked to go on: one more than the code blocks that were run."""
        return len(self.code_calls) + 1
