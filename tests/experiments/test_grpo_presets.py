"""GRPO's settings by name: the paper's are the defaults, the modern ones those of its docstring."""

import dataclasses

import pytest

from experiments import grpo_presets, r1ci_14b
from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import (
    GrpoConfig,
    ObjectiveConfig,
    RewardConfig,
    SignalConfig,
    StageConfig,
)


def test_the_papers_preset_is_the_default() -> None:
    assert grpo_presets.preset("paper") == GrpoConfig()


def test_modern_is_what_its_docstring_says() -> None:
    modern = grpo_presets.preset("modern")
    assert modern.reward == RewardConfig(correct=1.0, format=0.0, turn_penalty=0.0)
    assert (modern.kl_coef, modern.clip_low, modern.clip_high, modern.lr) == (0.0, 0.2, 0.28, 1e-6)
    assert modern.objective == ObjectiveConfig(aggregation="prompt_mean", advantage_scale="none")
    signal = modern.signal
    assert signal.refill_rounds > 0 and signal.mask_void_turns and signal.mask_cut_off
    assert signal == SignalConfig(
        refill_rounds=signal.refill_rounds,
        mask_void_turns=True,
        mask_cut_off=True,
        retire_above=0.9,
    )
    assert 8 <= modern.rollouts_per_prompt <= 16 and modern.stages == StageConfig()


def test_presets_sample_as_much() -> None:
    paper, modern = grpo_presets.preset("paper"), grpo_presets.preset("modern")
    assert paper.steps_per_stage == modern.steps_per_stage
    assert [each.prompts_per_step * each.rollouts_per_prompt for each in (paper, modern)] == [
        640
    ] * 2


@pytest.mark.parametrize("name", ["paper", "modern"])
def test_a_sampler_that_rounds_is_corrected(name: grpo_presets.Name) -> None:
    exact = grpo_presets.preset(name)
    rounded = grpo_presets.preset(name, sampler_dtype="bfloat16")
    assert (exact.old_logprobs, rounded.old_logprobs) == ("rollout", "recompute")
    assert exact.objective.importance == "none"
    if name == "modern":
        assert rounded.objective.importance == "truncate" and rounded.objective.importance_high == 2
    else:
        assert rounded == dataclasses.replace(exact, old_logprobs="recompute")


def test_single_fields_are_replaced_here_and_on_the_command_line() -> None:
    assert grpo_presets.preset("modern", lr=3e-6).lr == 3e-6
    spec = "experiments/r1ci_14b.py:modern"
    changed = experiments.load(spec, ["--config.grpo.objective.aggregation=token_mean"])
    default = r1ci_14b.get_config("modern")
    assert changed.grpo.objective.aggregation == "token_mean"
    objective = dataclasses.replace(default.grpo.objective, aggregation="token_mean")
    assert changed.grpo == dataclasses.replace(default.grpo, objective=objective)


def test_the_recipe_takes_a_preset_and_keeps_the_rest() -> None:
    paper, modern = r1ci_14b.get_config(), r1ci_14b.get_config("modern")
    assert modern.name == "r1ci-14b-modern" and modern.paper_row == ""
    assert dataclasses.replace(modern, name=paper.name, paper_row="14b", grpo=paper.grpo) == paper
    assert modern.grpo.sequence_lengths == paper.grpo.sequence_lengths
    assert modern.grpo.objective.importance == "truncate"


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(UserError, match="no preset 'old'; there are: paper, modern"):
        grpo_presets.preset("old")  # pyright: ignore[reportArgumentType]
