"""Eight-bit weights and cache: rounding as worked by hand, no other difference than rounding."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import Quantization, SamplerConfig, SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.model import attention, quantization, qwen2, sampler_weights
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine, SlotInput
from tests.sampling.random_model import CONFIG

VOCAB, LENGTH = CONFIG.vocab_size, 48
ENDLESS = stop_automaton.TokenTable(
    next_state_AV=np.zeros((1, VOCAB), np.int16), stop_A=np.zeros(1, np.int8), start=0
)
LEAST_AGREEMENT = 0.9
"""Of greedy tokens; the model is random, so that many of its choices are close ones."""


@pytest.fixture(scope="module")
def model() -> qwen2.Qwen2:
    """Random, with attention that matters, biases, and a head sharp enough to prefer tokens."""

    @nnx.jit
    def make() -> qwen2.Qwen2:
        model = qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0))
        assert model.lm_head is not None
        model.embed[...] = model.embed[...] * 30
        model.lm_head[...] = model.lm_head[...] * 12
        model.layers.k_bias[...] = model.layers.k_bias[...] + 0.3  # type: ignore[attr-defined]  # set by name
        return model

    return make()


def test_rounding_by_hand() -> None:
    found = quantization.quantize(jnp.array([[1.27, -5.08, 0.0], [-0.014, 2.54, 0.0]]), (0,))
    np.testing.assert_allclose(found.scale, [0.01, 0.04, 0.0], rtol=1e-6)
    # -0.014 is 1.4 hundredths, 2.54 is 63.5 steps of 0.04: a tie goes to the even neighbour.
    np.testing.assert_array_equal(found.values, [[127, -127, 0], [-1, 64, 0]])
    back = quantization.dequantize(found, (0,), jnp.float32)
    np.testing.assert_allclose(back, [[1.27, -5.08, 0], [-0.01, 2.56, 0]], rtol=1e-6)


@pytest.mark.parametrize("shared", [(0,), (1,), (0, 1), (2,)])
def test_no_entry_is_off_by_more_than_half_a_step_of_its_channel(shared: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(30, 20, 10)).astype(np.float32)
    x *= np.logspace(-3, 3, 10, dtype=np.float32)
    found = quantization.quantize(jnp.asarray(x), shared)
    steps = np.abs(x).max(axis=shared, keepdims=True) / 127
    np.testing.assert_allclose(np.expand_dims(found.scale, shared), steps, rtol=1e-6)
    error = np.abs(np.asarray(quantization.dequantize(found, shared, jnp.float32)) - x)
    assert (error <= 0.5001 * steps).all() and (error > 0.4 * steps).any()
    assert np.abs(found.values).max() == 127


def plain(weights: qwen2.DecoderWeights) -> qwen2.DecoderWeights:
    """What eight-bit weights were rounded to."""

    def back(name: str, leaf):
        if isinstance(leaf, quantization.Int8):
            return quantization.dequantize(leaf, sampler_weights.CONTRACTED_AXES[name], jnp.float32)
        return leaf

    layers = (qwen2.LayerWeights(*map(back, qwen2.LAYER_NAMES, layer)) for layer in weights.layers)
    head = None if weights.lm_head_DV is None else back("lm_head", weights.lm_head_DV)
    return qwen2.DecoderWeights(
        back("embed", weights.embed_VD), tuple(layers), weights.norm_D, head
    )


def rounded(x: jax.Array) -> jax.Array:
    """Keys or values [B, T, K, H] rounded by numpy, a factor for each head of each token."""
    x_BTKH = np.asarray(x, np.float64)
    step_BTK1 = np.abs(x_BTKH).max(-1, keepdims=True) / 127
    values_BTKH = np.round(x_BTKH / np.where(step_BTK1 == 0, 1, step_BTK1))
    return jnp.asarray(values_BTKH * step_BTK1, jnp.float32)


def reference(weights: qwen2.DecoderWeights, row: list[int], *, rounds: bool = False) -> np.ndarray:
    """Logits [T, V] of a row, layer by layer, without a cache."""
    tokens_BT = jnp.asarray([row])
    rotary = attention.rotary_BTH(jnp.arange(len(row))[None], CONFIG.head_dim, CONFIG.rope_theta)
    visible_BTT = jnp.tril(jnp.ones((1, len(row), len(row)), bool))

    def attend(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array):
        if rounds:
            k_BTKH, v_BTKH = rounded(k_BTKH), rounded(v_BTKH)
        k_BKTH, v_BKTH = k_BTKH.swapaxes(1, 2), v_BTKH.swapaxes(1, 2)
        return attention.attend(q_BTNH, k_BKTH, v_BKTH, visible_BTT), None

    x_BTD = weights.embed_VD[tokens_BT]
    for layer in weights.layers:
        x_BTD, _ = qwen2.layer_forward(CONFIG, layer, x_BTD, rotary, attend)
    x_BTD = qwen2.rms_norm(x_BTD, weights.norm_D, CONFIG.norm_eps)
    return np.asarray(qwen2.lm_head_logits(weights.embed_VD, weights.lm_head_DV, x_BTD))[0]


def sampled(
    model: qwen2.Qwen2, *, weights: Quantization = "none", cache: Quantization = "none"
) -> list[tuple[list[int], list[int], list[float]]]:
    """(prompt, tokens, log-probabilities) of four slots, greedy and sampled, one told more."""
    sampler = SamplerConfig(
        slots=4,
        cache_length=LENGTH,
        chunk_steps=10,
        prefill_buckets=(16,),
        prefill_rows=2,
        weight_quantization=weights,
        cache_quantization=cache,
    )
    engine = Engine(CONFIG, sampler, ENDLESS, stop_token_ids=(), seed=1)
    engine.load(sampler_weights.from_trainer_params(model, CONFIG, quantization=weights))
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, VOCAB, 5 + 5 * (slot // 2)).tolist() for slot in range(4)]
    prompts[1] = prompts[0]  # copied, not computed
    engine.feed(
        [
            SlotInput(
                slot=slot,
                tokens=tuple(prompt),
                position=0,
                budget=10,
                rollout_id=(slot, 0),
                sampling=SamplingParams(temperature=slot % 2),
            )
            for slot, prompt in enumerate(prompts)
        ]
    )
    found = [(prompts[row.slot], list(row.tokens), list(row.logprobs)) for row in engine.decode()]
    prompt, tokens, _ = found[3]
    row = prompt + tokens + rng.integers(0, VOCAB, 6).tolist()
    engine.feed(
        [
            SlotInput(
                slot=3,
                tokens=tuple(row[len(prompt) + 9 :]),
                position=len(prompt) + 9,
                budget=10,
                rollout_id=(3, 0),
            )
        ]
    )
    (told,) = engine.decode()
    return [*found, (row, list(told.tokens), list(told.logprobs))]


@pytest.mark.parametrize("weights", ["none", "int8"])
@pytest.mark.parametrize("cache", ["none", "int8"])
def test_the_engine_equals_a_reference_that_rounds(
    model: qwen2.Qwen2, weights: Quantization, cache: Quantization
) -> None:
    whole = sampler_weights.from_trainer_params(model, CONFIG)
    used = plain(sampler_weights.from_trainer_params(model, CONFIG, quantization=weights))
    moved = 0.0
    for prompt, tokens, logprobs in sampled(model, weights=weights, cache=cache):
        row = [*prompt, *tokens]
        places = np.arange(len(prompt) - 1, len(row) - 1), tokens
        by = {
            "reference": reference(used, row, rounds=cache == "int8"),
            "unrounded": reference(whole, row),
        }
        by = {name: np.asarray(jax.nn.log_softmax(logits)) for name, logits in by.items()}
        # A value on the edge between two steps may fall either way: one such moves one entry by a
        # step, which is far below what rounding as a whole does.
        np.testing.assert_allclose(logprobs, by["reference"][places], atol=2e-3)
        moved = max(moved, float(np.abs(logprobs - by["unrounded"][places]).max()))
    assert (moved > 5e-3) == ("int8" in (weights, cache)), moved


@pytest.mark.parametrize("storages", [("int8", "none"), ("none", "int8"), ("int8", "int8")])
def test_most_greedy_tokens_stay(
    model: qwen2.Qwen2, storages: tuple[Quantization, Quantization]
) -> None:
    whole = sampler_weights.from_trainer_params(model, CONFIG)
    used = plain(sampler_weights.from_trainer_params(model, CONFIG, quantization=storages[0]))
    rng, agree = np.random.default_rng(1), []
    for _ in range(6):
        row = rng.integers(0, VOCAB, LENGTH).tolist()
        rounds = storages[1] == "int8"
        best = reference(used, row, rounds=rounds).argmax(-1) == reference(whole, row).argmax(-1)
        agree.append(best.mean())
    assert np.mean(agree) >= LEAST_AGREEMENT


def test_a_plain_weight_costs_nothing() -> None:
    x, weight = jnp.ones((2, 3, 4)), jnp.ones((4, 5))

    def operations(product: Callable[..., jax.Array]) -> str:
        text = jax.jit(lambda x, weight: product(x, weight)).lower(x, weight).compile().as_text()
        return re.sub(r", metadata=\{[^}]*\}|stack_frame_id=\d+", "", text.partition("ENTRY")[2])

    assert operations(quantization.linear) == operations(jnp.matmul)


def test_weights_and_settings_must_agree(model: qwen2.Qwen2) -> None:
    engine = Engine(CONFIG, SamplerConfig(slots=1), ENDLESS, stop_token_ids=(), seed=0)
    with pytest.raises(AssertionError, match=r"sampler\.weight_quantization"):
        engine.load(sampler_weights.from_trainer_params(model, CONFIG, quantization="int8"))
    with pytest.raises(UserError, match=r"sampler.cache_quantization must be one of none, int8"):
        SamplerConfig(cache_quantization="int4")  # type: ignore[arg-type]  # a user's mistake


MESH = """
import contextlib
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from r1ci_jax.config import SamplerConfig
from r1ci_jax.model import sampler_weights, qwen2
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine, SlotInput
from tests.sampling.random_model import CONFIG
from r1ci_jax.sharding import mesh as meshes

CONFIG = qwen2.Qwen2Config(vocab_size=320, width=32, layers=1, query_heads=4, kv_heads=2,
                           head_dim=8, mlp_width=48)
SAMPLER = SamplerConfig(slots=4, cache_length=32, chunk_steps=8,
                        prefill_buckets=(8,), prefill_rows=4,
                        weight_quantization="int8", cache_quantization="int8")
TABLE = stop_automaton.TokenTable(
    next_state_AV=np.zeros((1, 300), np.int16), stop_A=np.zeros(1, np.int8), start=0)
_, params = nnx.split(nnx.jit(lambda: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0)))())

def run(mesh):
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        given = params
        if mesh is not None:
            given = jax.device_put(params, meshes.param_shardings(mesh, params))
        engine = Engine(CONFIG, SAMPLER, TABLE, stop_token_ids=(), seed=0)
        loaded = sampler_weights.from_trainer_params(
            given, CONFIG, quantization="int8", mesh=mesh)
        engine.load(loaded)
        engine.feed([SlotInput(slot=slot, tokens=tuple(range(slot, 9)), position=0, budget=8,
                          rollout_id=(slot, 0)) for slot in range(4)])
        return engine.decode()

for one, other in zip(run(None), run(meshes.make_mesh(1, 2, 4)), strict=True):
    assert one.tokens == other.tokens
    np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
print("equal")
"""


def test_on_a_mesh_it_is_the_same(run_on_devices: Callable[[int, str], str]) -> None:
    assert run_on_devices(8, MESH).strip() == "equal"
