"""`python benchmarks/data.py --json` measures building, reading and scoring of the questions.

It prints one JSON object on stdout (without --json a few lines) and progress on stderr. The metrics
are described in benchmarks/README.md.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import batching, datasets, question_splits, question_workers
from r1ci_jax.runtime.progress import Progress
from r1ci_jax.tasks import registry

BUILD_SECONDS = 15 * 60
EXAMPLES_PER_SECOND = 20_000
SCORE_SECONDS = 60
GROWTH_BYTES = 16 << 20
"""Memory growth up to this size per epoch counts as zero."""

BATCH = 128
SHOWN = 12
"""List this many of the slowest tasks."""


def main() -> int:
    """Measure and print."""
    args = _arguments()
    wanted = experiments.load_default(args.experiment).dataset
    # Training tasks get a third more than --questions, and test tasks get --questions.
    wanted = dataclasses.replace(
        wanted,
        sft_per_task=max(1, args.questions // 6),
        grpo_per_task=max(1, args.questions // 6),
        eval_per_task=args.questions,
    )
    with _directory(args.data_dir) as data_dir:
        facts: dict[str, Any] = {"host": _host()}
        facts["build"] = _build(wanted, data_dir, args.jobs)
        facts["read"] = _read(wanted, data_dir, args.epochs)
        if args.answers:
            facts["score"] = _score(wanted, data_dir, args.answers)
    facts["bars"] = _bars(facts)
    print(json.dumps(facts) if args.json else json.dumps(facts, indent=1))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="experiments/tasks.py:offline", metavar="EXP")
    parser.add_argument("--questions", type=int, default=300, help="at least so many of each task")
    parser.add_argument("--answers", type=int, default=10_000, help="scored; 0: no scoring")
    parser.add_argument("--epochs", type=int, default=2, help="read at full speed")
    parser.add_argument("--jobs", type=int, help="processes that draw (default: the processors)")
    parser.add_argument("--data-dir", type=Path, help="keep the datasets; one that is there stays")
    parser.add_argument("--json", action="store_true", help="one line")
    return parser.parse_args()


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _host() -> dict[str, Any]:
    return {"processors": len(os.sched_getaffinity(0)), "load_average": os.getloadavg()}


def _build(wanted: DatasetConfig, data_dir: Path, jobs: int | None) -> dict[str, Any]:
    jobs = question_workers.num_processes(len(wanted.tasks), jobs)
    began = time.monotonic()
    with Progress("build", len(wanted.tasks), unit="tasks") as bar:
        drawn = datasets.build_tasks(
            wanted,
            seed=0,
            data_dir=data_dir,
            jobs=jobs,
            report=lambda done, _: bar.update(done),
        )
    return {
        "tasks": len(wanted.tasks),
        "built": len(drawn),
        "questions": len(_all_examples(wanted, data_dir)),
        "jobs": jobs,
        "seconds": round(time.monotonic() - began, 1),
        "drawing_seconds": round(sum(drawn.values()), 1),
        "slowest": _slowest(drawn),
        "bytes": sum(path.stat().st_size for path in data_dir.rglob("*") if path.is_file()),
    }


def _read(wanted: DatasetConfig, data_dir: Path, epochs: int) -> dict[str, Any]:
    source = _all_examples(wanted, data_dir)
    steps = len(source) // BATCH
    batches = batching.prompt_batches(source, BATCH, seed=0)
    memory = [_resident_bytes()]
    rates: list[tuple[float, float]] = []
    # The first epoch opens the files and is not timed.
    for _ in range(epochs + 1):
        began, used = time.perf_counter(), time.process_time()
        for _ in range(steps):
            next(batches)
        rates.append((time.perf_counter() - began, time.process_time() - used))
        memory.append(_resident_bytes())
    read = BATCH * steps
    return {
        "examples": read,
        "per_second": round(max(read / wall for wall, _ in rates[1:])),
        "per_cpu_second": round(max(read / cpu for _, cpu in rates[1:])),
        "memory_bytes": {"before": memory[0], "after_epochs": memory[1:]},
        "last_epoch_growth_bytes": memory[-1] - memory[-2],
    }


def _score(wanted: DatasetConfig, data_dir: Path, answers: int) -> dict[str, Any]:
    """Score golds of the same and of the next question in turn, evenly over the tasks."""
    seconds: dict[str, float] = {}
    right = scored = 0
    with Progress("score", len(wanted.tasks), unit="tasks") as bar:
        for number, name in enumerate(wanted.tasks):
            task = registry.get(name)
            share = (number + 1) * answers // len(wanted.tasks) - scored
            examples = list(datasets.load_examples(data_dir, [name], "eval"))
            pairs = [
                (i // 2 % len(examples), (i // 2 + i % 2) % len(examples)) for i in range(share)
            ]
            texts = [(examples[asked], task.gold(examples[told])) for asked, told in pairs]
            began = time.perf_counter()
            right += sum(task.score(example, text or "0").correct for example, text in texts)
            seconds[name] = time.perf_counter() - began
            scored += share
            bar.update(number + 1)
    return {
        "answers": scored,
        "correct": right,
        "seconds": round(sum(seconds.values()), 1),
        "slowest": _slowest(seconds),
    }


def _bars(facts: dict[str, Any]) -> dict[str, bool]:
    build, read, score = facts["build"], facts["read"], facts.get("score")
    bars = {
        "examples_per_second": read["per_second"] >= EXAMPLES_PER_SECOND,
        "memory_flat": read["last_epoch_growth_bytes"] <= GROWTH_BYTES,
    }
    if build["built"] == build["tasks"]:
        bars["build_seconds"] = build["seconds"] <= BUILD_SECONDS
    if score:
        bars["score_seconds"] = score["seconds"] <= SCORE_SECONDS
    return bars


def _all_examples(wanted: DatasetConfig, data_dir: Path) -> Any:
    return datasets.load_examples(data_dir, wanted.tasks, "+".join(question_splits.SPLITS))


def _slowest(seconds: dict[str, float]) -> dict[str, float]:
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: round(taken, 2) for name, taken in ordered[:SHOWN]}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
