"""Selection of the groups and trajectories that a step trains on (`grpo.signal`).

Every function here is pure: a decision depends on the trajectories and the settings alone.

A group has *signal* if both a correct and a wrong answer count in its baseline. This is the rule of
DAPO's dynamic sampling (arXiv 2503.14476, section 3.2), and it is about correctness, not about the
whole reward. The terms for format and turns also differ within a group whose answers are all wrong,
and the division by the group's deviation would make ±0.1 as loud as a correct answer. With p the
pass rate of a question, a group of G has signal with probability 1 - p^G - (1-p)^G.
"""

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence

from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import SignalConfig
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.sandbox import Status


def by_group(trajectories: Iterable[Trajectory]) -> list[list[Trajectory]]:
    """Split trajectories in the order of their rollout ids into groups."""
    members = itertools.groupby(trajectories, key=lambda each: each.rollout_id.group_id)
    return [list(group) for _, group in members]


def select(
    group: Sequence[Trajectory], size: int, config: SignalConfig, *, seed: int
) -> list[Trajectory]:
    """Choose `size` trajectories of a group, in their order, and mark those without loss.

    Raises:
        UserError: The masks need what trajectories of an earlier version do not hold.
    """
    kept = group if len(group) == size else resample(group, size, seed=seed)
    return [
        dataclasses.replace(each, is_masked=True) if _is_masked(each, config) else each
        for each in kept
    ]


def counts_in_baseline(trajectory: Trajectory, config: SignalConfig) -> bool:
    """Return True if the trajectory's reward counts in the mean of its group."""
    return trajectory.is_valid and (config.masked_in_baseline or not trajectory.is_masked)


def has_signal(group: Iterable[Trajectory], config: SignalConfig) -> bool:
    """Return True if the selected trajectories of a group teach by comparison."""
    group = list(group)
    scores = {each.correct for each in group if counts_in_baseline(each, config)}
    return len(scores) == 2 and any(each.carries_loss for each in group)


def groups_to_ask(
    signal: Mapping[int, bool], num_groups: int, rounds: int, *, unknown: float = 0.0
) -> list[int]:
    """Return how many groups a step has asked for after each round of refills, round 0 included.

    Round 0 asks `num_groups` groups, each later round as many as the one before had without signal.
    With E(n) the number of those among the first n, the total after round r is

        B_0 = num_groups        B_(r+1) = num_groups + E(B_r)

    A total never falls when one more group turns out to be without signal, so with some groups
    still unknown (taken to have signal) it is a lower bound: a group below it will be asked in any
    case. A sampler may therefore begin it at once, while others of earlier rounds are decoded, and
    the groups of a step are those that rounds one after the other would ask.

    Args:
        signal: For the groups that are known, by their place in the step: has it signal?
        num_groups: Groups that the step wants.
        rounds: Largest number of refills.
        unknown: Share of the unknown groups that is taken to be without signal. With more than
            none the totals are a guess, rounded down.

    >>> groups_to_ask({0: False, 1: True, 2: False, 4: False}, 4, rounds=3)
    [4, 6, 7, 7]
    >>> groups_to_ask({0: False, 1: True, 2: False, 4: False}, 4, rounds=3, unknown=0.5)
    [4, 6, 8, 9]
    """
    totals = [num_groups]
    for _ in range(rounds):
        asked = range(totals[-1])
        known = [signal[place] for place in asked if place in signal]
        without = known.count(False) + math.floor(unknown * (len(asked) - len(known)))
        totals.append(num_groups + without)
    return totals


def resample(group: Sequence[Trajectory], size: int, *, seed: int) -> list[Trajectory]:
    """Keep `size` trajectories of an oversampled group: GRPO-RoC (rStar2-Agent, arXiv 2508.20722).

    Correct and wrong ones keep their shares, rounded, and at least one each. The wrong ones are
    drawn uniformly, so that the policy still sees every way to fail; the correct ones without
    replacement with a probability in proportion to

        1 / (e + f)     e: failed code calls / code calls     f: 1 if the format is broken, else 0

    where e + f = 0 always goes first. (rStar2's f also counts surplus answers; here the first
    closed answer ends the sampling.) Its e = 1/2 without a code call would prefer trajectories with
    calls to those without: here such a trajectory gets the mean e of the group's correct ones with
    calls (0 if there are none), so that neither is preferred. Trajectories that the sandbox lost
    are kept only where too few others are left.
    """
    draw = random.Random(f"{seed}/{group[0].rollout_id.group_id}")
    correct = [each for each in group if each.is_valid and each.correct]
    wrong = [each for each in group if each.is_valid and not each.correct]
    lost = [each for each in group if not each.is_valid]
    wanted = min(size, len(correct) + len(wrong))
    num_wrong = _share(len(wrong), len(correct), wanted)
    penalties = _penalties(correct)

    def lateness(index: int) -> tuple[float, float]:
        # The exponential race: to come first has probability 1 / penalty over the sum of those.
        return penalties[index] * -math.log1p(-draw.random()), draw.random()

    places = {each.rollout_id: lateness(index) for index, each in enumerate(correct)}
    best = sorted(correct, key=lambda each: places[each.rollout_id])[: wanted - num_wrong]
    kept = [*best, *draw.sample(wrong, num_wrong), *lost[: size - wanted]]
    return sorted(kept, key=lambda each: each.rollout_id)


def _share(count: int, others: int, wanted: int) -> int:
    """Return how many of `count` are among `wanted`: their share, and one of each kind if it can.

    >>> _share(5, 5, 5), _share(1, 9, 5), _share(10, 0, 5), _share(2, 3, 5)
    (3, 1, 5, 2)
    """
    if not count or not others:
        return min(count, wanted)
    share = math.floor(count * wanted / (count + others) + 0.5)
    return min(max(share, min(1, wanted - 1)), max(wanted - 1, 1))


def _penalties(correct: Sequence[Trajectory]) -> list[float]:
    """Return e + f of each; see `resample`."""
    errors = [_error_share(each) for each in correct]
    known = [error for error in errors if error is not None]
    neutral = sum(known) / len(known) if known else 0.0
    return [
        (neutral if error is None else error) + (each.keeps_format is False)
        for error, each in zip(errors, correct, strict=True)
    ]


def _error_share(trajectory: Trajectory) -> float | None:
    """Return the fraction of code calls that failed; None without calls."""
    statuses = [call.result.status for call in trajectory.code_calls]
    if not statuses:
        return None
    return sum(status is not Status.OK for status in statuses) / len(statuses)


def _is_masked(trajectory: Trajectory, config: SignalConfig) -> bool:
    """Return True if one of the masks holds for the trajectory."""
    if config.mask_cut_off and trajectory.stop.is_limit:
        return True
    if not config.mask_void_turns:
        return False
    if trajectory.num_void_turns is None:
        raise UserError(
            f"rollout {tuple(trajectory.rollout_id)} is an earlier version's, which did not count "
            "void turns: set grpo.signal.mask_void_turns to False, or dump rollouts again"
        )
    return trajectory.num_void_turns > 0
