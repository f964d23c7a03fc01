"""Eight devices train the critic as one does."""

import json
from collections.abc import Callable

# A step of PPO on one device, then on a mesh that cuts batch, width, heads and vocabulary; prints
# the largest differences.
PROGRAM = """
import contextlib, dataclasses, json
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from r1ci_jax.config import GrpoConfig
from r1ci_jax.grpo_config import CriticConfig, ObjectiveConfig
from r1ci_jax.model import qwen2
from r1ci_jax.rollout.trajectory import RolloutId, StopReason, Trajectory
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement
from r1ci_jax.train import train_state
from r1ci_jax.train.critic.critic_baseline import CriticBaseline, make_critic
from r1ci_jax.train.policy import Policy, Weights

CONFIG = qwen2.Qwen2Config(vocab_size=320, width=32, layers=2, query_heads=4, kv_heads=2,
                           head_dim=8, mlp_width=64, tied=False)
model = nnx.jit(lambda key: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(key)))(jax.random.key(0))
graphdef, first = nnx.split(model)
first = jax.device_get(first)
policy = Policy(CONFIG, graphdef, 300)
config = GrpoConfig(
    prompts_per_step=4, rollouts_per_prompt=2, sequence_lengths=(24,), microbatch_tokens=8 * 24,
    kl_coef=0.1, objective=ObjectiveConfig(baseline="critic", kl_in="reward"),
    critic=CriticConfig(lr=1e-3, gae_lambda=0.9),
)
rng = np.random.default_rng(0)

def trajectory(number):
    size = int(rng.integers(8, 24))
    sampled = rng.random(size) < 0.6
    sampled[:2], sampled[3] = False, True
    return Trajectory(
        example_id="e", task="t", question="q", agent="a", code_calls=(), answer=None,
        rollout_id=RolloutId(*divmod(number, 2)), stop=StopReason.EOS, correct=False,
        tokens=tuple(rng.integers(0, 259, size).tolist()), sampled=tuple(sampled.tolist()),
        logprobs=tuple((-5.0 * sampled).tolist()), reward=float(rng.random()),
    )

rows = [trajectory(number) for number in range(8)]
reference = jax.tree.map(lambda leaf: leaf * 0.9, first)
class Loop: pass

def step(mesh):
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        weights = Weights(placement.shard_params(jax.tree.map(jnp.asarray, first)))
        begun = make_critic(policy, weights, config)
        head = 0.1 * np.sin(np.arange(32)).astype(np.float32)
        params = begun.params | placement.shard_params({"value_head": head})
        loop = Loop()
        loop.critic = train_state.create_state(params, begun.tx)
        placed = jax.tree.map(lambda leaf: leaf.sharding, loop.critic)
        baseline = CriticBaseline(loop, begun.tx, None, policy, config, 0)
        compared = Weights(placement.shard_params(jax.tree.map(jnp.asarray, reference)))
        [[batch]], values = baseline.compare(0, rows, compared)
        stayed = jax.tree.map(lambda leaf, was: leaf.sharding.is_equivalent_to(was, leaf.ndim),
                              loop.critic, placed)
        moment = loop.critic.opt_state[1][0].mu["trunk"]["layers"]["q"][...]
        return {
            # Adam divides by tiny numbers: its moments, linear in the gradients, say more.
            "moments": jax.device_get(loop.critic.opt_state[1][0].mu),
            "advantages": jax.device_get(batch.advantages_BT),
            "metrics": [values[name] for name in sorted(values)],
        }, {
            "stayed": all(jax.tree.leaves(stayed)),
            "parts": len({str(shard.index) for shard in moment.addressable_shards}),
            "finite": all(np.isfinite(list(values.values()))), "names": sorted(values),
        }

one, _ = step(None)
eight, facts = step(meshes.make_mesh(data=2, fsdp=2, tensor=2))
difference = {
    name: max(float(np.abs(np.asarray(a) - b).max()) for a, b in
              zip(jax.tree.leaves(one[name]), jax.tree.leaves(eight[name]), strict=True))
    for name in one
}
print(json.dumps({"devices": len(jax.devices()), "difference": difference, **facts}))
"""


def test_a_step_on_eight_devices_equals_that_on_one(
    run_on_devices: Callable[[int, str], str],
) -> None:
    found = json.loads(run_on_devices(8, PROGRAM))
    assert found["devices"] == 8 and found["finite"]
    assert "reward/kl" in found["names"] and "critic/explained_variance" in found["names"]
    assert found["difference"]["advantages"] <= 1e-4, found
    assert found["difference"]["moments"] <= 1e-6, found
    assert found["difference"]["metrics"] <= 1e-4, found
    # The critic's parameters and moments are cut over fsdp x tensor, and stay where they are.
    assert found["stayed"] and found["parts"] == 4
