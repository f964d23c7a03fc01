"""The engine on a mesh: the same tokens, nothing compiled late, nothing copied that need not be.

Processes of eight CPU devices do the work and report; the tests look at the reports.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from r1ci_jax.config import DatasetConfig, Experiment, MeshConfig, SamplerConfig, SftConfig
from r1ci_jax.errors import UserError

SIZES = ((8, 1, 1), (2, 2, 2), (1, 1, 8), (1, 2, 4))

# A random model whose token table pauses it every few tokens. Five prompts with three members each
# (greedy, sampled, sampled from a nucleus) share eight slots, are told more after a pause and go
# on; then fifty batches of every length and count.
PROGRAM = """
import contextlib, json
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from r1ci_jax.config import SamplerConfig, SamplingParams
from r1ci_jax.model import sampler_weights, qwen2
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine, SlotInput
from r1ci_jax.sharding import mesh as meshes

CONFIG = qwen2.Qwen2Config(vocab_size=320, width=64, layers=2, query_heads=8, kv_heads=2,
                           head_dim=8, mlp_width=96, rope_theta=1e4)
SAMPLER = SamplerConfig(slots=8, cache_length=48, page_length=16, chunk_steps=6,
                        prefill_buckets=(8,), prefill_rows=2)
VOCAB, EOS = 300, 299
next_state_AV = np.zeros((2, VOCAB), np.int16)
next_state_AV[0, 1:250:6] = next_state_AV[1] = 1
stop_A = np.array([0, 2], np.int8)
TABLE = stop_automaton.TokenTable(next_state_AV=next_state_AV, stop_A=stop_A, start=0)
SAMPLINGS = (SamplingParams(temperature=0.0), SamplingParams(), SamplingParams(top_p=0.8))
model = nnx.jit(lambda: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0)))()
model.embed[...] = model.embed[...] * 30
model.lm_head[...] = model.lm_head[...] * 12
_, params = nnx.split(model)
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **__: compiled.append(event)
    if event.endswith("backend_compile_duration") else None)

def words(number, length):
    return tuple(np.random.default_rng(number).integers(0, EOS, length).tolist())

def roll(engine):
    waiting, owner = [(group, member) for group in range(5) for member in range(3)], {}
    rows, found, told, resumes = {}, {}, {}, 0
    while waiting or owner:
        feeds = []
        for slot in range(SAMPLER.slots):
            if slot not in owner and waiting:
                rollout = owner[slot] = waiting.pop(0)
                found[rollout], told[rollout] = ([], []), []
                rows[rollout] = list(words(rollout[0], 6 + 5 * rollout[0]))
                feeds.append((slot, tuple(rows[rollout]), 0))
            elif slot in owner and told[owner[slot]][-1:] == [False]:
                row, told[owner[slot]][-1] = rows[owner[slot]], True
                seen = words(99 + len(row), 5)
                feeds.append((slot, (row[-1], *seen), len(row) - 1))
                row += seen
                resumes += 1
        engine.feed([
            SlotInput(slot=slot, tokens=tokens, position=position, budget=12,
                      rollout_id=owner[slot],
                 sampling=SAMPLINGS[owner[slot][1]])
            for slot, tokens, position in feeds])
        for row in engine.decode():
            rollout = owner[row.slot]
            found[rollout][0].extend(row.tokens)
            found[rollout][1].extend(row.logprobs)
            rows[rollout] += row.tokens
            if row.is_paused and row.stop and len(told[rollout]) < 2 and len(rows[rollout]) < 36:
                told[rollout].append(False)
            elif row.is_paused:
                del owner[row.slot]
    return [found[rollout] for rollout in sorted(found)], resumes

def ragged(engine):
    rng = np.random.default_rng(0)
    for number in range(50):
        slots = rng.permutation(SAMPLER.slots)[: rng.integers(1, SAMPLER.slots + 1)]
        engine.feed([
            SlotInput(slot=int(slot), tokens=words(1000 + number // 2, rng.integers(1, 40)),
                      position=0,
                 budget=int(rng.integers(1, 9)), rollout_id=(number, int(slot)),
                 sampling=SAMPLINGS[number % 3])
            for slot in slots])
        engine.decode()
        engine.cancel([int(slots[0])])

def run(sizes, batches=False):
    mesh = None if sizes is None else meshes.make_mesh(*sizes)
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        given = jax.tree.map(jnp.copy, params)
        if mesh is not None:
            given = jax.device_put(given, meshes.param_shardings(mesh, given))
        engine = Engine(CONFIG, SAMPLER, TABLE, stop_token_ids=(EOS,), seed=3)
        engine.load(sampler_weights.from_trainer_params(given, CONFIG, mesh=mesh))
        engine.warm_up()
        compiled.clear()
        found, resumes = roll(engine)
        if batches:
            ragged(engine)
        engine.load(sampler_weights.from_trainer_params(given, CONFIG, mesh=mesh))
        (k_KUWH,) = engine._state.cache[0][0]
        return {"found": found, "resumes": resumes, "copied": engine.shared_tokens,
                "shard": k_KUWH.addressable_shards[0].data.shape, "compiled": len(compiled)}

sizes = SIZES
print(json.dumps([run(None), *(run(each, batches=each == (2, 2, 2)) for each in sizes)]))
"""


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    """What was reported, by program: each runs once."""
    return {}


@pytest.fixture
def rolled(run_on_devices: Callable[[int, str], str], reports: dict[str, Any]) -> list[Any]:
    if "rolled" not in reports:
        reports["rolled"] = json.loads(run_on_devices(8, PROGRAM.replace("SIZES", str(SIZES))))
    return reports["rolled"]


def test_tokens_are_equal_on_every_mesh(rolled: list[Any]) -> None:
    one, *others = rolled
    assert one["resumes"] >= 10 and one["copied"] > 50
    assert sum(len(tokens) for tokens, _ in one["found"]) > 100
    for other in others:
        assert other["resumes"] == one["resumes"] and other["copied"] >= one["copied"]
        for (tokens, logprobs), (same, close) in zip(one["found"], other["found"], strict=True):
            assert tokens == same
            assert max(abs(a - b) for a, b in zip(logprobs, close, strict=True)) <= 1e-4


def test_slots_and_heads_are_cut_and_few_heads_repeated(rolled: list[Any]) -> None:
    one, *others = (tuple(report["shard"]) for report in rolled)
    assert one == (2, 24, 16, 8)
    # Two key/value heads on four or eight parts of the tensor axis: one a device.
    assert others == [(2, 3, 16, 8), (1, 6, 16, 8), (1, 24, 16, 8), (1, 12, 16, 8)]


def test_nothing_compiles_after_the_warm_up(rolled: list[Any]) -> None:
    assert [report["compiled"] for report in rolled] == [0] * 5


# Shapes only. The vocabulary is 42 times the width, as in Qwen-2.5-7B; bytes a device.
MEMORY = """
import contextlib, json
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from r1ci_jax.model import sampler_weights, qwen2
from r1ci_jax.sampling import decode
from r1ci_jax.sharding import mesh as meshes

CONFIG = qwen2.Qwen2Config(vocab_size=10752, width=256, layers=4, query_heads=8, kv_heads=2,
                           head_dim=32, mlp_width=1344)
SLOTS, LENGTH, PAGE, VOCAB = 16, 512, 64, 10661

def size(tree):
    return sum(int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
               for x in jax.tree.leaves(tree))

def measure(sizes, pages_per_row, segments):
    mesh = meshes.make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
    with jax.set_mesh(mesh):
        params = nnx.state(nnx.eval_shape(lambda: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0))))
        config = sampler_weights.with_replicated_kv_heads(mesh, CONFIG)
        place = lambda tree, shardings: jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)
        params = place(params, meshes.param_shardings(mesh, params))
        weights = sampler_weights.weight_shapes(params, config)
        weights = place(weights, sampler_weights.shardings(mesh, weights))
        state = jax.eval_shape(lambda: decode.init_slots(
            config, SLOTS, SLOTS * pages_per_row, segments, jnp.float32, length=LENGTH))
        wanted = decode.state_shardings(mesh, state)
        state, programs = place(state, wanted), decode.compile_programs(mesh, wanted)
        whole = jax.NamedSharding(mesh, jax.P())
        table = decode.StopTable(
            jax.ShapeDtypeStruct((8, VOCAB), jnp.int16, sharding=whole),
            jax.ShapeDtypeStruct((8,), jnp.int8, sharding=whole))
        rows = jax.ShapeDtypeStruct((8,), jnp.int32)
        pages = jax.ShapeDtypeStruct((SLOTS, pages_per_row), jnp.int32)
        chunk = programs.decode_chunk.lower(
            state, weights, table, None if pages_per_row == 1 else pages,
            config=config, steps=16, length=LENGTH, stop_token_ids=(5,)).compile()
        copy = programs.copy_pages.lower(state.cache, rows, rows, rows).compile()
        found = {"cache": size(state.cache), "weights": size(weights)}
        for name, program in (("chunk", chunk), ("copy", copy)):
            memory = program.memory_analysis()
            found[name] = {
                "beside": memory.temp_size_in_bytes + memory.output_size_in_bytes
                          - memory.alias_size_in_bytes,
                "aliased": memory.alias_size_in_bytes}
        return found

print(json.dumps([
    *(measure(sizes, LENGTH // PAGE, PAGE)
      for sizes in ((1, 1, 1), (8, 1, 1), (2, 2, 2), (1, 2, 4))),
    *(measure(sizes, 1, (128, 128, 256)) for sizes in ((1, 1, 1), (2, 2, 2)))]))
"""


def test_a_chunk_needs_little_beside_cache_and_weights(
    run_on_devices: Callable[[int, str], str],
) -> None:
    for found in json.loads(run_on_devices(8, MEMORY)):
        held = found["cache"] + found["weights"]
        for program in ("chunk", "copy"):
            assert found[program]["aliased"] >= found["cache"], found  # donated, and really used
            assert found[program]["beside"] < 0.1 * held, found


FORWARDED = """
import jax, jax.numpy as jnp
from flax import nnx
from r1ci_jax.model import sampler_weights, qwen2
from r1ci_jax.sharding import mesh as meshes

CONFIG = qwen2.Qwen2Config(vocab_size=64, width=32, layers=2, query_heads=4, kv_heads=2,
                           head_dim=8, mlp_width=48)
_, params = nnx.split(nnx.jit(lambda: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0)))())

def places(array):
    return [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]

def shared(sizes, dtype=None):
    mesh = meshes.make_mesh(*sizes)
    with jax.set_mesh(mesh):
        cut = jax.device_put(jax.tree.map(jnp.copy, params), meshes.param_shardings(mesh, params))
        weights = sampler_weights.from_trainer_params(cut, CONFIG, dtype=dtype, mesh=mesh)
        again = sampler_weights.from_trainer_params(cut, CONFIG, dtype=dtype, mesh=mesh)
        jax.tree.map(lambda x, wanted: x.sharding.is_equivalent_to(wanted, x.ndim) or 1 / 0,
                     weights, sampler_weights.shardings(mesh, weights))
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(cut))
        pairs = (("embed", "embed_VD"), ("norm", "norm_D"), ("lm_head", "lm_head_DV"))
        own = qwen2.parameters(cut)
        return [places(own[ours]) == places(getattr(weights, field)) for ours, field in pairs]

print(shared((2, 1, 4)), shared((1, 4, 2)), shared((2, 1, 4), jnp.bfloat16))
"""


def test_what_lies_alike_is_not_copied(run_on_devices: Callable[[int, str], str]) -> None:
    # Embedding, norm, head: cut by tensor alone; by fsdp too, which the sampler undoes; cast.
    alike, gathered, cast = [True] * 3, [False, True, False], [False] * 3
    assert run_on_devices(8, FORWARDED).strip() == f"{alike} {gathered} {cast}"


def test_slots_that_the_mesh_cannot_cut_are_refused() -> None:
    with pytest.raises(UserError, match=r"sampler.slots = 6 is not a multiple of .* = 4"):
        Experiment(
            name="t",
            dataset=DatasetConfig(tasks=("toy_letters",)),
            sampler=SamplerConfig(slots=6),
            sft=SftConfig(batch_size=8),
            mesh=MeshConfig(data=2, fsdp=2),
        )
