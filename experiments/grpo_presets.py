"""Settings of GRPO under two names: the paper's, and what the field uses at the end of 2026.

    preset("paper")      the paper's form, and the defaults of `GrpoConfig`: one batch of 128
                         questions with 5 rollouts, KL 0.001, mean over sequences of the mean over
                         tokens, format and turn terms in the reward, all groups kept
    preset("modern")     outcome reward, no KL (DAPO, rStar2-Agent), clip range 0.2 below and 0.28
                         above (DAPO, 2503.14476), a question's tokens alike (ScaleRL,
                         2510.13786), no division by the standard deviation (Dr. GRPO,
                         2503.20783), groups of equal rewards replaced (DAPO), void turns
                         (SimpleTIR, 2509.02479) and cut-off trajectories (DAPO) masked, questions
                         retired at a pass rate of 0.9 (ScaleRL), groups of 8, learning rate 1e-6,
                         importance weights of at most 2 where the sampler rounds

Both sample 640 rollouts a step, so that their arms may be compared step by step; with
`signal.refill_rounds` a step samples more, which its metrics count.

An experiment chooses one by name and replaces what is its own; the command line replaces single
fields of the result:

    grpo=grpo_presets.preset("modern", sequence_lengths=(1024, 8192))
    r1ci run experiments/r1ci_14b.py:modern --config.grpo.objective.aggregation=token_mean
"""

import dataclasses
from typing import Any, Final, Literal, get_args

from r1ci_jax.config import Dtype
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import (
    GrpoConfig,
    ObjectiveConfig,
    RewardConfig,
    SignalConfig,
)

Name = Literal["paper", "modern"]

REFILL_ROUNDS: Final = 3
"""Rounds of "modern": at a pass rate of 0.1 a group of 8 has equal rewards with 0.43, and three
rounds leave 3 of 100 groups empty."""


def preset(name: Name, *, sampler_dtype: Dtype = "float32", **changes: Any) -> GrpoConfig:
    """Return the settings of that name, with single fields of `GrpoConfig` replaced.

    Args:
        name: "paper" or "modern".
        sampler_dtype: `sampler.dtype` of the experiment. Where the sampler rounds, the trainer
            computes the old log-probabilities itself, and "modern" weighs by old / sampler.
        changes: Fields of `GrpoConfig`.

    Raises:
        UserError: There is no such preset, or a value is out of its range.
    """
    if name not in get_args(Name):
        raise UserError(f"no preset {name!r}; there are: {', '.join(get_args(Name))}")
    is_exact = sampler_dtype == "float32"
    chosen = _paper(is_exact) if name == "paper" else _modern(is_exact)
    return dataclasses.replace(chosen, **changes)


def _paper(is_exact: bool) -> GrpoConfig:
    return GrpoConfig(
        old_logprobs="rollout" if is_exact else "recompute",
        # Batch 128, G = 5, lr 1e-6, KL 0.001, temperature 1.0 (S3, B).
        prompts_per_step=128,
        rollouts_per_prompt=5,
        lr=1e-6,
        kl_coef=0.001,
        temperature=1.0,
        # A turn after the sixth costs 0.1 (S3 S4 S5, A).
        turn_penalty_after=6,
        # 150 steps per stage (S3 S4 S5, A).
        steps_per_stage=(150, 150, 150, 150),
    )


def _modern(is_exact: bool) -> GrpoConfig:
    return GrpoConfig(
        old_logprobs="rollout" if is_exact else "recompute",
        prompts_per_step=80,
        rollouts_per_prompt=8,
        lr=1e-6,
        kl_coef=0.0,
        clip_low=0.2,
        clip_high=0.28,
        temperature=1.0,
        steps_per_stage=(150, 150, 150, 150),
        objective=ObjectiveConfig(
            aggregation="prompt_mean",
            advantage_scale="none",
            importance="none" if is_exact else "truncate",
            importance_high=2.0,
        ),
        reward=RewardConfig(correct=1.0, format=0.0, turn_penalty=0.0),
        signal=SignalConfig(
            refill_rounds=REFILL_ROUNDS,
            mask_void_turns=True,
            mask_cut_off=True,
            retire_above=0.9,
        ),
    )
