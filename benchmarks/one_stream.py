"""`python benchmarks/one_stream.py DIR [--json]` compares one chat stream with Hugging Face.

DIR is a Hugging Face directory, such as Qwen2.5-Coder-0.5B-Instruct. Both sides answer the same
tokens of a counting question greedily in float32 with the model's real weights; ours with and
without speculation (`sampler.speculative_tokens`), which changes no token.
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

from r1ci_jax.errors import UserError

PEERS = {"hf": alternate.Peer(environment=".venv-peers-torch", script="hf_stream.py")}
QUESTION = "Count from 1 to 60, one number per line, each followed by a comma."
NEW, CONTEXT, GUESSES = 200, 4096, (0, 3, 7)


@functools.cache
def loaded(directory: str) -> Any:
    """Load the model once."""
    from r1ci_jax.train import load_model

    return load_model.load_published(directory)


@functools.cache
def engine(directory: str, guesses: int) -> Any:
    """Create our engine with one slot and compile it."""
    from r1ci_jax.config import SamplerConfig
    from r1ci_jax.sampling import stop_automaton
    from r1ci_jax.sampling.engine import Engine
    from r1ci_jax.text import protocol

    model = loaded(directory)
    sampler = SamplerConfig(
        slots=1,
        cache_length=CONTEXT,
        chunk_steps=8,
        prefill_buckets=(64, 256),
        prefill_rows=1,
        speculative_tokens=guesses,
    )
    table = stop_automaton.token_table(protocol.stop_machine(), model.tokenizer.token_bytes())
    built = Engine(model.config, sampler, table, stop_token_ids=(), seed=0)
    built.load(model.weights)
    built.warm_up()
    return built


def ours(directory: str, prompt: tuple[int, ...], guesses: int) -> dict[str, Any]:
    """Answer once; return the tokens, the seconds and the decode steps."""
    from r1ci_jax.config import SamplingParams
    from r1ci_jax.sampling.engine import SlotInput

    built = engine(directory, guesses)
    before, began = built.decode_steps, time.perf_counter()
    greedy = SamplingParams(temperature=0.0)
    built.feed(
        [
            SlotInput(
                slot=0, tokens=prompt, position=0, budget=NEW, rollout_id=(0, 0), sampling=greedy
            )
        ]
    )
    tokens: list[int] = []
    while outputs := built.decode():
        tokens += outputs[0].tokens
    seconds = time.perf_counter() - began
    built.load(loaded(directory).weights)  # forgets the prompt
    return {"tokens": tokens, "seconds": seconds, "steps": built.decode_steps - before}


def measure(directory: str, rounds: int) -> dict[str, Any]:
    """Return tokens per second of each side, and ours over Hugging Face's."""
    from r1ci_jax.text import chatml

    tokenizer = loaded(directory).tokenizer
    prompt = tuple(chatml.prompt_ids(tokenizer, QUESTION))
    request = {"directory": directory, "tokens": prompt, "new": NEW}
    for guesses in GUESSES:
        ours(directory, prompt, guesses)
    report: dict[str, Any] = {"host": alternate.host(), "prompt_tokens": len(prompt), "new": NEW}
    answers: dict[str, list[Mapping[str, Any]]] = {}
    with alternate.opened(lambda _: {}, PEERS) as sides:
        hf = sides["hf"]
        for _ in range(rounds):
            if hf is not None:
                answers.setdefault("hf", []).append(hf(request))
            for guesses in GUESSES:
                found = ours(directory, prompt, guesses)
                answers.setdefault(f"ours_{guesses}_guesses", []).append(found)
    for side, found in answers.items():
        rates = [len(each["tokens"]) / each["seconds"] for each in found]
        report[f"tokens_per_s_{side}"] = statistics.median(rates)
        report[f"steps_{side}"] = found[-1].get("steps")
    texts = {tuple(found[-1]["tokens"]) for found in answers.values()}
    report["all_sides_say_the_same"] = len(texts) == 1
    if "hf" in answers:
        best = max(GUESSES, key=lambda n: report[f"tokens_per_s_ours_{n}_guesses"])
        for guesses in (0, best):
            rate = report[f"tokens_per_s_ours_{guesses}_guesses"]
            report[f"ratio_hf_stream_{guesses}_guesses"] = rate / report["tokens_per_s_hf"]
    return report


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")
    args = parser.parse_args()
    try:
        alternate.bind_to_cores()
        report = measure(args.directory, args.rounds)
    except UserError as error:
        print(f"benchmarks/one_stream.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=None if args.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
