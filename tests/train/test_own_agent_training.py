"""A user's own agent with its own tool is trained, and a stopped training ends as a whole one."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import GrpoConfig
from r1ci_jax.curriculum.stages import Stage
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.runtime import metrics
from r1ci_jax.train import grpo
from r1ci_jax.train.policy import Params, Policy
from tests.rollout.conftest import CONFIG, World, prints
from tests.rollout.scripts import MIXED
from tests.train.tiny_training import (
    Stopped,
    assert_equal,
    dumped,
    load_examples,
    training_run,
    write_until,
)

# A block asks how often k occurs in ok!'); the answers are those that questions have.
SCRIPT = {
    **MIXED, " \n": "k", "k": " ", " ": "ok", "ok": "!')\n",
    "<<<": {"1": 0.4, "2": 0.4, "3": 0.2}, **dict.fromkeys("123", ">>>"),
}  # fmt: skip
GRPO = GrpoConfig(
    agent="my_agent:Counter",
    prompts_per_step=2,
    rollouts_per_prompt=4,
    steps_per_stage=(2, 0, 0, 0),
    lr=1e-2,
    sequence_lengths=(256,),
    microbatch_tokens=4 * 256,
    checkpoint_every=1,
    max_staleness=1,
    dump_rollouts=True,
)


def test_an_agent_of_ones_own_is_trained_and_resumes(
    own_modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, sandbox = World(), prints("never asked")
    graphdef, first = nnx.split(world.model(SCRIPT))
    policy = Policy(CONFIG, graphdef, world.tokenizer.vocab_size)

    def train(place: Path) -> Params:
        runner: Runner = world.runner(SCRIPT, sandbox, cache_length=256)
        return grpo.train(
            policy,
            jax.tree.map(lambda leaf: leaf.copy(), first),
            world.tokenizer,
            [Stage(number=1, split="group1", steps=2)],
            load_examples,
            runner,
            GRPO,
            training_run("grpo_own", place, seed=3),
        )

    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(metrics.MetricsWriter, "write", write_until(2))
        train(tmp_path / "stopped")
    assert_equal(train(tmp_path / "stopped"), whole)

    steps = dumped(tmp_path / "whole", 2)
    assert untimed(steps) == untimed(dumped(tmp_path / "stopped", 2))
    sampled = [each for step in steps for each in step]
    assert {each.agent for each in sampled} == {"counter"} and sandbox.codes == []
    assert any(each.num_stale_tokens for each in steps[1]), "nothing went through a checkpoint"
    assert sum(uses_tool(each, world.tokenizer.decode) for each in sampled) > 2
    assert len({each.reward for each in sampled}) > 1
    changed = [
        float(np.abs(np.asarray(one) - np.asarray(other)).max())
        for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(whole), strict=True)
    ]
    assert max(changed) > 1e-3


def untimed(steps: list) -> list:
    return [[(each.tokens, each.logprobs, each.reward) for each in step] for step in steps]


def uses_tool(trajectory, decode: Callable[[list[int]], str]) -> bool:
    """Return True if the policy read what the tool counted."""
    context = [
        token for token, own in zip(trajectory.tokens, trajectory.sampled, strict=True) if not own
    ]
    return decode(context).endswith("\n1\n")
