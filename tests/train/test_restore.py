"""A state saved on one mesh is restored on another, on one device, and in another dtype."""

import json
from collections.abc import Callable
from pathlib import Path

PROGRAM = """
import contextlib, json, sys
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from r1ci_jax.model import qwen2
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.train import checkpoint, optimizer, train_state

CONFIG = qwen2.Qwen2Config(vocab_size=320, width=32, layers=2, query_heads=4, kv_heads=2,
                           head_dim=8, mlp_width=64, tied=False)
make = nnx.jit(lambda key: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(key)))
tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-3), clip_norm=1.0)

def begun(key, mesh=None):
    params = nnx.split(make(jax.random.key(key)))[1]
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        if mesh is not None:
            params = jax.device_put(params, meshes.param_shardings(mesh, params))
        step = jax.jit(train_state.apply_gradients, static_argnums=2)
        first = train_state.create_state(params, tx)
        return step(first, jax.tree.map(lambda leaf: leaf * 0.1, first.params), tx)

def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]

def lies_as(tree, wanted):
    equivalent = lambda leaf, like: leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim)
    return all(jax.tree.leaves(jax.tree.map(equivalent, tree, wanted)))

saved = begun(0, meshes.make_mesh(data=2, fsdp=2, tensor=2))
moment = saved.opt_state[1][0].mu["layers"]["q"][...]
facts = {"cut": len(set(str(shard.index) for shard in moment.addressable_shards))}
with checkpoint.CheckpointManager("PLACE") as checkpoints:
    checkpoints.save(1, saved, {})
    for name, mesh in (("fsdp", meshes.make_mesh(fsdp=8)), ("one", None)):
        other = begun(1, mesh)
        found = checkpoints.restore_latest(checkpoint.abstract(other))
        facts[name] = [bits(found.tree) == bits(saved), bits(other) != bits(saved),
                       lies_as(found.tree, other)]
    half = lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf
    wanted = jax.tree.map(half, begun(1, meshes.make_mesh(data=4, tensor=2)))
    found = checkpoints.restore_latest(checkpoint.abstract(wanted))
    facts["half"] = [bits(found.tree) == bits(jax.tree.map(half, saved)), True,
                     lies_as(found.tree, wanted)]
print(json.dumps(facts))
"""


def test_a_training_goes_on_where_and_as_it_is_wanted(
    run_on_devices: Callable[[int, str], str], tmp_path: Path
) -> None:
    facts = json.loads(run_on_devices(8, PROGRAM.replace("PLACE", str(tmp_path))))
    assert facts.pop("cut") == 4, "moments were cut over fsdp and tensor"
    # Bit-equal to what was saved, unlike what was there before, and lying as that lay.
    assert facts == {name: [True, True, True] for name in ("fsdp", "one", "half")}
