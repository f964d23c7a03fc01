"""One table (TABLE) names every parameter in our layout and in Hugging Face files."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule names one parameter in both layouts."""

    ours: str
    theirs: str
    """The name contains `{layer}` for a parameter that every layer has."""
    inputs: int = 0
    """Number of leading axes here, the layer axis aside, that are the input of a linear map; its
    matrix is [outputs, inputs] in the file. 0: no linear map, stored in our order."""


TABLE = (
    Rule("embed", "model.embed_tokens.weight"),
    Rule("layers/norm1", "model.layers.{layer}.input_layernorm.weight"),
    Rule("layers/q", "model.layers.{layer}.self_attn.q_proj.weight", inputs=1),
    Rule("layers/q_bias", "model.layers.{layer}.self_attn.q_proj.bias"),
    Rule("layers/k", "model.layers.{layer}.self_attn.k_proj.weight", inputs=1),
    Rule("layers/k_bias", "model.layers.{layer}.self_attn.k_proj.bias"),
    Rule("layers/v", "model.layers.{layer}.self_attn.v_proj.weight", inputs=1),
    Rule("layers/v_bias", "model.layers.{layer}.self_attn.v_proj.bias"),
    Rule("layers/o", "model.layers.{layer}.self_attn.o_proj.weight", inputs=2),
    Rule("layers/norm2", "model.layers.{layer}.post_attention_layernorm.weight"),
    Rule("layers/gate", "model.layers.{layer}.mlp.gate_proj.weight", inputs=1),
    Rule("layers/up", "model.layers.{layer}.mlp.up_proj.weight", inputs=1),
    Rule("layers/down", "model.layers.{layer}.mlp.down_proj.weight", inputs=1),
    Rule("norm", "model.norm.weight"),
    Rule("lm_head", "lm_head.weight", inputs=1),
)  # fmt: skip
BY_PATH = {rule.ours: rule for rule in TABLE}
