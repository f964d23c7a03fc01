"""`python benchmarks/refill.py RUN [--model NAME] [--json]` measures what refilling costs.

A GRPO step with `grpo.signal.refill_rounds` learns only while it samples which groups it has to
replace. Were that free, its trajectories would take as long as if all of them had been asked for
from the beginning. Here they are sampled both ways in turn, by the same engine with the weights of
a finished run, and the tokens of both are compared. What is left of the ratio above 1 is the time
in which slots are free, or work for groups that are dropped, because a group that must be replaced
is not known yet.
"""

import argparse
import collections
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from r1ci_jax.config import SamplingParams
from r1ci_jax.data import batching, datasets
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.refill import Refill
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.tasks.base import Example
from r1ci_jax.tools.model_evaluation import evaluated_model
from r1ci_jax.tools.model_evaluation.evaluated_model import EvaluatedModel
from r1ci_jax.tools.model_evaluation.evaluation_settings import Choices


class Clock:
    """Counts the chunks of a run, and its seconds."""

    def __init__(self) -> None:
        self.chunks = 0
        self.seconds = 0.0

    def time(self, run: Callable[[Callable[[int], None]], list[Trajectory]]) -> list[Trajectory]:
        """Call `run` with what it calls after each chunk."""

        def on_done(_: int) -> None:
            self.chunks += 1

        begin = time.perf_counter()
        found = run(on_done)
        self.seconds += time.perf_counter() - begin
        return found


def measure(run: RunDir, model: str, args: argparse.Namespace) -> dict[str, Any]:
    """Sample `args.steps` steps both ways."""
    chosen = run.config["experiment"]["dataset"]["tasks"]
    evaluated = EvaluatedModel(str(run.path), run, model)
    settings = evaluated.settings(Choices(tasks=tuple(chosen)))
    examples = datasets.load_examples(run.data, chosen, "grpo")
    questions = iter(batching.Rows(batching.prompt_batches(examples, args.groups, seed=0)))
    with Sandbox(settings.sandbox) as sandbox:
        runner = evaluated_model.make_runner(evaluated.load(settings), settings, sandbox)
        runner.warm_up()
        steps = [_step(runner, questions, args) for _ in range(args.steps + 1)][1:]
    sums = {key: sum(step[key] for step in steps) for key in steps[0]}
    ratios = [step["seconds_refilled"] / step["seconds_known"] for step in steps]
    return {
        **sums,
        "rollouts_without_refill": args.steps * args.groups * args.rollouts,
        "chunk_ratio": sums["chunks_refilled"] / sums["chunks_known"],
        "ratio": statistics.median(ratios),
        "host": {"load_average": os.getloadavg()[0]},
    }


def _step(
    runner: Runner, questions: Iterator[Example], args: argparse.Namespace
) -> collections.Counter[str]:
    requests: list[Request] = []

    def make_group(group_id: int, question: Example) -> list[Request]:
        made = [
            Request(
                example=question,
                agent=agents.CodeAgent(),
                rollout_id=RolloutId(group_id, index),
                sampling=SamplingParams(temperature=1.0),
            )
            for index in range(args.rollouts)
        ]
        requests.extend(made)
        return made

    refill = Refill(
        questions,
        make_group,
        lambda group: len({each.correct for each in group}) == 2,
        first_id=0,
        num_groups=args.groups,
        rounds=args.rounds,
    )
    start_early = refill.start_early if args.start_early else None
    refilled, known = Clock(), Clock()
    found = refilled.time(
        lambda on: runner.run_extended(
            refill.first(), refill.extend, start_early=start_early, on_done=on
        )
    )
    dropped = len(requests) - len(found)
    del requests[len(found) :]
    again = known.time(lambda on: runner.run(requests, on_done=on))
    if [each.tokens for each in found] != [each.tokens for each in again]:
        raise UserError("the two ways sampled other tokens")
    return collections.Counter(
        {
            "rollouts": len(found),
            "dropped": dropped,
            "tokens": sum(sum(each.sampled) for each in found),
            "chunks_refilled": refilled.chunks,
            "chunks_known": known.chunks,
            "seconds_refilled": refilled.seconds,
            "seconds_known": known.seconds,
        }
    )


def table(report: dict[str, Any]) -> str:
    """Write the report for reading."""
    return (
        f"{report['rollouts']} rollouts ({report['rollouts_without_refill']} without refill), "
        f"{report['tokens']} tokens; {report['dropped']} more were started early and dropped\n"
        f"refilled: {report['chunks_refilled']} chunks, {report['seconds_refilled']:.1f} s\n"
        f"all known from the beginning: {report['chunks_known']} chunks, "
        f"{report['seconds_known']:.1f} s\n"
        f"ratio of chunks {report['chunk_ratio']:.3f}, of seconds {report['ratio']:.3f} (median)"
    )


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="directory of a finished run")
    parser.add_argument("--model", default="sft", help="of the run; default sft")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--steps", type=int, default=8, help="GRPO steps that are sampled")
    parser.add_argument("--groups", type=int, default=16, help="that a step wants")
    parser.add_argument("--rollouts", type=int, default=8, help="of a group")
    parser.add_argument(
        "--start-early",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="start groups in free slots before they are asked for",
    )
    parser.add_argument("--rounds", type=int, default=3, help="of refilling")
    args = parser.parse_args()
    try:
        report = measure(RunDir.view(args.run), args.model, args)
    except UserError as error:
        print(f"benchmarks/refill.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
