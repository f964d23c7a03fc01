"""What fits a published model where the user chose nothing, and what the user may choose."""

import dataclasses
from pathlib import Path

import pytest

from r1ci_jax.config import SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.tools.model_evaluation import evaluation_settings
from r1ci_jax.tools.model_evaluation.checkpoint_defaults import CheckpointDefaults
from r1ci_jax.tools.model_evaluation.evaluation_settings import Choices, EvaluationSettings

TOY = ("toy_letters",)
DEFAULTS = CheckpointDefaults(
    sampling=SamplingParams(temperature=0.7, top_k=20), system="You are Qwen."
)


def complete(*, max_positions: int = 32768, **chosen) -> EvaluationSettings:
    choices = Choices(**{"tasks": TOY, **chosen})
    return evaluation_settings.for_published(
        "owner/Some-Model",
        choices,
        max_positions=max_positions,
        defaults=DEFAULTS,
        weights="0",
    )


def test_the_checkpoint_decides_where_the_user_does_not() -> None:
    found = complete()
    assert found.name == "Some-Model" and found.dataset.tasks == TOY
    assert found.eval.sampling == DEFAULTS.sampling and found.system == DEFAULTS.system
    assert found.prompts == "r1ci" and found.eval.ask_for_answer
    assert (found.sampler.cache_length, found.limits.max_new_tokens) == (4096, 600)
    assert found.sampler.slots == 5  # no more than there are answers: five questions
    assert complete(questions=200).sampler.slots == 16


def test_the_user_decides_the_rest_is_kept() -> None:
    found = complete(
        sampling={"temperature": 0.2}, system="", prompts="paper", ask_for_answer=False, slots=3
    )
    assert found.eval.sampling == dataclasses.replace(DEFAULTS.sampling, temperature=0.2)
    assert (found.system, found.prompts, found.sampler.slots) == ("", "paper", 3)
    assert not found.eval.ask_for_answer
    agents = complete(agents=("all_text", "codesteer"), samples=2)
    assert agents.eval.agents == ("all_text", "codesteer") and agents.sampler.slots == 16


def test_a_short_model_has_a_short_context() -> None:
    found = complete(max_positions=128)
    assert found.sampler.cache_length == 128 and found.sampler.prefill_buckets == (16, 32, 64, 128)
    assert found.limits.max_new_tokens == 64
    with pytest.raises(UserError, match="--context 129: the model holds 128 tokens"):
        complete(max_positions=128, context=129)
    with pytest.raises(UserError, match=r"--context 300 has no room .* --max-tokens 600"):
        complete(context=300)


def test_a_model_is_named_by_its_directory(tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "my-model"
    place.mkdir()
    monkeypatch.chdir(place)
    for path in (".", "../my-model", str(place)):
        found = evaluation_settings.for_published(
            path, Choices(tasks=TOY), max_positions=512, defaults=DEFAULTS, weights="0"
        )
        assert found.name == "my-model"


def test_several_answers_of_a_greedy_model_are_refused() -> None:
    with pytest.raises(UserError, match=r"--samples 8 at temperature 0: .*add --temperature 0.6"):
        complete(samples=8, sampling={"temperature": 0.0})
    assert complete(samples=8).eval.samples_per_question == 8
