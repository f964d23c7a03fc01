"""Eight devices compute what one computes."""

import json
from collections.abc import Callable

import pytest

from r1ci_jax.config import DatasetConfig, Experiment, MeshConfig, SftConfig
from r1ci_jax.errors import UserError

# Both trainers' steps, first on one device, then on a mesh that cuts batch, width, heads and
# vocabulary; prints the largest difference of any parameter after each step.
PROGRAM = """
import contextlib, json
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from r1ci_jax.config import TrainConfig
from r1ci_jax.data.packing import PackedBatch
from r1ci_jax.model import qwen2
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.sharding import placement
from r1ci_jax.train import grpo_step, microbatching, optimizer, sft, train_state
from r1ci_jax.train.objective import kl_reward
from r1ci_jax.train.objective.loss_settings import LossSettings
from r1ci_jax.train.policy import Policy, Weights

LOSS = LossSettings(kl_coef=0.001)
FORMS = LossSettings(surrogate="gspo", clip_high=0.5, aggregation="prompt_mean", kl_coef=0.001,
                     kl_estimator="k2", has_importance=True, importance="truncate")
CONFIG = qwen2.Qwen2Config(vocab_size=320, width=32, layers=2, query_heads=4, kv_heads=2,
                           head_dim=8, mlp_width=64, tied=False)
model = nnx.jit(lambda key: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(key)))(jax.random.key(0))
graphdef, first = nnx.split(model)
first = jax.device_get(first)
# Devices whose rows have fewer tokens that count go through fewer chunks of the head.
how = TrainConfig(logits_chunk=16)
vocab_size = tokenizers.train_byte_bpe(["print(1)"] * 3, 300).vocab_size
policy = Policy(CONFIG, graphdef, vocab_size, how)
tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-3), clip_norm=1.0)
rng = np.random.default_rng(0)
tokens_BT = rng.integers(0, 259, (8, 24)).astype(np.int32)
mask_BT = rng.random((8, 24)) < np.array([0, 0, 1, 1, 0.3, 0.3, 0.6, 0.6])[:, None]
segments_BT = 1 + (np.arange(24) >= 11).astype(np.int32) + np.zeros((8, 1), np.int32)
positions_BT = np.where(segments_BT == 1, np.arange(24), np.arange(24) - 11)
batch = PackedBatch(tokens_BT, positions_BT, segments_BT, mask_BT)
noted_BT = np.where(mask_BT, -5.0, 0.0).astype(np.float32)
rollouts = microbatching.Microbatch(tokens_BT, mask_BT, noted_BT, mask_BT,
                                  rng.normal(size=8).astype(np.float32))
sampler_BT = np.where(mask_BT, noted_BT + 0.3 * rng.normal(size=(8, 24)), 0).astype(np.float32)
prompt_tokens_B = np.repeat(mask_BT[:, 1:].reshape(2, -1).sum(axis=1), 4).astype(np.float32)

def steps(mesh):
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        params = jax.tree.map(jnp.asarray, first)
        if mesh is not None:
            params = jax.device_put(params, meshes.param_shardings(mesh, params))
        begun = train_state.create_state(params, tx)
        placed = jax.tree.map(lambda leaf: leaf.sharding, begun)
        tuned, values = sft.sft_step(begun, placement.shard_batch(batch), policy=policy, tx=tx)
        after_sft = jax.device_get(tuned.params)
        reference = jax.tree.map(lambda leaf: leaf * 0.9, tuned.params)
        rows = grpo_step.compute_ref_logprobs(
            Weights(reference), placement.shard_batch(rollouts), policy=policy, temperature=1.0
        )
        total, _ = grpo_step.accumulate_gradients(
            grpo_step.zero_accumulator(tuned.params, LOSS), Weights(tuned.params), rows,
            policy=policy, temperature=1.0, settings=LOSS,
        )
        forms = rows._replace(sampler_logprobs_BT=placement.shard_batch(sampler_BT),
                              prompt_tokens_B=placement.shard_batch(prompt_tokens_B))
        other, _ = grpo_step.accumulate_gradients(
            grpo_step.zero_accumulator(tuned.params, FORMS), Weights(tuned.params), forms,
            policy=policy, temperature=1.0, settings=FORMS,
        )
        moved, norm = grpo_step.apply_step(tuned, total.gradients, total.sums.sequences, tx=tx)
        stayed = jax.tree.map(lambda leaf, was: leaf.sharding.is_equivalent_to(was, leaf.ndim),
                              moved, placed)
        whole = policy.to_sampler_weights(Weights(moved.params))
        moment = moved.opt_state[1][0].mu["layers"]["q"][...]
        return {
            "sft": after_sft,
            # Adam divides by tiny numbers: its moments, linear in the gradients, say more.
            "moments": jax.device_get(moved.opt_state[1][0].mu),
            "grpo": jax.device_get(moved.params),
            "sampler": jax.device_get(whole),
            "forms": jax.device_get(other.gradients),
            "sums": [float(each / other.sums.tokens) for each in other.sums if each is not None],
            "kl": jax.device_get(kl_reward._row_kl(rows, estimator="k1")),
            "numbers": [float(values["optim/loss"]), float(norm)],
        }, {
            "stayed": all(jax.tree.leaves(stayed)),
            "parts": len({str(shard.index) for shard in moment.addressable_shards}),
            "by_tensor": mesh is None or not any("fsdp" in str(leaf.sharding.spec)
                                                 for leaf in jax.tree.leaves(whole)),
        }

one, _ = steps(None)
eight, facts = steps(meshes.make_mesh(data=2, fsdp=2, tensor=2))
difference = {
    name: max(float(np.abs(a - b).max()) for a, b in
              zip(jax.tree.leaves(one[name]), jax.tree.leaves(eight[name]), strict=True))
    for name in one
}
print(json.dumps({"devices": len(jax.devices()), "difference": difference, **facts}))
"""


def test_steps_on_eight_devices_equal_those_on_one(
    run_on_devices: Callable[[int, str], str],
) -> None:
    found = json.loads(run_on_devices(8, PROGRAM))
    assert found["devices"] == 8
    assert max(found["difference"].values()) <= 1e-5, found
    assert found["difference"]["moments"] <= 1e-7, found
    # Parameters and moments are cut and stay; what the sampler holds is cut by tensor alone.
    assert found["stayed"] and found["by_tensor"]
    assert found["parts"] == 4  # fsdp x tensor


def test_a_batch_that_the_mesh_cannot_cut_is_refused() -> None:
    with pytest.raises(UserError, match=r"sft.batch_size = 6 is not a multiple of .* = 4"):
        Experiment(
            name="t",
            dataset=DatasetConfig(tasks=("toy_letters",)),
            sft=SftConfig(batch_size=6),
            mesh=MeshConfig(data=2, fsdp=2),
        )
    with pytest.raises(UserError, match=r"mesh.tensor must be at least 1"):
        MeshConfig(tensor=0)
