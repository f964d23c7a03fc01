"""`python benchmarks/grpo_step.py [--json]` measures time and memory of a full GRPO step.

A step has four prompts of 64 tokens, four completions of 64 new tokens each, rewards,
log-probabilities under a reference model and one update of all 16 rows. The model has
SmolLM2-135M's shape with random float32 weights and runs on two cores. The peers are google-tunix's
GRPOLearner and TRL's GRPOTrainer. No token ends a completion. The sides run one after the other,
each in a separate process: the largest takes 12 GiB.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import alternate

from r1ci_jax.errors import UserError

OURS = alternate.ROOT / "benchmarks" / "grpo_ours.py"
PEERS = {
    "tunix": alternate.Peer(environment=".venv-peers-tunix", script="tunix_grpo.py"),
    "trl": alternate.Peer(environment=".venv-peers-torch", script="trl_grpo.py"),
}
REQUEST = {"prompts": 4, "completions": 4, "prompt": 64, "new": 64}
FIGURES = ("step_seconds", "peak_bytes")
PARTS = ("sampling_seconds", "update_seconds")
"""Metrics of our own step."""
GIB = 2**30


def measure(rounds: int) -> dict[str, Any]:
    """Return medians and ratios under flat keys, and every answer under `rounds`."""
    report: dict[str, Any] = {"host": alternate.host(), **REQUEST}
    ours = [sys.executable, str(OURS)]
    answers = alternate.ask_alone({alternate.OURS: ours, **PEERS}, REQUEST, rounds)
    report["rounds"] = answers
    for side in answers:
        for key in FIGURES:
            report[f"{key}_{side}"] = alternate.median(answers, side, key)
    for key in PARTS:
        report[f"{key}_ours"] = alternate.median(answers, alternate.OURS, key)
    for peer in PEERS:
        report[f"ratio_{peer}"] = alternate.times_faster(answers, peer, "step_seconds")
    report["host"]["load_average_after"] = alternate.host()["load_average"]
    return report


def table(report: Mapping[str, Any]) -> str:
    """Format the report as text, with a line per side."""
    lines = [f"{'':>7}{'seconds':>9}{'ratio':>9}{'GiB':>9}   (ratio: theirs/ours)"]
    for side in (alternate.OURS, *PEERS):
        seconds = report[f"step_seconds_{side}"]
        if seconds is None:
            lines.append(f"{side:>7}   absent")
            continue
        ratio = 1.0 if side == alternate.OURS else report[f"ratio_{side}"]
        lines.append(
            f"{side:>7}{seconds:9.2f}{ratio:9.2f}{report[f'peak_bytes_{side}'] / GIB:9.2f}"
        )
    sampling, update = (report[f"{key}_ours"] for key in PARTS)
    return "\n".join([*lines, f"   ours: sampling {sampling:.2f} s, update {update:.2f} s"])


def main() -> int:
    """Measure, print the report and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")
    args = parser.parse_args()
    try:
        alternate.bind_to_cores()
        report = measure(args.rounds)
    except UserError as error:
        print(f"benchmarks/grpo_step.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
