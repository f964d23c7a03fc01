"""The demo's settings fit each other: its limits the cache, its questions the registry."""

import pytest

from experiments import toy
from r1ci_jax.config import Experiment
from r1ci_jax.data import question_splits
from r1ci_jax.model import presets
from r1ci_jax.tasks import registry
from r1ci_jax.text import chatml, prompts, tokenizer


@pytest.fixture(params=toy.VARIANTS, ids=lambda variant: variant or "whole")
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return toy.get_config(request.param)


def test_variants_are_different_runs() -> None:
    names = [toy.get_config(variant).name for variant in toy.VARIANTS]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match="no variant 'fast'"):
        toy.get_config("fast")


def test_the_model_can_hold_what_it_is_asked(experiment: Experiment) -> None:
    model = presets.get(experiment.model.preset)
    assert experiment.model.tokenizer_vocab <= model.vocab_size
    lengths = (
        experiment.sampler.cache_length,
        experiment.sft.sequence_length,
        experiment.grpo.sequence_lengths[-1],
    )
    assert max(lengths) <= model.max_positions
    # A trajectory of the teacher can be sampled again, and one of the sampler trained on.
    assert experiment.sft.sequence_length <= experiment.sampler.cache_length
    assert experiment.grpo.sequence_lengths[-1] >= experiment.sampler.cache_length


def test_every_question_leaves_room_for_code_and_its_output(experiment: Experiment) -> None:
    drawn = [
        example
        for name in experiment.dataset.tasks
        for rows in question_splits.generate_splits(
            registry.get(name), experiment.dataset, seed=experiment.seed
        ).values()
        for example in rows
    ]
    asked = [
        prompts.render_question(example.question, agent)
        for example in drawn
        for agent in prompts.HINTS
    ]
    ours = tokenizer.train_byte_bpe(
        [f"user\n{text}" for text in asked], experiment.model.tokenizer_vocab
    )
    longest = max(len(chatml.prompt_ids(ours, text)) for text in asked)
    limits = experiment.limits
    needed = longest + limits.max_new_tokens + limits.max_observation_tokens
    assert needed <= experiment.sampler.cache_length
    assert longest <= sum(experiment.sampler.prefill_buckets)


def test_the_schedule_uses_every_question_and_saves_in_between(experiment: Experiment) -> None:
    counts = experiment.dataset
    assert set(counts.tasks) == set(registry.names(suite="toy"))
    asked = experiment.grpo.prompts_per_step * sum(experiment.grpo.steps_per_stage)
    assert asked >= 16
    assert experiment.grpo.checkpoint_every < sum(experiment.grpo.steps_per_stage)
    whole_batches = experiment.grpo.prompts_per_step * experiment.grpo.rollouts_per_prompt
    assert whole_batches % experiment.grpo.microbatch_rows(160, num_batch_shards=1) == 0
    assert experiment.potential.samples_per_agent == len(experiment.potential.temperatures)
