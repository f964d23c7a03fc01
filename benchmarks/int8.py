"""`python benchmarks/int8.py [--json] [DIR ...]` measures the accuracy loss of int8.

A model of one million weights learns sums (a minute or two on two cores) and is then scored on
unseen ones. Hugging Face directories are scored on random tokens, which is less informative. Every
token's distribution is computed through the cache, as in sampling, and compared with float32.
"""

import argparse
import functools
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from r1ci_jax.config import Quantization
from r1ci_jax.errors import UserError
from r1ci_jax.model import kv_cache, presets, qwen2, sampler_weights
from r1ci_jax.model.hf import weights

ROWS, LENGTH = 64, 96
SETTINGS: dict[str, tuple[Quantization, Quantization]] = {
    "weights": ("int8", "none"),
    "cache": ("none", "int8"),
    "both": ("int8", "int8"),
}


def sums(rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
    """Make rows of bytes like `407+85=492;`, truncated at `length`."""
    table = np.zeros((rows, length), np.int32)
    for row in table:
        text = ""
        while len(text) < length:
            a, b = rng.integers(0, 1000, 2).tolist()
            text += f"{a}+{b}={a + b};"
        row[:] = list(text[:length].encode())
    return table


def learnt(steps: int) -> tuple[qwen2.Qwen2, np.ndarray, float]:
    """Train a model; return it, unseen rows, and its last loss in nats per token."""
    model = nnx.jit(lambda: qwen2.Qwen2(presets.get("toy"), rngs=nnx.Rngs(0)))()
    graphdef, params = nnx.split(model)
    tx = optax.adamw(optax.cosine_decay_schedule(3e-3, steps))
    moments = jax.jit(tx.init)(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, moments: Any, tokens_BT: jax.Array) -> tuple[Any, Any, jax.Array]:
        def loss(params: Any) -> jax.Array:
            logits_BTV = nnx.merge(graphdef, params)(tokens_BT[:, :-1])
            losses_BT = optax.softmax_cross_entropy_with_integer_labels(
                logits_BTV, tokens_BT[:, 1:]
            )
            return losses_BT.mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, moments = tx.update(gradients, moments, params)
        return optax.apply_updates(params, updates), moments, value

    rng, value = np.random.default_rng(0), jnp.nan
    for _ in range(steps):
        params, moments, value = step(params, moments, jnp.asarray(sums(rng, 32, LENGTH)))
    unseen = sums(np.random.default_rng(1), ROWS, LENGTH)
    return nnx.merge(graphdef, params), unseen, float(value)


def scored(
    model: qwen2.Qwen2, tokens_IT: np.ndarray, storages: tuple[Quantization, Quantization]
) -> tuple[np.ndarray, int, int]:
    """Compute log-probabilities [I, T, V] through the cache, and bytes of weights and cache."""
    config = model.config
    kept = sampler_weights.from_trainer_params(model, config, quantization=storages[0])
    cache = kv_cache.init_cache(config, len(tokens_IT), LENGTH, jnp.float32, storages[1])
    pages_RJ = kv_cache.contiguous_pages(len(tokens_IT), 1)

    @jax.jit
    def score(kept: Any, cache: kv_cache.Cache, tokens_IT: jax.Array) -> jax.Array:
        positions_IT = jnp.broadcast_to(jnp.arange(tokens_IT.shape[1])[None], tokens_IT.shape)
        x_RTD, _ = kv_cache.extend(config, kept, cache, tokens_IT, positions_IT, pages_RJ)
        return jax.nn.log_softmax(kv_cache.logits(config, kept, x_RTD))

    logprobs_RTV = np.asarray(score(kept, cache, jnp.asarray(tokens_IT)))
    weights_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(kept))
    return logprobs_RTV, weights_bytes, sum(leaf.nbytes for leaf in jax.tree.leaves(cache))


def compare(model: qwen2.Qwen2, tokens_IT: np.ndarray) -> dict[str, Any]:
    """Compare every setting with float32."""
    exact_RTV, weights_bytes, cache_bytes = scored(model, tokens_IT, ("none", "none"))
    report: dict[str, Any] = {
        "none": {"weights_bytes": weights_bytes, "cache_bytes": cache_bytes},
    }
    sure_RT = exact_RTV.max(-1) > np.log(0.5)
    chosen = (*np.indices(tokens_IT[:, 1:].shape), tokens_IT[:, 1:])
    for name, storages in SETTINGS.items():
        found_RTV, weights_bytes, cache_bytes = scored(model, tokens_IT, storages)
        difference_RT = np.abs(found_RTV[:, :-1][chosen] - exact_RTV[:, :-1][chosen])
        kl_RT = (np.exp(exact_RTV) * (exact_RTV - found_RTV)).sum(-1)
        agree_RT = exact_RTV.argmax(-1) == found_RTV.argmax(-1)
        report[name] = {
            "logprob_difference_mean": float(difference_RT.mean()),
            "logprob_difference_max": float(difference_RT.max()),
            "kl_mean": float(kl_RT.mean()),
            "greedy_agreement": float(agree_RT.mean()),
            "greedy_agreement_where_sure": (
                float(agree_RT[sure_RT].mean()) if sure_RT.any() else None
            ),
            "weights_bytes": weights_bytes,
            "cache_bytes": cache_bytes,
        }
    return report


def measure(directories: list[str], steps: int) -> dict[str, Any]:
    """Return a report for each model."""
    model, unseen, loss = learnt(steps)
    report: dict[str, Any] = {"sums": {"steps": steps, "loss": loss, **compare(model, unseen)}}
    for directory in directories:
        model = weights.load_pretrained(directory)
        rng = np.random.default_rng(2)
        tokens_IT = rng.integers(0, model.config.vocab_size, (ROWS, LENGTH))
        report[directory] = compare(model, tokens_IT.astype(np.int32))
    return report


def table(report: dict[str, Any]) -> str:
    """Format the report as text."""
    lines = []
    for model, found in report.items():
        lines.append(
            f"{model}\n{'':>9}{'|dlogp|':>10}{'max':>9}{'KL':>11}{'greedy':>9}{'if sure':>9}  bytes"
        )
        for name in ("none", *SETTINGS):
            row = found[name]
            size = f"  {row['weights_bytes']:,} + {row['cache_bytes']:,}"
            if name == "none":
                lines.append(f"{name:>9}{'':>48}{size}")
                continue
            sure = row["greedy_agreement_where_sure"]
            sure = "none" if sure is None else f"{sure:.4f}"
            lines.append(
                f"{name:>9}{row['logprob_difference_mean']:10.5f}"
                f"{row['logprob_difference_max']:9.4f}{row['kl_mean']:11.7f}"
                f"{row['greedy_agreement']:9.4f}"
                f"{sure:>9}{size}"
            )
    return "\n".join(lines)


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("directories", nargs="*", metavar="DIR", help="Hugging Face checkpoints")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--steps", type=int, default=400, help="of learning sums")
    args = parser.parse_args()
    try:
        report = measure(args.directories, args.steps)
    except UserError as error:
        print(f"benchmarks/int8.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
