"""One table of shardings: complete, unambiguous, and without effect on the numbers."""

from collections.abc import Callable

import jax
import optax
import pytest
from flax import nnx

from r1ci_jax.errors import UserError
from r1ci_jax.model import presets, qwen2
from r1ci_jax.sharding import mesh, rules

EIGHT_DEVICES = """
import pathlib, tempfile
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from r1ci_jax.model import kv_cache, qwen2
from r1ci_jax.model.hf import weights
from r1ci_jax.sharding import mesh as meshes, rules

assert len(jax.devices()) == 8
config = qwen2.Qwen2Config(
    vocab_size=64, width=32, layers=2, query_heads=4, kv_heads=2, head_dim=8, mlp_width=48,
    tied={tied},
)
model = nnx.jit(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))()
graphdef, state = nnx.split(model)
state = jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), state)
tokens_BT = jax.random.randint(jax.random.key(1), (8, 9), 0, 64)
run = lambda state, tokens_BT: nnx.merge(graphdef, state)(tokens_BT)
loss = lambda state, tokens_BT: jnp.mean(run(state, tokens_BT) ** 2)
alone = jax.jit(run)(state, tokens_BT)
alone_grad = jax.jit(jax.grad(loss))(state, tokens_BT)
root = pathlib.Path(tempfile.mkdtemp())
weights.save_pretrained(nnx.merge(graphdef, state), root / "alone")

mesh = meshes.make_mesh(data=2, fsdp=2, tensor=2)
with jax.set_mesh(mesh):
    shardings = meshes.param_shardings(mesh, state)
    cut = jax.device_put(state, shardings)
    batch_BT = jax.device_put(tokens_BT, meshes.batch_sharding(mesh))
    together = jax.jit(run)(cut, batch_BT)
    together_grad = jax.jit(jax.grad(loss))(cut, batch_BT)
    loaded = weights.load_pretrained(root / "alone")
    weights.save_pretrained(loaded, root / "together")
    held = jax.jit(lambda s: qwen2.decoder_weights(s, config))(cut)
    positions_BT = jnp.broadcast_to(jnp.arange(9)[None], (8, 9))
    cache = kv_cache.init_cache(config, 24, 4, jnp.float32)
    pages_RJ = kv_cache.contiguous_pages(8, 3)
    x_BTD, _ = jax.jit(lambda *a: kv_cache.extend(config, *a))(
        held, cache, batch_BT, positions_BT, pages_RJ
    )
    stepwise = kv_cache.logits(config, held, x_BTD)

np.testing.assert_allclose(together, alone, atol=1e-5)
np.testing.assert_allclose(stepwise, alone, atol=1e-5)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), together_grad, alone_grad)
q = cut["layers"]["q"][...]
assert q.addressable_shards[0].data.shape == (2, 16, 2, 8), q.addressable_shards[0].data.shape
for path, leaf in jax.tree_util.tree_flatten_with_path(nnx.state(loaded))[0]:
    name = weights.parameter_path(path)
    assert leaf.sharding.is_equivalent_to(
        meshes.parameter_sharding(mesh, name, leaf.shape), leaf.ndim
    ), name
jax.tree.map(np.testing.assert_array_equal, nnx.state(loaded), state)
files = [(root / name / "model.safetensors").read_bytes() for name in ("alone", "together")]
assert files[0] == files[1]
print("equal")
"""


@pytest.mark.parametrize("tied", [True, False])
def test_eight_devices_equal_one(run_on_devices: Callable[[int, str], str], tied: bool):
    assert run_on_devices(8, EIGHT_DEVICES.replace("{tied}", str(tied))).strip() == "equal"


def state_of(config: qwen2.Qwen2Config) -> nnx.State:
    return nnx.state(nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0))))


@pytest.mark.parametrize("name", ["toy", "qwen2.5-3b", "qwen2.5-7b", "qwen2.5-14b-instruct-1m"])
def test_every_parameter_has_exactly_one_rule_of_its_rank(name: str):
    used = set()
    for path, leaf in jax.tree_util.tree_flatten_with_path(state_of(presets.get(name)))[0]:
        place = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        axes = rules.logical_axes(place)
        assert len(axes) == len(leaf.shape)
        used.add(axes)
    assert used <= set(rules.PARAMETERS.values())
    for axes in rules.PARAMETERS.values():
        assert set(axes) <= rules.AXES.keys()


def test_an_unknown_parameter_is_not_replicated_silently():
    with pytest.raises(AssertionError, match="0 sharding rules"):
        rules.logical_axes("layers/router")


def test_optimiser_moments_follow_their_parameters():
    one = mesh.make_mesh()
    state = state_of(presets.get("toy"))
    found = mesh.param_shardings(one, jax.eval_shape(optax.adamw(1e-3).init, state))
    own = mesh.param_shardings(one, state)
    assert found[0].mu["layers"]["q"] == own["layers"]["q"]
    assert found[0].count.spec == jax.P()


@pytest.mark.parametrize("sizes", [(2, 1, 1), (0, 1, 1), (1, 3, 2)])
def test_sizes_must_multiply_to_the_devices(sizes: tuple[int, int, int]):
    with pytest.raises(UserError, match="there are 1; choose positive sizes that multiply to 1"):
        mesh.make_mesh(*sizes)


def test_an_axis_that_cannot_be_cut_is_named(run_on_devices: Callable[[int, str], str]):
    source = """
from flax import nnx
from r1ci_jax.errors import UserError
from r1ci_jax.model import presets, qwen2
from r1ci_jax.sharding import mesh
shapes = nnx.state(nnx.eval_shape(lambda: qwen2.Qwen2(presets.get("toy"), rngs=nnx.Rngs(0))))
try:
    mesh.param_shardings(mesh.make_mesh(tensor=8), shapes)
except UserError as error:
    print(error)
"""
    assert "does not divide query_heads=4 of layers/" in run_on_devices(8, source)
