"""`python benchmarks/diagnostics.py [--json]` measures what the diagnostics of a step cost.

A step here is the update alone, without the sampling that takes most of a real one: the toy model
of `make demo`, its 128 trajectories, each with two scripts, of which half test a result. So the
ratio is an upper bound of that of a whole step. Both sides run in processes of their own and are
asked in turn; the side without has `grpo.diagnostics = "none"`, and a program without the sums by
row.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import alternate
from peers import wire

from r1ci_jax.errors import UserError

SIDES = ("with", "without")
TASKS = ("toy_arithmetic", "toy_letters", "toy_sorting", "toy_search")
GROUPS, ROLLOUTS = 16, 8
TURNS = (
    "I multiply.\n```python\nprint({a} * {b})\n```",
    "\nCode Execution Results:\n{product}\n",
    "The quotient must be whole.\n```python\nprint({product} % {a} == 0)\n```",
    "\nCode Execution Results:\nTrue\n",
    "<<<{product}>>>",
)
OTHER = "Now the sum.\n```python\nnumbers = [{a}, {b}]\nprint(sum(numbers))\n```"


def make_trajectories(tokenizer: Any) -> list[Any]:
    """Make a batch by hand; its log-probabilities are arbitrary."""
    from r1ci_jax.rollout.trajectory import CodeCall, RolloutId, StopReason, Trajectory
    from r1ci_jax.sandbox import ExecResult, Status

    def call(text: str, printed: str) -> CodeCall:
        code = text.partition("```python\n")[2].removesuffix("```")
        result = ExecResult(status=Status.OK, stdout=printed.partition(":\n")[2])
        return CodeCall(code=code, result=result)

    made: list[Any] = []
    for number in range(GROUPS * ROLLOUTS):
        group, index = divmod(number, ROLLOUTS)
        numbers = {"a": 100 + number, "b": 7 + group, "product": (100 + number) * (7 + group)}
        first, shown, check, verdict, answer = (text.format(**numbers) for text in TURNS)
        if index % 2:
            check, verdict = OTHER.format(**numbers), f"\nCode Execution Results:\n{107 + number}\n"
        parts = [("Question? " * 8, False), (first, True), (shown, False), (check, True)]
        parts += [(verdict, False), (answer, True)]
        encoded = [(tokenizer.encode(text), sampled) for text, sampled in parts]
        tokens = [token for ids, _ in encoded for token in ids]
        sampled = [chosen for ids, chosen in encoded for _ in ids]
        made.append(
            Trajectory(
                example_id=f"question/{group}",
                task=TASKS[group % len(TASKS)],
                question="Question?",
                agent="code_agent",
                rollout_id=RolloutId(group, index),
                tokens=tuple(tokens),
                sampled=tuple(sampled),
                logprobs=tuple(-6.2 if chosen else 0.0 for chosen in sampled),
                code_calls=(call(first, shown), call(check, verdict)),
                stop=StopReason.ANSWER,
                answer=None,
                correct=index % 2 == 0,
                reward=float(index % 2),
            )
        )
    return made


class Updater:
    """One side: the state of a training that updates on the same batch again and again."""

    def __init__(self, side: str) -> None:
        import jax
        from flax import nnx

        from r1ci_jax.config import GrpoConfig
        from r1ci_jax.model import presets, qwen2
        from r1ci_jax.rollout.diagnostics.step_log import StepLog
        from r1ci_jax.text import tokenizer as tokenizers
        from r1ci_jax.train import grpo_step, losses, microbatching, optimizer, train_state
        from r1ci_jax.train.policy import Policy, Weights

        if side == "without":
            losses.grpo_row_sums = lambda *_, **__: ()
        self.config = GrpoConfig(
            prompts_per_step=GROUPS,
            rollouts_per_prompt=ROLLOUTS,
            sequence_lengths=(96, 160, 256),
            microbatch_tokens=64 * 160,
            diagnostics="all" if side == "with" else "none",
        )
        architecture = presets.get("toy")
        texts = [text.format(a=100, b=7, product=700) for text in (*TURNS, OTHER)]
        self.tokenizer = tokenizers.train_byte_bpe(texts * 3, architecture.vocab_size)
        make = nnx.jit(lambda key: qwen2.Qwen2(architecture, rngs=nnx.Rngs(key)))
        graphdef, params = nnx.split(make(jax.random.key(0)))
        self.policy = Policy(architecture, graphdef, self.tokenizer.vocab_size)
        self.reference = Weights(jax.tree.map(jax.numpy.copy, params))
        schedule = optimizer.constant_schedule(1e-6)
        self.tx = optimizer.make_optimizer(schedule, clip_norm=1.0)
        self.state = train_state.create_state(params, self.tx)
        self.trajectories = make_trajectories(self.tokenizer)
        self.grpo_step = grpo_step
        self.microbatching = microbatching
        self.place = tempfile.TemporaryDirectory()
        directory = Path(self.place.name)
        self.diagnostics_path = directory / "diagnostics.jsonl"
        self.log = StepLog(
            "grpo",
            directory / "trajectories.jsonl",
            self.diagnostics_path,
            tokenizer=self.tokenizer,
            config=self.config,
            find_grades=dict,
        )
        self.steps = 0
        for _ in range(3):
            self.step()

    def step(self) -> dict[str, float]:
        """Update, describe and write; return the seconds of the step."""
        began = time.perf_counter()
        config, trajectories = self.config, self.trajectories
        advantages = self.grpo_step.compute_advantages(trajectories, config)
        minibatches = self.microbatching.make_minibatches(
            trajectories, advantages, config, self.tokenizer.pad_id
        )
        self.state, _, rows = self.grpo_step.update(
            self.state, None, self.reference, minibatches, self.policy, config, self.tx
        )
        updated = time.perf_counter()
        totals, records = self.log.describe(trajectories, trajectories, rows)
        self.steps += 1
        self.log.write(self.steps, trajectories, records)
        ended = time.perf_counter()
        return {
            "step_seconds": ended - began,
            "host_seconds": ended - updated,
            "self_check_rate": totals.get("tool/self_check_rate", 0.0),
        }

    def bytes_per_step(self) -> float:
        """Return the growth of diagnostics.jsonl."""
        path = self.diagnostics_path
        return path.stat().st_size / self.steps if path.exists() else 0.0


def serve(side: str) -> None:
    """Answer each request with the fastest of some steps."""
    updater = Updater(side)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        steps = [updater.step() for _ in range(request["steps"])]
        best = min(steps, key=lambda step: step["step_seconds"])
        return {**best, "bytes_per_step": updater.bytes_per_step()}

    wire.serve(answer, ("jax",))


def measure(rounds: int, steps: int) -> dict[str, Any]:
    """Return medians of both sides and their ratio."""
    report: dict[str, Any] = {"host": alternate.host()}
    me = [sys.executable, __file__, "--serve"]
    with (
        alternate.Process("with", [*me, "with"]) as left,
        alternate.Process("without", [*me, "without"]) as right,
    ):
        sides = {"with": left.ask, "without": right.ask}
        answers = alternate.ask_in_turn(sides, {"steps": steps}, rounds)
    report["rounds"] = answers
    for side in SIDES:
        report[f"step_seconds_{side}"] = alternate.median(answers, side, "step_seconds")
    report["host_seconds"] = alternate.median(answers, "with", "host_seconds")
    report["bytes_per_step"] = alternate.median(answers, "with", "bytes_per_step")
    report["self_check_rate"] = alternate.median(answers, "with", "self_check_rate")
    report["ratio_without"] = report["step_seconds_with"] / report["step_seconds_without"]
    report["host"]["load_average_after"] = alternate.host()["load_average"]
    return report


def table(report: Mapping[str, Any]) -> str:
    """Format the report as text."""
    with_, without = (1000 * report[f"step_seconds_{side}"] for side in SIDES)
    return (
        f"update with diagnostics {with_:.1f} ms, without {without:.1f} ms: "
        f"{report['ratio_without']:.3f} times\n"
        f"on the host {1000 * report['host_seconds']:.1f} ms, "
        f"{report['bytes_per_step'] / 1000:.1f} kB a step"
    )


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is taken")
    parser.add_argument("--steps", type=int, default=5, help="per round, the fastest counts")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return 0
    try:
        alternate.bind_to_cores()
        report = measure(args.rounds, args.steps)
    except UserError as error:
        print(f"benchmarks/diagnostics.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
