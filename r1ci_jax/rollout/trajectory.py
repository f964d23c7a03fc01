"""The result of a rollout: its exact tokens, their authors and log-probabilities, its code."""

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import NamedTuple

from r1ci_jax.sandbox import ExecResult


class StopReason(enum.StrEnum):
    """Reason for which a trajectory ended."""

    ANSWER = "answer"
    """The policy closed an answer, and its agent accepted it."""
    EOS = "eos"
    """The policy ended its message without an answer."""
    MAX_CODE_CALLS = "max_code_calls"
    """The policy wrote one code block more than it may run."""
    MAX_TURNS = "max_turns"
    """The policy would have needed one turn more than it may take."""
    MAX_TURN_TOKENS = "max_turn_tokens"
    """The policy sampled too many tokens in one turn."""
    MAX_TOKENS = "max_tokens"
    """The budget of sampled tokens was used up."""
    WALL_TIME = "wall_time"
    """The trajectory took too long."""
    CONTEXT_FULL = "context_full"
    """The cache row was full, or the next observation would not have fitted into it."""
    SANDBOX_FAULT = "sandbox_fault"
    """The interpreter itself failed, not the script: never trained on, never scored as wrong."""

    @property
    def is_limit(self) -> bool:
        """True if a limit ended the trajectory, and neither the policy nor the interpreter."""
        return self not in (StopReason.ANSWER, StopReason.EOS, StopReason.SANDBOX_FAULT)


class RolloutId(NamedTuple):
    """The name of a trajectory's random stream: the same id gives the same random numbers."""

    group_id: int
    """Number of the question's group, unique within a run of requests."""
    sample_index: int
    """Index of the trajectory within its group."""


class RewardTerms(NamedTuple):
    """The parts that a reward is the sum of (paper section 5)."""

    correct: float
    """For a correct answer; 0 for a wrong one or none."""
    format: float
    """For the format of the responses; negative where one breaks it."""
    turn_penalty: float
    """For the number of turns; 0 or negative."""

    @property
    def total(self) -> float:
        """The reward."""
        return self.correct + self.format + self.turn_penalty


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeCall:
    """One code block that was run, and its result."""

    code: str
    result: ExecResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One finished episode as the model saw and wrote it; text is never tokenized again.

    Example (one code call; `·` marks tokens that the policy did not choose):
        text      ·user: 2^9?  ```python print(2**9) ```  ·512   <<<512>>>
        tokens     9 9 9 9      4 7 7 7 4                  8 8    5 6 5
        sampled    0 0 0 0      1 1 1 1 1                  0 0    1 1 1
    """

    example_id: str
    task: str
    question: str
    agent: str
    rollout_id: RolloutId
    tokens: tuple[int, ...]
    """Prompt, completions and observations, in order."""
    sampled: tuple[bool, ...]
    """True where the policy chose the token."""
    logprobs: tuple[float, ...]
    """Log-probability under the distribution sampled from; 0.0 where not sampled."""
    code_calls: tuple[CodeCall, ...]
    stop: StopReason
    answer: str | None
    """Text between the answer marks, or None."""
    correct: bool
    reward: float
    reward_terms: RewardTerms | None = None
    """Parts of the reward; None where it was not made of such, or an earlier version stored it."""
    keeps_format: bool | None = None
    """True if the responses keep the format (text/protocol.py); None: an earlier version's."""
    num_void_turns: int | None = None
    """Turns of the policy that closed neither code nor an answer; None: an earlier version's."""
    is_masked: bool = False
    """True: it carries no loss, by one of the masks of `grpo.signal`."""
    num_stale_tokens: int = 0
    """Number of first tokens that are older than the weights of the step that trains on them: the
    trajectory was a partial rollout of an earlier step."""
    guide_starts: tuple[int, ...] = ()
    """Index of the first token of each turn that the policy wrote as its own guide."""
    num_tool_calls: int = 0
    """Calls of the agent's own tools, with which it replaces or completes the interpreter."""

    def __post_init__(self) -> None:
        assert len(self.tokens) == len(self.sampled) == len(self.logprobs)

    @property
    def trained(self) -> tuple[bool, ...]:
        """True where the policy chose the token, and not as the guide: only these train."""
        return tuple(without_guide(self.sampled, self.guide_starts))

    @property
    def is_valid(self) -> bool:
        """False when the sandbox failed; such a trajectory does not train or count in its group."""
        return self.stop is not StopReason.SANDBOX_FAULT

    @property
    def carries_loss(self) -> bool:
        """True if its tokens train."""
        return self.is_valid and not self.is_masked

    @property
    def num_turns(self) -> int:
        """Turns of the policy that ended in an observation or the answer: calls and one."""
        return self.num_calls + 1

    @property
    def num_calls(self) -> int:
        """Calls of the interpreter and of the agent's own tools."""
        return len(self.code_calls) + self.num_tool_calls


def without_guide(sampled: Sequence[bool], guide_starts: Sequence[int]) -> Sequence[bool]:
    """Return `sampled` with False for the turns that begin at `guide_starts`."""
    if not guide_starts:
        return sampled
    kept = list(sampled)
    for start in guide_starts:
        index = start
        while index < len(kept) and sampled[index]:
            kept[index] = False
            index += 1
    return kept


def with_learned_observations(trajectory: Trajectory) -> Trajectory:
    """Return a copy in which tokens of observations count as sampled: an ablation.

    Their log-probability is NaN, because the sampler did not choose them. A guide's words still do
    not train; in the copy they count as not sampled.
    """
    prompt = trajectory.sampled.index(True) if any(trajectory.sampled) else len(trajectory.tokens)
    pairs = zip(trajectory.sampled, trajectory.trained, strict=True)
    sampled = tuple(
        position >= prompt and (is_trained or not is_sampled)
        for position, (is_sampled, is_trained) in enumerate(pairs)
    )
    logprobs = tuple(
        math.nan if learned and not chosen else logprob
        for learned, chosen, logprob in zip(
            sampled, trajectory.sampled, trajectory.logprobs, strict=True
        )
    )
    return dataclasses.replace(trajectory, sampled=sampled, logprobs=logprobs, guide_starts=())
