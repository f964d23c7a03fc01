"""Measure full steps of google-tunix's GRPOLearner train loop, with its own sampler.

`{"prompts": 4, "completions": 4, "prompt": 64, "new": 64}` is answered with the seconds of a step
and the peak resident memory of this process. The learner pulls its questions from a dataset, which
reads the requests: a step lasts from one pull to the next, when the weights are computed. All
requests to a process have the sizes of the first.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-tunix.

import time
import warnings
from collections.abc import Iterator
from typing import Any

import grpo_task
import jax
import numpy as np
import optax
import tunix_model
import wire
from flax import nnx
from shapes import SHAPES
from tunix.rl import rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

VOCAB = SHAPES[grpo_task.SHAPE].vocab
# The sampler warns at every call that its own cache's shape is deprecated.
warnings.filterwarnings("ignore", category=DeprecationWarning)


class Numbers:
    """Tokenizer whose texts are decimal token ids, so that lengths are exact."""

    def encode(self, text: str, **_: Any) -> list[int]:
        """Return the numbers of the text."""
        return [int(word) for word in text.split()]

    def decode(self, ids: list[int], **_: Any) -> str:
        """Return the ids as text, which the reward reads."""
        return " ".join(str(token) for token in ids)

    def bos_id(self) -> None:
        """Return None, as tunix would otherwise prepend the id."""

    def eos_id(self) -> int:
        """Return an id that is never sampled, so that no token ends a row."""
        return -1

    def pad_id(self) -> int:
        """Return the padding id, which is unused as all texts have the same length."""
        return -2


class Questions:
    """Dataset that returns the requested questions to the learner and measures the time."""

    def __init__(self, line: wire.Line, sizes: dict[str, Any], learner: Any) -> None:
        """Start with `sizes`, the first request, which is not answered yet."""
        self.line, self.sizes, self.learner = line, sizes, learner

    def batch(self) -> dict[str, np.ndarray]:
        """Make random prompts as an array, because a list would be treated as a tree."""
        shape = self.sizes["prompts"], self.sizes["prompt"]
        rows = np.random.default_rng(time.time_ns()).integers(1, VOCAB, shape)
        return {"prompts": np.asarray([" ".join(map(str, row)) for row in rows])}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the warm-up steps, then one step per request."""
        for _ in range(grpo_task.WARM_UP_STEPS):
            yield self.batch()
            self.wait()
        requests = iter(self.line)
        request: dict[str, Any] | None = self.sizes
        while request is not None:
            assert request == self.sizes, "other sizes would compile inside the step"
            began = time.perf_counter()
            yield self.batch()
            self.wait()
            seconds = time.perf_counter() - began
            self.line.reply({"step_seconds": seconds, "peak_bytes": wire.peak_bytes()})
            request = next(requests, None)

    def wait(self) -> None:
        """Wait for the weights of the step, whose last computations are only dispatched."""
        jax.block_until_ready(nnx.state(self.learner.rl_cluster.actor_trainer.model))


def learner(sizes: dict[str, Any]) -> grpo_learner.GRPOLearner:
    """Build actor, reference, sampler and learner; a full step is one batch everywhere."""
    auto = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(auto, auto))
    role = rl_cluster.Role
    optimizer = optax.chain(
        optax.clip_by_global_norm(grpo_task.CLIP_NORM), optax.adamw(grpo_task.LEARNING_RATE)
    )

    def rewards(completions: list[str], **_: Any) -> list[float]:
        ids = [[int(word) for word in text.split()] for text in completions]
        return [grpo_task.reward(row, sizes["new"], VOCAB) for row in ids]

    cluster = rl_cluster.RLCluster(
        actor=tunix_model.build(grpo_task.SHAPE),
        reference=tunix_model.build(grpo_task.SHAPE),
        tokenizer=Numbers(),
        cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh=dict.fromkeys((role.ACTOR, role.REFERENCE, role.ROLLOUT), mesh),
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optimizer, eval_every_n_steps=10**9, max_steps=10**9
            ),
            rollout_config=base_rollout.RolloutConfig(
                max_tokens_to_generate=sizes["new"],
                max_prompt_length=sizes["prompt"],
                kv_cache_size=sizes["prompt"] + sizes["new"],
                temperature=1.0,
                top_p=1.0,
            ),
        ),
    )
    config = grpo_learner.GRPOConfig(num_generations=sizes["completions"], beta=grpo_task.KL_COEF)
    return grpo_learner.GRPOLearner(cluster, config, rewards)


def main() -> None:
    """Train until stdin ends."""
    line = wire.Line(tunix_model.PACKAGES)
    sizes = next(iter(line), None)
    if sizes is not None:
        built = learner(sizes)
        built.train(Questions(line, sizes, built))


if __name__ == "__main__":
    main()
