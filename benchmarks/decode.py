"""`python benchmarks/decode.py [--json]` compares tokens per second with Hugging Face and tunix.

`--capacity` compares our sampler with itself instead: rows of about 300 tokens in a cache for
trajectories of 384, 1,536 and 4,096 tokens. `--long` compares with the peers in such a cache of
4,096: prompts of 200 to 400 tokens, 128 new ones. `--ragged` measures our sampler on answers of
very different lengths: slots are filled again as they fall free.

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
from collections.abc import Mapping, Sequence
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
LONG_PROMPTS = tuple(range(200, 400, 200 // 15))[:16]
LONG_NEW, LONG_CAPACITY, LONG_BUCKETS = 128, 4096, (256, 400)
MEDIAN, SIGMA, RAGGED_ROWS, RAGGED_CHUNK = 350, 0.8, 48, 16
"""Lognormal lengths of `--ragged` in new tokens, cut where the row is full, as in rollout.py."""
FIGURES = {"": "decode_tokens_per_s", "call_": "call_tokens_per_s"}
"""Metric of an answer by the infix of the report's keys."""


@functools.cache
def engine(
    batch: int, buckets: tuple[int, ...], chunk: int, capacity: int, rows: int | None = None
) -> Any:
    """Create our engine with random weights, compiled for these sizes.

    A row holds `capacity` tokens; a prefill call takes `rows` prompts, or all.
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
        cache_length=capacity,
        chunk_steps=chunk,
        prefill_buckets=buckets,
        prefill_rows=rows or batch,
    )
    built = engine.Engine(config, sampler, never, stop_token_ids=(), seed=0)
    built.load(jax.jit(qwen2.decoder_weights, static_argnames="config")(nnx.state(model), config))
    built.warm_up()
    return built


def ours(built: Any, prompts: Sequence[int], new: int) -> dict[str, float]:
    """Call our engine once on prompts of these lengths until every token is sampled."""
    import jax
    import numpy as np

    from r1ci_jax.sampling.engine import SlotInput

    seed = time.time_ns() % 2**31
    generator = np.random.default_rng(seed)
    tokens = [generator.integers(1, SHAPES["smollm2"].vocab, length) for length in prompts]
    began = time.perf_counter()
    built.feed(
        [
            SlotInput(
                slot=row,
                tokens=tuple(tokens_T.tolist()),
                position=0,
                budget=new,
                rollout_id=(seed, row),
            )
            for row, tokens_T in enumerate(tokens)
        ]
    )
    jax.block_until_ready(built._state)
    prefilled = time.perf_counter()
    emitted = built.decode()
    ended = time.perf_counter()
    batch = len(prompts)
    assert [len(row.tokens) for row in emitted] == [new] * batch, "a row ended early"
    return {
        # The prefill leaves the last prompt token to the loop, so the loop takes one step per new
        # token: the first token is counted with its step.
        "decode_tokens_per_s": batch * new / (ended - prefilled),
        "call_seconds": ended - began,
        "call_tokens_per_s": batch * new / (ended - began),
        "prefill_tokens_per_s": (sum(prompts) - batch) / (prefilled - began),
    }


def measure_capacity(rounds: int) -> dict[str, Any]:
    """Return medians by capacity, and the ratios of the largest to the smallest."""
    report: dict[str, Any] = {"host": alternate.host(), "rows": LIVE_ROWS, "rounds": {}}
    engines = {
        capacity: engine(LIVE_ROWS, (LIVE_PROMPT - 1,), LIVE_NEW, capacity)
        for capacity in CAPACITIES
    }
    answers: dict[int, list[dict[str, float]]] = {capacity: [] for capacity in CAPACITIES}
    for _ in range(rounds):
        for capacity, built in engines.items():
            answers[capacity].append(ours(built, [LIVE_PROMPT] * LIVE_ROWS, LIVE_NEW))
    for part in ("decode", "prefill"):
        medians = {
            capacity: statistics.median(each[f"{part}_tokens_per_s"] for each in found)
            for capacity, found in answers.items()
        }
        for capacity, median in medians.items():
            report[f"{part}_tokens_per_s_capacity_{capacity}"] = median
        report[f"ratio_capacity_{part}"] = medians[CAPACITIES[-1]] / medians[CAPACITIES[0]]
    return report | {"rounds": {str(capacity): found for capacity, found in answers.items()}}


def measure_ragged() -> dict[str, Any]:
    """Sample answers of lognormal lengths in 16 slots; return useful tokens per second."""
    import numpy as np

    from r1ci_jax.sampling.engine import SlotInput

    built = engine(LIVE_ROWS, LONG_BUCKETS, RAGGED_CHUNK, LONG_CAPACITY, 4)
    generator = np.random.default_rng(0)
    lengths = np.exp(generator.normal(np.log(MEDIAN), SIGMA, RAGGED_ROWS)).astype(int)
    lengths = np.minimum(lengths, LONG_CAPACITY - max(LONG_PROMPTS) - 1)
    waiting = list(enumerate(lengths.tolist()))
    free, num_tokens, began = list(range(LIVE_ROWS)), 0, time.perf_counter()
    while waiting or len(free) < LIVE_ROWS:
        feeds = []
        while waiting and free:
            row, new = waiting.pop(0)
            prompt = generator.integers(1, SHAPES["smollm2"].vocab, LONG_PROMPTS[row % 16])
            feeds.append(
                SlotInput(
                    slot=free.pop(),
                    tokens=tuple(prompt.tolist()),
                    position=0,
                    budget=new,
                    rollout_id=(row, 0),
                )
            )
        built.feed(feeds)
        for output in built.decode():
            num_tokens += len(output.tokens)
            if output.is_paused:
                free.append(output.slot)
    assert num_tokens == lengths.sum(), "a row ended early"
    seconds = time.perf_counter() - began
    report = {"tokens": num_tokens, "longest": int(lengths.max()), "seconds": seconds}
    return {"host": alternate.host(), **report, "useful_tokens_per_s": num_tokens / seconds}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer with `ours`, like a peer's script."""
    prompts, new = request["prompts"], request["new"]
    return dict(ours(_engine_of(request), prompts, new))


def _engine_of(request: Mapping[str, Any]) -> Any:
    prompts, new, capacity = request["prompts"], request["new"], request["capacity"]
    if capacity == max(prompts) + new:
        return engine(len(prompts), (max(prompts),), new, capacity)
    return engine(len(prompts), LONG_BUCKETS, new, capacity, 4)


def measure(cases: Mapping[str, Mapping[str, Any]], rounds: int) -> dict[str, Any]:
    """Return medians and ratios under flat keys, and every answer under `rounds`."""
    report: dict[str, Any] = {"host": alternate.host(), "rounds": {}}
    with alternate.opened(answer, PEERS) as sides:
        for case, request in cases.items():
            _engine_of(request)  # compiled before the first round
            answers = alternate.ask_in_turn(sides, request, rounds)
            report["rounds"][case] = answers
            for infix, key in FIGURES.items():
                for side in sides:
                    name = f"{infix}tokens_per_s_{side}_{case}"
                    report[name] = alternate.median(answers, side, key)
                for peer in PEERS:
                    name = f"ratio_{infix}{peer}_{case}"
                    report[name] = alternate.ratio(answers, peer, key)
    report["host"]["load_average_after"] = alternate.host()["load_average"]
    return report


def short_case(batch: int) -> dict[str, Any]:
    """Return the request of prompts of one length, in a cache that just holds the rows."""
    return {"prompts": [PROMPT] * batch, "new": NEW, "capacity": PROMPT + NEW}


def long_case() -> dict[str, Any]:
    """Return the request of longer prompts in a cache for much longer trajectories."""
    return {"prompts": LONG_PROMPTS, "new": LONG_NEW, "capacity": LONG_CAPACITY}


def table(report: Mapping[str, Any], cases: Sequence[str]) -> str:
    """Format the report as text, with a line per side and case."""

    def shown(value: float | None, places: int) -> str:
        return f"{'absent':>9}" if value is None else f"{value:9.{places}f}"

    lines = [f"{'':>13}{'decode':>9}{'ratio':>9}{'call':>9}{'ratio':>9}   (tokens/s, ours/theirs)"]
    for case in cases:
        for side in (alternate.OURS, *PEERS):
            cells = []
            for infix in FIGURES:
                cells.append(shown(report[f"{infix}tokens_per_s_{side}_{case}"], 1))
                is_ours = side == alternate.OURS
                ratio = 1.0 if is_ours else report[f"ratio_{infix}{side}_{case}"]
                cells.append(shown(ratio, 2))
            lines.append(f"{side:>7} {case:<5}" + "".join(cells))
    return "\n".join(lines)


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64], metavar="B")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")
    parser.add_argument("--capacity", action="store_true", help="our sampler at three capacities")
    parser.add_argument("--long", action="store_true", help="longer rows in a cache of 4,096")
    parser.add_argument("--ragged", action="store_true", help="our sampler, uneven lengths")
    args = parser.parse_args()
    try:
        alternate.bind_to_cores()
        if args.capacity or args.ragged:
            report = measure_capacity(args.rounds) if args.capacity else measure_ragged()
            shown = {key: value for key, value in report.items() if key not in ("rounds", "host")}
            print(json.dumps(report if args.json else shown, indent=None if args.json else 2))
            return 0
        batches = {f"b{batch}": short_case(batch) for batch in args.batch}
        cases = {"long": long_case()} if args.long else batches
        report = measure(cases, args.rounds)
    except UserError as error:
        print(f"benchmarks/decode.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report, list(cases)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
