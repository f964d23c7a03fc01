"""Qwen-2.5 is one decoder layer as a pure function, and the Flax module that scans it.

The layer function does not know where its keys come from: `attend` is an argument. The full forward
pass attends to the row itself. The cached forward pass (model/kv_cache.py) writes to a cache and
attends to that. Both use the same layer, so they stay consistent.

Axes: B rows, T tokens, D width, F feed-forward width, N query heads, K key/value heads, H head
width, L layers, V vocabulary.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from r1ci_jax.config import TrainConfig
from r1ci_jax.model import attention, quantization, self_attention
from r1ci_jax.sharding import mesh as meshes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Qwen2Config:
    """Architecture of one checkpoint."""

    vocab_size: int
    """Rows of the embedding; real tokenizers use slightly fewer ids."""
    width: int
    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    rope_theta: float = 1e6
    norm_eps: float = 1e-6
    tied: bool = False
    """True means that the head is the transposed embedding."""
    qkv_bias: bool = True
    """False selects the Llama layout."""
    max_positions: int = 32768
    """The weights were trained for this many positions; it is not enforced."""

    def __post_init__(self) -> None:
        assert self.query_heads % self.kv_heads == 0, "query heads come in whole groups"
        assert self.head_dim % 2 == 0, "rotary positions pair the two halves of a head"


class LayerWeights(NamedTuple):
    """Parameters of one layer, or of all layers with a leading L axis."""

    norm1_D: Any
    q_DNH: Any
    q_bias_NH: Any
    k_DKH: Any
    k_bias_KH: Any
    v_DKH: Any
    v_bias_KH: Any
    o_NHD: Any
    norm2_D: Any
    gate_DF: Any
    up_DF: Any
    down_FD: Any


class DecoderWeights(NamedTuple):
    """All parameters with the layers unstacked, as the sampler holds them."""

    embed_VD: quantization.MaybeInt8
    layers: tuple[LayerWeights, ...]
    norm_D: jax.Array
    lm_head_DV: quantization.MaybeInt8 | None
    """None means that the head is tied to the embedding."""


# The attribute names of the stacked parameters are in the order of LayerWeights.
LAYER_NAMES = (
    "norm1", "q", "q_bias", "k", "k_bias", "v", "v_bias", "o", "norm2", "gate", "up", "down",
)  # fmt: skip

DEFAULT_COMPUTE = TrainConfig(attention="dense", remat="none")
"""Compute settings that round nothing and recompute nothing."""

type Adapt = Callable[[LayerWeights, Any], LayerWeights]

type Attend[C] = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, C]]


def layer_shapes(config: Qwen2Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of one layer, by attribute name."""
    width, heads, kv_heads, head_dim = (
        config.width,
        config.query_heads,
        config.kv_heads,
        config.head_dim,
    )
    shapes = {
        "norm1": (width,),
        "q": (width, heads, head_dim),
        "q_bias": (heads, head_dim),
        "k": (width, kv_heads, head_dim),
        "k_bias": (kv_heads, head_dim),
        "v": (width, kv_heads, head_dim),
        "v_bias": (kv_heads, head_dim),
        "o": (heads, head_dim, width),
        "norm2": (width,),
        "gate": (width, config.mlp_width),
        "up": (width, config.mlp_width),
        "down": (config.mlp_width, width),
    }
    if not config.qkv_bias:
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith("_bias")}
    return shapes


def rms_norm(x_BTD: jax.Array, scale_D: jax.Array, eps: float) -> jax.Array:
    """Apply the RMS norm in float32; the scale multiplies in the dtype of `x`."""
    x = x_BTD.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
    return x.astype(x_BTD.dtype) * scale_D[None, None, :].astype(x_BTD.dtype)


def project(
    x_BTD: jax.Array, weight_DNH: quantization.MaybeInt8, bias_NH: jax.Array | None
) -> jax.Array:
    """Project to query, key or value heads [B, T, heads, H]."""
    out_BTNH = quantization.linear(x_BTD, weight_DNH)
    return out_BTNH if bias_NH is None else out_BTNH + bias_NH[None, None, :, :]


def layer_forward[C](
    config: Qwen2Config,
    weights: LayerWeights,
    x_BTD: jax.Array,
    rotary: tuple[jax.Array, jax.Array],
    attend: Attend[C],
) -> tuple[jax.Array, C]:
    """Apply a decoder layer; `attend(q, k, v)` returns values [B, T, N, H] and its carry."""
    h_BTD = rms_norm(x_BTD, weights.norm1_D, config.norm_eps)
    q_BTNH = attention.rotate(project(h_BTD, weights.q_DNH, weights.q_bias_NH), *rotary)
    k_BTKH = attention.rotate(project(h_BTD, weights.k_DKH, weights.k_bias_KH), *rotary)
    v_BTKH = project(h_BTD, weights.v_DKH, weights.v_bias_KH)
    mixed_BTNH, kept = attend(q_BTNH, k_BTKH, v_BTKH)
    x_BTD = x_BTD + quantization.linear(mixed_BTNH, weights.o_NHD, num_contracted=2)

    h_BTD = rms_norm(x_BTD, weights.norm2_D, config.norm_eps)
    gate_BTF = jax.nn.silu(quantization.linear(h_BTD, weights.gate_DF))
    up_BTF = quantization.linear(h_BTD, weights.up_DF)
    return x_BTD + quantization.linear(gate_BTF * up_BTF, weights.down_FD), kept


def lm_head_logits(
    embed_VD: quantization.MaybeInt8, lm_head_DV: quantization.MaybeInt8 | None, x: jax.Array
) -> jax.Array:
    """Compute float32 logits of normed activations [..., D]; a tied head is the embedding."""
    weight, equation = (
        (embed_VD, "...D,VD->...V") if lm_head_DV is None else (lm_head_DV, "...D,DV->...V")
    )
    return quantization.einsum_quantized(equation, x, weight)


def default_positions(mask_BT: jax.Array, segments_BT: jax.Array | None) -> jax.Array:
    """Count real tokens from 0 in their row or segment; padding is not counted."""
    seen_BT = jnp.cumsum(mask_BT.astype(jnp.int32), axis=1)
    positions_BT = jnp.maximum(seen_BT - 1, 0)
    if segments_BT is None:
        return positions_BT
    starts_BT = jnp.concatenate(
        [jnp.ones_like(mask_BT[:, :1]), segments_BT[:, 1:] != segments_BT[:, :-1]], axis=1
    )
    before_BT = seen_BT - mask_BT.astype(jnp.int32)
    base_BT = jax.lax.cummax(jnp.where(starts_BT, before_BT, 0), axis=1)
    return jnp.maximum(positions_BT - base_BT, 0)


def no_adapter(weights: LayerWeights, adapters: None) -> LayerWeights:
    """Return the weights unchanged; this is the `Adapt` of a model without adapters."""
    assert adapters is None
    return weights


@jax.custom_vjp
def embed_tied(table_VD: jax.Array, tokens_BT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Look up embeddings and also return the table for the head that is tied to it.

    In the backward pass the gradient of the lookup is then added to the head's in place, without a
    second array of the table's size.
    """
    return table_VD[tokens_BT], table_VD


def _embed_tied_forward(table_VD: jax.Array, tokens_BT: jax.Array):
    return embed_tied(table_VD, tokens_BT), tokens_BT


def _embed_tied_backward(tokens_BT: jax.Array, gradients: tuple[jax.Array, jax.Array]):
    rows_BTD, table_VD = gradients
    return table_VD.at[tokens_BT].add(rows_BTD.astype(table_VD.dtype)), None


embed_tied.defvjp(_embed_tied_forward, _embed_tied_backward)


class Layers(nnx.Module):
    """Parameters of all layers, stacked on a leading axis."""

    def __init__(self, config: Qwen2Config, *, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        """Initialize fan-in normal matrices; divide the residual outputs by sqrt(2 L)."""
        for name, shape in layer_shapes(config).items():
            stacked = (config.layers, *shape)
            if name.startswith("norm"):
                value = jnp.ones(stacked, dtype)
            elif name.endswith("_bias"):
                value = jnp.zeros(stacked, dtype)
            else:
                fan_in = config.query_heads * config.head_dim if name == "o" else shape[0]
                damping = 2 * config.layers if name in ("o", "down") else 1
                value = _normal(rngs, stacked, (fan_in * damping) ** -0.5, dtype)
            setattr(self, name, nnx.Param(value))


class Qwen2(nnx.Module):
    """Qwen-2.5 decoder, or a Llama decoder without QKV bias."""

    def __init__(
        self, config: Qwen2Config, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
    ) -> None:
        """Initialize random parameters of the given dtype."""
        self.config = config
        table = (config.vocab_size, config.width)
        self.embed = nnx.Param(_normal(rngs, table, 0.02, dtype))
        self.layers = Layers(config, rngs=rngs, dtype=dtype)
        self.norm = nnx.Param(jnp.ones((config.width,), dtype))
        self.lm_head = None if config.tied else nnx.Param(_normal(rngs, table[::-1], 0.02, dtype))

    def __call__(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        mask_BT: jax.Array | None = None,
    ) -> jax.Array:
        """Compute float32 logits [B, T, V]. `mask_BT` is False for padding, on either side."""
        x_BTD, _ = self.hidden_and_lm_head(tokens_BT, positions_BT, mask_BT)
        return lm_head_logits(
            self.embed[...], None if self.lm_head is None else self.lm_head[...], x_BTD
        )

    def hidden_and_lm_head(
        self,
        tokens_BT: jax.Array,
        positions_BT: jax.Array | None = None,
        mask_BT: jax.Array | None = None,
        segments_BT: jax.Array | None = None,
        *,
        adapt: Adapt = no_adapter,
        adapters: Any = None,
        compute: TrainConfig = DEFAULT_COMPUTE,
    ) -> tuple[jax.Array, jax.Array]:
        """Compute activations [B, T, D] after the final norm, and return the head's weight too.

        `segments_BT` numbers the sequences packed into a row; tokens of different segments do not
        attend to each other. Positions count the real tokens of a row, or of a segment, unless
        given. `adapt` changes each layer's weights by its slice of the stacked `adapters`.
        """
        config, dtype = self.config, jnp.dtype(compute.dtype)
        mask_BT = jnp.ones(tokens_BT.shape, dtype=bool) if mask_BT is None else mask_BT.astype(bool)
        if positions_BT is None:
            positions_BT = default_positions(mask_BT, segments_BT)
        rotary = attention.rotary_BTH(positions_BT, config.head_dim, config.rope_theta)
        ones_BT = mask_BT.astype(jnp.int32)
        attend_rows = self_attention.make_attention(
            compute.attention,
            ones_BT if segments_BT is None else jnp.where(mask_BT, segments_BT, 0),
        )

        def step(x_BTD: jax.Array, layer: tuple[LayerWeights, Any]):
            # Cast here, one layer at a time, so that the all-gather over fsdp uses `dtype`.
            weights, layer_adapters = jax.tree.map(lambda leaf: leaf.astype(dtype), layer)
            x_BTD, _ = layer_forward(
                config,
                adapt(weights, layer_adapters),
                x_BTD,
                rotary,
                lambda q, k, v: (attend_rows(q, k, v), None),
            )
            return meshes.constrain_trainer(x_BTD, "batch", "time", "activation_width"), None

        rows_BTD, table_VD = embed_tied(self.embed[...], tokens_BT)
        x_BTD = meshes.constrain_trainer(
            rows_BTD.astype(dtype), "batch", "time", "activation_width"
        )
        stacked = stacked_weights(parameters(self)), adapters
        x_BTD, _ = jax.lax.scan(
            self_attention.checkpoint_layer(compute.remat, step), x_BTD, stacked
        )
        x_BTD = rms_norm(x_BTD, self.norm[...], config.norm_eps)
        return x_BTD, table_VD if self.lm_head is None else self.lm_head[...]


def parameters(source: Qwen2 | nnx.State | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a nested dict of plain arrays from a model, its state, or such a dict."""
    state = nnx.state(source, nnx.Param) if isinstance(source, Qwen2) else source
    return nnx.to_pure_dict(state) if isinstance(state, nnx.State) else state


def stacked_weights(parameters: Mapping[str, Any]) -> LayerWeights:
    """Return the stacked parameters of the layers; biases are None if the model has none."""
    return LayerWeights(*(parameters["layers"].get(name) for name in LAYER_NAMES))


def decoder_weights(
    model_or_state: Qwen2 | nnx.State | Mapping[str, Any],
    config: Qwen2Config,
    dtype: DTypeLike | None = None,
) -> DecoderWeights:
    """Unstack the layers and cast to `dtype` if given; jit it to keep a sharded state sharded."""
    values = parameters(model_or_state)
    if dtype is not None:
        values = jax.tree.map(lambda x: x.astype(dtype), values)
    stacked = stacked_weights(values)
    layers = tuple(jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(config.layers))
    return DecoderWeights(values["embed"], layers, values["norm"], values.get("lm_head"))


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float, dtype: DTypeLike) -> jax.Array:
    sample = jax.random.normal(rngs.params(), shape, jnp.float32)
    return (sample * std).astype(dtype)
