"""`python benchmarks/loss_memory.py [--json]` measures memory of the loss and its gradient.

The model has Qwen-2.5's 151,936 tokens, width 512 and four layers, and the batch has 4 rows of 512
tokens in float32. The project's step is compared with the same step with all logits [B, T, V] at
once. The optimizer is plain gradient descent, which has no moments, and both versions recompute
layers in the backward pass, as is the project's default, so that the loss dominates. Each version
runs in a separate process; memory held before the step, weights included, is not counted.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import alternate
from peers import wire
from peers.shapes import SHAPES

from r1ci_jax.errors import UserError

SHAPE, ROWS, LENGTH = "vocab", 4, 512
VERSIONS = ("ours", "full")
BAR = 1 / 3
"""Our version may use at most this fraction of the full version's memory."""
MIB = 2**20

type Step = Callable[[Any, Any], tuple[Any, dict[str, Any]]]
"""(training state, batch) -> (training state, metrics), jitted with donation."""


def parts(version: str) -> tuple[Any, Any, Any]:
    """Return the version's step and its arguments: (step, training state, batch)."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    import ours

    from r1ci_jax.data.packing import PackedBatch
    from r1ci_jax.train import sft
    from r1ci_jax.train import train_state as state

    policy, params = ours.policy(SHAPE)
    tx = optax.sgd(1e-5)
    tokens_BT = np.random.default_rng(0).integers(0, SHAPES[SHAPE].vocab, (ROWS, LENGTH), np.int32)
    batch = PackedBatch(
        tokens_BT=jnp.asarray(tokens_BT),
        positions_BT=jnp.broadcast_to(jnp.arange(LENGTH)[None], tokens_BT.shape),
        segments_BT=jnp.ones(tokens_BT.shape, jnp.int32),
        loss_mask_BT=jnp.ones(tokens_BT.shape, bool),
    )

    def product(train_state: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
        return sft.sft_step(train_state, batch, policy=policy, tx=tx)

    step = product if version == "ours" else full(policy, tx)
    return jax.jit(step, donate_argnums=0), state.create_state(params, tx), batch


def full(policy: Any, tx: Any) -> Step:
    """Build the equivalent of `sft.sft_step` with all logits at once."""
    import jax
    import optax
    from flax import nnx

    from r1ci_jax.model import qwen2
    from r1ci_jax.train import train_state as state

    def step(train_state: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
        def loss(params: Any) -> jax.Array:
            model = nnx.merge(policy.graphdef, params)
            rows = batch.tokens_BT[:, :-1], batch.positions_BT[:, :-1]
            x_BTD, table_VD = model.hidden_and_lm_head(*rows, compute=policy.train_config)
            logits_BTV = qwen2.lm_head_logits(table_VD, None, x_BTD)
            return optax.softmax_cross_entropy_with_integer_labels(
                logits_BTV, batch.tokens_BT[:, 1:]
            ).mean()

        value, gradients = jax.value_and_grad(loss)(train_state.params)
        metrics = {"optim/loss": value, "optim/grad_norm": optax.tree.norm(gradients)}
        return state.apply_gradients(train_state, gradients, tx), metrics

    return step


def answer(request: Mapping[str, Any]) -> dict[str, float]:
    """Run one step; return its peak of additional resident memory and XLA's allocation."""
    import jax

    step, train_state, batch = parts(request["version"])
    compiled = step.lower(train_state, batch).compile()
    jax.block_until_ready((train_state, batch))
    held = restart_peak()
    train_state, metrics = jax.block_until_ready(compiled(train_state, batch))
    return {
        "peak_bytes": wire.peak_bytes() - held,
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "loss": float(metrics["optim/loss"]),
        "grad_norm": float(metrics["optim/grad_norm"]),
    }


def restart_peak() -> int:
    """Reset the process's peak to the current resident memory, and return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return wire.peak_bytes()


def measure() -> dict[str, Any]:
    """Return every metric of both versions, and ours divided by the full version's."""
    report: dict[str, Any] = {"host": alternate.host(), "rows": ROWS, "length": LENGTH, "bar": BAR}
    command: Sequence[str] = [sys.executable, __file__, "--serve"]
    for version in VERSIONS:
        with alternate.Process(version, command) as process:
            found = process.ask({"version": version})
        report |= {f"{key}_{version}": value for key, value in found.items() if key != "versions"}
        report["versions"] = found["versions"]
    for key in ("loss", "grad_norm"):
        ours, theirs = (report[f"{key}_{version}"] for version in VERSIONS)
        assert abs(ours - theirs) < 1e-3 * theirs, f"the versions compute another {key}"
    report["ratio_full"] = report["peak_bytes_ours"] / report["peak_bytes_full"]
    report["ratio_temporary"] = report["temporary_bytes_ours"] / report["temporary_bytes_full"]
    return report


def table(report: Mapping[str, Any]) -> str:
    """Format the report as text."""
    lines = [f"{'MiB':>5}{'peak':>9}{'XLA':>9}"]
    for version in VERSIONS:
        sizes = (report[f"{key}_{version}"] / MIB for key in ("peak_bytes", "temporary_bytes"))
        lines.append(f"{version:>5}" + "".join(f"{size:9.0f}" for size in sizes))
    ratios = (report["ratio_full"], report["ratio_temporary"])
    lines.append(f"{'ratio':>5}" + "".join(f"{ratio:9.3f}" for ratio in ratios))
    return "\n".join([*lines, f"bar: {BAR:.3f}"])


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--serve", action="store_true", help="be one version: requests on stdin")
    args = parser.parse_args()
    if args.serve:
        wire.serve(answer, ("jax", "flax"))
        return 0
    try:
        alternate.bind_to_cores()
        report = measure()
    except UserError as error:
        print(f"benchmarks/loss_memory.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
