"""Old names of settings and of keys in a run's files, with the names that replaced them.

Plain data, and the one sentence that answers an old name. Nothing is translated in silence: whoever
uses an old name learns the new one.
"""

from collections.abc import Iterable

CONFIG_GROUPS = {"questions": "dataset", "teacher": "demonstrations"}
"""Groups of settings, old to new."""

CONFIG_KEYS = {
    "teacher.demonstrations": "demonstrations.path",
    "sampler.chunk": "sampler.chunk_steps",
    "sampler.weights": "sampler.weight_quantization",
    "sampler.cache": "sampler.cache_quantization",
    "limits.code_calls": "limits.max_code_calls",
    "limits.turns": "limits.max_turns",
    "limits.turn_tokens": "limits.max_turn_tokens",
    "limits.new_tokens": "limits.max_new_tokens",
    "limits.wall_seconds": "limits.max_wall_seconds",
    "limits.observation_tokens": "limits.max_observation_tokens",
    "train.head_chunk": "train.logits_chunk",
    "sft.packed": "sft.packing",
    "sft.micro_batches": "sft.num_microbatches",
    "potential.answers_per_agent": "potential.samples_per_agent",
    "potential.edges": "potential.lower_bounds",
    "grpo.micro_tokens": "grpo.microbatch_tokens",
    "grpo.minibatches": "grpo.num_minibatches",
    "grpo.passes": "grpo.num_iterations",
    "grpo.behaviour": "grpo.old_logprobs",
    "grpo.trajectories_logged": "grpo.logged_trajectories",
    "grpo.carry_over": "grpo.max_staleness",
}
"""Settings as `--config.KEY` and config.json name them, old to new."""

CONFIG_VALUES = {
    "sampler.weights": {"full": "none"},
    "sampler.cache": {"full": "none"},
    "grpo.behaviour": {"sampled": "rollout", "recomputed": "recompute"},
}
"""Values of renamed settings, by their old key, old to new."""

RESULT_KEYS = {"method": "agent"}
"""Keys of a record of results.jsonl, old to new."""

METRICS = {
    "optim/behaviour_kl": "optim/old_kl",
    "group/flat_fraction": "group/zero_advantage_fraction",
    "group/age_mean": "group/staleness_mean",
    "group/age_max": "group/staleness_max",
}
"""Metrics of metrics.jsonl, old to new."""


def new_config_key(old: str) -> str | None:
    """Today's name of a setting; None when `old` is no former name."""
    if old in CONFIG_KEYS:
        return CONFIG_KEYS[old]
    group, dot, field = old.partition(".")
    return CONFIG_GROUPS[group] + dot + field if group in CONFIG_GROUPS else None


def explain(old: str, new: str, advice: str) -> str:
    """The one line that answers an old name."""
    return f"{old} was renamed to {new}: {advice}"


def old_config_keys(keys: Iterable[str]) -> dict[str, str]:
    """Those of the dotted keys that are former names, each with the new one."""
    pairs = ((key, new_config_key(key)) for key in keys)
    return {old: new for old, new in pairs if new is not None}
