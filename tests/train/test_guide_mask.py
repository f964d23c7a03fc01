"""What the policy wrote as CodeSteer's guide carries no loss."""

import numpy as np

from r1ci_jax.rollout.trajectory import RolloutId, StopReason, Trajectory
from r1ci_jax.train import microbatching
from tests.train.tiny_training import CONFIG


def steered(*, guide_starts: tuple[int, ...], num_stale_tokens: int = 0) -> Trajectory:
    """Twelve tokens: a prompt of two, then turns of three, two and one with context between."""
    sampled = tuple(mark == "x" for mark in "..xxx..xx..x")
    return Trajectory(
        example_id="e",
        task="toy_letters",
        question="q",
        agent="codesteer",
        rollout_id=RolloutId(0, 0),
        tokens=tuple(range(12)),
        sampled=sampled,
        logprobs=tuple(-0.5 * own for own in sampled),
        code_calls=(),
        stop=StopReason.ANSWER,
        answer="1",
        correct=True,
        reward=1.0,
        guide_starts=guide_starts,
        num_stale_tokens=num_stale_tokens,
    )


def masks(one: Trajectory) -> tuple[str, str]:
    """The tokens of a microbatch that carry loss, and those of them that are on-policy."""
    (batch,) = microbatching.split_microbatches([one], np.ones(1, np.float32), CONFIG, pad_id=0)
    loss, on_policy = (
        "".join("x" if own else "." for own in np.asarray(mask_BT)[0, :12])
        for mask_BT in (batch.sampled_BT, batch.on_policy_BT)
    )
    return loss, on_policy


def test_the_guides_turn_carries_no_loss(tiny_policy: object) -> None:
    assert masks(steered(guide_starts=())) == ("..xxx..xx..x",) * 2
    assert masks(steered(guide_starts=(7,))) == ("..xxx......x",) * 2
    assert masks(steered(guide_starts=(2, 11))) == (".......xx...",) * 2
    stale = steered(guide_starts=(7,), num_stale_tokens=4)
    assert masks(stale) == ("..xxx......x", "....x......x")
    assert sum(stale.sampled) == 6 and sum(stale.trained) == 4
