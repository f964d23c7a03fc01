"""The scripted policy is a real Qwen2 whose turn lengths follow a given distribution.

The first token sampled in a turn determines the turn's length. The tokens after it count down to a
closing token, which is a full code block or a full answer. Embedding and head are one-hot and the
layers add nothing to the residual stream (their last matrices are zero), so each token alone
determines the next one, while attention, feed-forward and cache are computed as for any model.
"""

import dataclasses
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from r1ci_jax.model import qwen2
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer

ANSWER = "<<<7>>>"
SCRIPTS = (
    "print(sum(range(1000)))",
    "print(sorted(str(2**64)))",
    "import numpy as np; print(np.arange(9).reshape(3, 3) @ np.eye(3))",
)
"""The policy runs these scripts, equally often."""
RESULT = ExecResult(status=Status.OK, stdout="499500\n", stderr="", exit_code=0)
"""Result of the first of them, for stand-ins of the sandbox."""
CERTAIN = 30.0
"""The logits of the tokens that may follow exceed all others by this much."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
    """Distribution of the turn lengths of a trajectory, in tokens."""

    median: float
    sigma: float
    cap: int
    mean_turns: float = 2.0
    """The number of turns is geometric: a turn ends in code with probability 1 - 1 / mean."""

    def chances(self) -> np.ndarray:
        """Return probabilities of lengths 0 .. cap, a rounded lognormal on 2 .. cap."""
        edges = np.arange(2, self.cap) + 0.5
        below = [
            0.5 * (1 + math.erf(math.log(edge / self.median) / self.sigma / math.sqrt(2)))
            for edge in edges
        ]
        return np.concatenate([[0.0, 0.0], np.diff([0.0, *below, 1.0])])

    @property
    def mean(self) -> float:
        """Return the mean length of a turn."""
        return float(self.chances() @ np.arange(self.cap + 1))


def tokenizer(cap: int) -> Tokenizer:
    """Make a tokenizer with tokens for a countdown, code blocks and an answer of the policy."""
    return spelling([*(f" w{left}" for left in range(cap)), *map(block, SCRIPTS), ANSWER])


def spelling(written: Sequence[str]) -> Tokenizer:
    """Make a tokenizer of bytes, the marks of turns, and these tokens, which text never uses."""
    with tempfile.TemporaryDirectory() as directory:
        tokenizers.train_byte_bpe([""], 256 + 3).save(Path(directory))
        definition = json.loads((Path(directory) / "tokenizer.json").read_text())
    vocab = definition["model"]["vocab"]
    first = 1 + max(*vocab.values(), *(entry["id"] for entry in definition["added_tokens"]))
    # Byte-level vocabularies spell a blank as U+0120 and a line feed as U+010A.
    for index, text in enumerate(written, first):
        vocab[text.replace(" ", "\u0120").replace("\n", "\u010a")] = index
    return Tokenizer(definition, {})


def block(script: str) -> str:
    """Return the script as the policy writes it: one token that opens and closes its block."""
    return f"\n```python\n{script}\n```"


def follows(lengths: Lengths) -> dict[str, dict[str, float]]:
    """Return the probabilities of the tokens that may follow a token."""
    chances = lengths.chances()
    start = {f" w{length - 1}": float(chances[length]) for length in range(2, lengths.cap + 1)}
    code = 1 - 1 / lengths.mean_turns
    close = {ANSWER: 1 - code} | {block(script): code / len(SCRIPTS) for script in SCRIPTS}
    counting = {f" w{left}": {f" w{left - 1}": 1.0} for left in range(2, lengths.cap)}
    # Prompts and observations end with a line feed, so only that token needs a successor.
    return {"\n": start, " w1": close, **counting}


def policy(lengths: Lengths) -> tuple[qwen2.Qwen2Config, Tokenizer, qwen2.DecoderWeights]:
    """Build the model, its tokenizer and its weights."""
    text = tokenizer(lengths.cap)
    id_of = {data: index for index, data in enumerate(text.token_bytes())}
    rows = 16 * math.ceil(text.vocab_size / 16)
    config = qwen2.Qwen2Config(
        vocab_size=rows,
        width=rows,
        layers=2,
        query_heads=4,
        kv_heads=2,
        head_dim=16,
        mlp_width=64,
        rope_theta=1e4,
    )
    head_DV = np.zeros((rows, rows), np.float32)
    for token, successors in follows(lengths).items():
        for successor, chance in successors.items():
            if chance > 0:
                target = id_of[successor.encode()]
                head_DV[id_of[token.encode()], target] = CERTAIN + math.log(chance)
    model = nnx.jit(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0)))()
    # The norm scales any one-hot vector to sqrt(width).
    assert model.lm_head is not None
    model.embed[...] = jnp.eye(rows)
    model.lm_head[...] = jnp.asarray(head_DV) / math.sqrt(rows)
    for name in ("o", "down"):
        parameter = getattr(model.layers, name)
        parameter[...] = jnp.zeros_like(parameter[...])
    weights = jax.jit(qwen2.decoder_weights, static_argnames="config")(nnx.state(model), config)
    return config, text, weights
