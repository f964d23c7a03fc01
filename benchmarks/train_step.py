"""`python benchmarks/train_step.py [--json]` measures speed and memory of a supervised step.

The step has random float32 weights, two cores, 4 rows of 512 tokens and clipped AdamW. The peers
are Hugging Face on torch and google-tunix. The shapes are SmolLM2-135M, and the `_vocab` twin with
Qwen-2.5's 151,936 tokens on a narrow body. Every side of every shape is a separate process, whose
peak resident memory is thus that of this step. All sides of a shape run at once and use at most
20 GiB.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import alternate
from peers import wire
from peers.shapes import SHAPES

from r1ci_jax.errors import UserError

PEERS = {
    "hf": alternate.Peer(environment=".venv-peers-torch", script="hf_train.py"),
    "tunix": alternate.Peer(environment=".venv-peers-tunix", script="tunix_train.py"),
}
ROWS, LENGTH = 4, 512
SUFFIXES = {"smollm2": "", "vocab": "_vocab"}
"""Suffix of the report's keys by shape."""
GIB = 2**30


@functools.cache
def trainee(name: str) -> Any:
    """Compile our model and step to a function batch -> loss that updates the weights."""
    import jax
    import optax
    import ours

    from r1ci_jax.train import optimizer, sft
    from r1ci_jax.train import train_state as state

    policy, params = ours.policy(name)
    schedule = optax.constant_schedule(1e-5)
    tx = optimizer.make_optimizer(schedule, clip_norm=1.0, weight_decay=0.01)
    train_state = state.create_state(params, tx)

    def step(batch: Any) -> float:
        nonlocal train_state
        train_state, metrics = sft.sft_step(train_state, batch, policy=policy, tx=tx)
        jax.block_until_ready(train_state)
        return float(metrics["optim/loss"])

    return step


def ours(shape: str, batch: int, length: int) -> dict[str, float]:
    """Run one step of ours on random tokens; every row is one segment."""
    import jax
    import numpy as np

    from r1ci_jax.data.packing import PackedBatch

    generator = np.random.default_rng(time.time_ns())
    tokens_BT = generator.integers(0, SHAPES[shape].vocab, (batch, length), np.int32)
    packed = PackedBatch(
        tokens_BT=tokens_BT,
        positions_BT=np.broadcast_to(np.arange(length, dtype=np.int32), (batch, length)),
        segments_BT=np.ones((batch, length), np.int32),
        loss_mask_BT=np.ones((batch, length), bool),
    )
    step = trainee(shape)
    inputs = jax.device_put(packed)
    began = time.perf_counter()
    loss = step(inputs)
    seconds = time.perf_counter() - began
    return {"tokens_per_s": batch * length / seconds, "step_seconds": seconds, "loss": loss}


@functools.cache
def warm_up(shape: str, batch: int, length: int) -> None:
    """Compile the step."""
    ours(shape, batch, length)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with `ours`, like a peer's script."""
    sizes = request["shape"], request["batch"], request["length"]
    warm_up(*sizes)
    return {**ours(*sizes), "peak_bytes": wire.peak_bytes()}


def measure(shapes: list[str], rounds: int) -> dict[str, Any]:
    """Return medians and ratios under flat keys, and every answer under `rounds`."""
    report: dict[str, Any] = {"host": alternate.host(), "rows": ROWS, "length": LENGTH}
    report["rounds"] = {}
    for shape in shapes:
        request = {"shape": shape, "batch": ROWS, "length": LENGTH}
        with alternate.opened([sys.executable, __file__, "--serve"], PEERS) as sides:
            answers = alternate.ask_in_turn(sides, request, rounds)
        report["rounds"][shape] = answers
        suffix = SUFFIXES[shape]
        for side in sides:
            report[f"tokens_per_s_{side}{suffix}"] = alternate.median(answers, side, "tokens_per_s")
            report[f"peak_bytes_{side}{suffix}"] = alternate.median(answers, side, "peak_bytes")
        for peer in PEERS:
            report[f"ratio_{peer}{suffix}"] = alternate.ratio(answers, peer, "tokens_per_s")
    report["host"]["load_average_after"] = alternate.host()["load_average"]
    return report


def table(report: Mapping[str, Any], shapes: list[str]) -> str:
    """Format the report as text, with a line per side and shape."""
    lines = [f"{'':>16}{'tokens/s':>9}{'ratio':>9}{'GiB':>9}   (ratio: ours/theirs)"]
    for shape in shapes:
        for side in (alternate.OURS, *PEERS):
            suffix = SUFFIXES[shape]
            speed = report[f"tokens_per_s_{side}{suffix}"]
            if speed is None:
                lines.append(f"{side:>7} {shape:<8}   absent")
                continue
            ratio = 1.0 if side == alternate.OURS else report[f"ratio_{side}{suffix}"]
            peak = report[f"peak_bytes_{side}{suffix}"] / GIB
            lines.append(f"{side:>7} {shape:<8}{speed:9.1f}{ratio:9.2f}{peak:9.2f}")
    return "\n".join(lines)


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--shape", nargs="+", default=[*SUFFIXES], choices=SUFFIXES)
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")
    parser.add_argument("--serve", action="store_true", help="be one side: requests on stdin")
    args = parser.parse_args()
    if args.serve:
        wire.serve(answer, ("jax", "flax"))
        return 0
    try:
        alternate.bind_to_cores()
        report = measure(args.shape, args.rounds)
    except UserError as error:
        print(f"benchmarks/train_step.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report, args.shape))
    return 0


if __name__ == "__main__":
    sys.exit(main())
