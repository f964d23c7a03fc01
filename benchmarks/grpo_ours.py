"""Our side of `grpo_step.py`: full steps of the project's runner and update.

It answers like the peers' scripts:
`echo '{"prompts": 4, "completions": 4, "prompt": 64, "new": 64}' | python benchmarks/grpo_ours.py`.
"""

import dataclasses
import functools
import time
from typing import Any, override

import jax
import jax.numpy as jnp
import numpy as np
import optax
import ours
import scripted
from peers import grpo_task, wire
from peers.shapes import SHAPES

from r1ci_jax.config import GrpoConfig, SamplerConfig, TurnLimits
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.episode import Episode
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import RolloutId, StopReason, Trajectory
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import chatml, protocol
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import grpo_step, microbatching, optimizer, train_state
from r1ci_jax.train.policy import Policy, Weights

VOCAB = SHAPES[grpo_task.SHAPE].vocab


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a request."""

    prompts: int
    completions: int
    prompt: int
    new: int

    @property
    def rows(self) -> int:
        """Return the number of completions of a step."""
        return self.prompts * self.completions

    @property
    def length(self) -> int:
        """Return the number of tokens of a row."""
        return self.prompt + self.new


class Bare(agents.CodeAgent):
    """Agent that adds nothing to the question, whose length is measured."""

    hint = ""


class Rewarding(Runner):
    """Runner with the peers' reward."""

    @override
    def score(
        self, episode: Episode, stop: StopReason, answer: str | None, is_local: bool = True
    ) -> Trajectory:
        made = super().score(episode, stop, answer, is_local)
        own = [token for token, chosen in zip(made.tokens, made.sampled, strict=True) if chosen]
        reward = grpo_task.reward(own, self.limits.max_new_tokens, VOCAB)
        return dataclasses.replace(made, reward=reward)


def runner(policy: Policy, tokenizer: Tokenizer, sizes: Sizes) -> Runner:
    """Compile a runner for exactly these sizes; all rows decode together in one chunk."""
    sampler = SamplerConfig(
        slots=sizes.rows,
        cache_length=sizes.length,
        chunk_steps=sizes.new,
        prefill_buckets=(sizes.prompt,),
        prefill_rows=sizes.prompts,
    )
    table = stop_automaton.token_table(protocol.stop_machine(), tokenizer.token_bytes())
    engine = Engine(policy.config, sampler, table, stop_token_ids=(), seed=0)
    # Random words close no code block, so the interpreter is never called.
    nobody: Any = None
    return Rewarding(engine, nobody, tokenizer, TurnLimits(max_new_tokens=sizes.new))


def make_tokenizer() -> Tokenizer:
    """Make a tokenizer with as many ids as the model has embeddings."""
    bytes_alone = scripted.spelling([]).vocab_size
    return scripted.spelling([f" w{number}" for number in range(VOCAB - bytes_alone)])


class Trainer:
    """State that persists between steps."""

    def __init__(self, sizes: Sizes) -> None:
        """Build and warm up."""
        self.sizes = sizes
        self.policy, params = ours.policy(grpo_task.SHAPE)
        self.tokenizer = make_tokenizer()
        self.reference = Weights(jax.tree.map(jnp.copy, params))
        schedule = optax.constant_schedule(grpo_task.LEARNING_RATE)
        self.tx = optimizer.make_optimizer(schedule, clip_norm=grpo_task.CLIP_NORM)
        self.state = train_state.create_state(params, self.tx)
        self.config = GrpoConfig(
            prompts_per_step=sizes.prompts,
            rollouts_per_prompt=sizes.completions,
            kl_coef=grpo_task.KL_COEF,
            sequence_lengths=(sizes.length,),
            microbatch_tokens=sizes.rows * sizes.length,
        )
        self.runner = runner(self.policy, self.tokenizer, sizes)
        self.groups = 0
        for _ in range(grpo_task.WARM_UP_STEPS):
            self.step()

    def requests(self) -> list[Request]:
        """Make new questions such that prompts have the requested length."""
        letters = self.sizes.prompt - len(chatml.prompt_ids(self.tokenizer, ""))
        first, self.groups = self.groups, self.groups + self.sizes.prompts
        return [
            Request(example=_question(group, letters), agent=Bare(), rollout_id=RolloutId(group, i))
            for group in range(first, self.groups)
            for i in range(self.sizes.completions)
        ]

    def step(self) -> dict[str, float]:
        """Run one step and return its seconds and those of its two halves."""
        requests = self.requests()
        began = time.perf_counter()
        weights = Weights(self.state.params)
        self.runner.load(self.policy.to_sampler_weights(weights, self.runner.sampler))
        trajectories = self.runner.run(requests)
        sampled = time.perf_counter()
        learned = self.update(trajectories)
        jax.block_until_ready(self.state)
        ended = time.perf_counter()
        assert {len(made.tokens) for made in trajectories} == {self.sizes.length}
        assert learned["optim/grad_norm"] > 0, "nothing was learned"
        return {
            "step_seconds": ended - began,
            "sampling_seconds": sampled - began,
            "update_seconds": ended - sampled,
        }

    def update(self, trajectories: list[Trajectory]) -> dict[str, float]:
        """Run the project's update; only this method knows its interface."""
        advantages = grpo_step.compute_advantages(trajectories, self.config)
        minibatches = microbatching.make_minibatches(
            trajectories, advantages, self.config, self.tokenizer.pad_id
        )
        self.state, learned, _ = grpo_step.update(
            self.state, None, self.reference, minibatches, self.policy, self.config, self.tx
        )
        return learned


def _question(number: int, letters: int) -> Example:
    codes = np.random.default_rng(number).integers(ord("a"), ord("z") + 1, letters)
    return Example(
        id=f"question/{number}",
        task="",
        question="".join(map(chr, codes)),
        answer="",
        difficulty=1,
        metadata="{}",
    )


@functools.cache
def trainer(sizes: Sizes) -> Trainer:
    """Build and warm up a trainer once."""
    return Trainer(sizes)


def answer(request: dict[str, int]) -> dict[str, Any]:
    """Answer with one step."""
    return {**trainer(Sizes(**request)).step(), "peak_bytes": wire.peak_bytes()}


if __name__ == "__main__":
    wire.serve(answer, ("jax", "flax"))
