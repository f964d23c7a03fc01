"""`python benchmarks/decode.py [--json]` compares tokens per second with Hugging Face and tunix.

`--capacity` compares our sampler with itself instead: rows of about 300 tokens in a cache for
trajectories of 384, 1,536 and 4,096 tokens.

The model has SmolLM2-135M's shape, random float32 weights, two cores, temperature 1 over the full
vocabulary and no end of text. "Decode alone" counts every token after the first; the full call
includes the prefill.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import alternate
from peers.shapes import SHAPES

from r1ci_jax.errors import UserError

PEERS = {
    "hf": alternate.Peer(environment=".venv-peers-torch", script="hf_decode.py"),
    "tunix": alternate.Peer(environment=".venv-peers-tunix", script="tunix_decode.py"),
}
PROMPT, NEW = 64, 64
CAPACITIES = (384, 1536, 4096)
"""Longest trajectory in tokens, of which the rows of `--capacity` use little."""
LIVE_PROMPT, LIVE_NEW, LIVE_ROWS = 257, 64, 16
"""A row of `--capacity`: the prefill computes all but the last token of its prompt."""
FIGURES = {"": "decode_tokens_per_s", "call_": "call_tokens_per_s"}
"""Metric of an answer by the infix of the report's keys."""


@functools.cache
def engine(batch: int, prompt: int, new: int, capacity: int | None = None) -> Any:
    """Create our engine with random weights, compiled for these sizes.

    A row holds `capacity` tokens, or exactly the prompt and the new tokens.
    """
    import jax
    import numpy as np
    import ours
    from flax import nnx

    from r1ci_jax.config import SamplerConfig
    from r1ci_jax.model import qwen2
    from r1ci_jax.sampling import engine, stop_automaton

    model = ours.model("smollm2")
    config = model.config
    never = stop_automaton.TokenTable(  # one state, in which nothing stops
        next_state_AV=np.zeros((1, config.vocab_size), np.int16),
        stop_A=np.zeros(1, np.int8),
        start=0,
    )
    sampler = SamplerConfig(
        slots=batch,
        cache_length=capacity or prompt + new,
        chunk_steps=new,
        prefill_buckets=(prompt,),
        prefill_rows=batch,
    )
    built = engine.Engine(config, sampler, never, stop_token_ids=(), seed=0)
    built.load(jax.jit(qwen2.decoder_weights, static_argnames="config")(nnx.state(model), config))
    built.warm_up()
    return built


def ours(batch: int, prompt: int, new: int, capacity: int | None = None) -> dict[str, float]:
    """Call our engine once on a batch of prompts until every token is sampled."""
    import jax
    import numpy as np

    from r1ci_jax.sampling.engine import SlotInput

    built = engine(batch, prompt, new, capacity)
    seed = time.time_ns() % 2**31
    prompts_BT = np.random.default_rng(seed).integers(1, SHAPES["smollm2"].vocab, (batch, prompt))
    began = time.perf_counter()
    feeds = [
        SlotInput(
            slot=row,
            tokens=tuple(tokens_T),
            position=0,
            budget=new,
            rollout_id=(seed, row),
        )
        for row, tokens_T in enumerate(prompts_BT.tolist())
    ]
    built.feed(feeds)
    jax.block_until_ready(built._state)
    prefilled = time.perf_counter()
    emitted = built.decode()
    ended = time.perf_counter()
    assert [len(row.tokens) for row in emitted] == [new] * batch, "a row ended early"
    return {
        # The prefill leaves the last prompt token to the loop, so the loop takes one step per new
        # token: the first token is counted with its step.
        "decode_tokens_per_s": batch * new / (ended - prefilled),
        "call_seconds": ended - began,
        "call_tokens_per_s": batch * new / (ended - began),
        "prefill_tokens_per_s": batch * (prompt - 1) / (prefilled - began),
    }


def measure_capacity(rounds: int) -> dict[str, Any]:
    """Return medians by capacity, and the ratios of the largest to the smallest."""
    report: dict[str, Any] = {"host": alternate.host(), "rows": LIVE_ROWS, "rounds": {}}
    sizes = {"batch": LIVE_ROWS, "prompt": LIVE_PROMPT, "new": LIVE_NEW}
    for capacity in CAPACITIES:
        engine(**sizes, capacity=capacity)  # compiled before the first round
        report["rounds"][str(capacity)] = []
    for _ in range(rounds):
        for capacity in CAPACITIES:
            report["rounds"][str(capacity)].append(ours(**sizes, capacity=capacity))
    for part in ("decode", "prefill"):
        medians = [
            statistics.median(each[f"{part}_tokens_per_s"] for each in answers)
            for answers in report["rounds"].values()
        ]
        for capacity, median in zip(CAPACITIES, medians, strict=True):
            report[f"{part}_tokens_per_s_capacity_{capacity}"] = median
        report[f"ratio_capacity_{part}"] = medians[-1] / medians[0]
    return report


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer with `ours`, like a peer's script."""
    return dict(ours(request["batch"], request["prompt"], request["new"]))


def measure(batches: list[int], rounds: int) -> dict[str, Any]:
    """Return medians and ratios under flat keys, and every answer under `rounds`."""
    report: dict[str, Any] = {"host": alternate.host(), "prompt": PROMPT, "new": NEW, "rounds": {}}
    with alternate.opened(answer, PEERS) as sides:
        for batch in batches:
            request = {"batch": batch, "prompt": PROMPT, "new": NEW}
            engine(**request)  # compiled before the first round
            answers = alternate.ask_in_turn(sides, request, rounds)
            report["rounds"][f"b{batch}"] = answers
            for infix, key in FIGURES.items():
                for side in sides:
                    name = f"{infix}tokens_per_s_{side}_b{batch}"
                    report[name] = alternate.median(answers, side, key)
                for peer in PEERS:
                    name = f"ratio_{infix}{peer}_b{batch}"
                    report[name] = alternate.ratio(answers, peer, key)
    report["host"]["load_average_after"] = alternate.host()["load_average"]
    return report


def table(report: Mapping[str, Any], batches: list[int]) -> str:
    """Format the report as text, with a line per side and batch."""

    def shown(value: float | None, places: int) -> str:
        return f"{'absent':>9}" if value is None else f"{value:9.{places}f}"

    lines = [f"{'':>13}{'decode':>9}{'ratio':>9}{'call':>9}{'ratio':>9}   (tokens/s, ours/theirs)"]
    for batch in batches:
        for side in (alternate.OURS, *PEERS):
            cells = []
            for infix in FIGURES:
                cells.append(shown(report[f"{infix}tokens_per_s_{side}_b{batch}"], 1))
                is_ours = side == alternate.OURS
                ratio = 1.0 if is_ours else report[f"ratio_{infix}{side}_b{batch}"]
                cells.append(shown(ratio, 2))
            lines.append(f"{side:>7} b{batch:<4}" + "".join(cells))
    return "\n".join(lines)


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64], metavar="B")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")
    parser.add_argument("--capacity", action="store_true", help="our sampler at three capacities")
    args = parser.parse_args()
    try:
        alternate.bind_to_cores()
        if args.capacity:
            report = measure_capacity(args.rounds)
            shown = {key: value for key, value in report.items() if key not in ("rounds", "host")}
            print(json.dumps(report if args.json else shown, indent=None if args.json else 2))
            return 0
        report = measure(args.batch, args.rounds)
    except UserError as error:
        print(f"benchmarks/decode.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report, args.batch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
