"""The settings that a compiled GRPO loss depends on."""

import dataclasses

from r1ci_jax.grpo_config import (
    Aggregation,
    GrpoConfig,
    Importance,
    KlEstimator,
    Surrogate,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Static argument of jitted functions; the fields are explained where `GrpoConfig` has them.

    A setting that the chosen form does not read keeps its default: to change it compiles nothing.
    """

    surrogate: Surrogate = "clip"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 0.0
    dppo_max_change: float = 0.2
    aggregation: Aggregation = "sequence_mean"
    constant_tokens: int = 0
    has_importance: bool = False
    """True: tokens are weighted by old / sampler, bounded as `importance` says."""
    importance: Importance = "none"
    importance_low: float = 0.5
    importance_high: float = 2.0
    kl_coef: float = 0.0
    """Weight of the KL term in the loss; 0 where it is in the reward."""
    kl_estimator: KlEstimator = "k3"

    @classmethod
    def of(cls, config: GrpoConfig) -> "LossSettings":
        """Pick them from the settings of a training."""
        chosen = config.objective
        surrogate, importance = chosen.surrogate, chosen.importance
        found = {
            "surrogate": surrogate,
            "aggregation": chosen.aggregation,
            "constant_tokens": chosen.constant_tokens,
            "dual_clip": chosen.dual_clip,
            "has_importance": config.old_logprobs == "decoupled" or importance != "none",
            "importance": importance,
        }
        if surrogate in ("clip", "gspo"):
            found["clip_low"] = config.clip_low
        if surrogate != "dppo":
            found["clip_high"] = config.clip_high
        else:
            found["dppo_max_change"] = chosen.dppo_max_change
        if importance != "none":
            found["importance_high"] = chosen.importance_high
        if importance == "mask":
            found["importance_low"] = chosen.importance_low
        if config.kl_coef and chosen.kl_in == "loss":
            found |= {"kl_coef": config.kl_coef, "kl_estimator": chosen.kl_estimator}
        return cls(**found)
