"""Tables of the report: what training batches were like by suite, potential group and task.

diagnostics.jsonl of a long run is large, so it is read record by record, and only the last steps of
each training are kept.
"""

import collections
from collections.abc import Callable, Sequence
from pathlib import Path

from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.metrics import Record

STEPS = 10
"""Steps that a table averages over."""

_COLUMNS = (
    ("accuracy", "accuracy", "valid"),
    ("signal", "group/signal_fraction", "groups"),
    ("expected signal", "group/expected_signal_fraction", "groups"),
    ("self-checks", "tool/self_check_rate", "valid"),
    ("ended with an answer", "stop/answer", "trajectories"),
    ("code calls", "tool/calls_per_traj", "valid"),
    ("tokens", "len/tokens", "valid"),
    ("entropy", "optim/entropy", "tokens"),
)
"""Header, metric, and the count that weighs it."""

HEADERS = ("part", "training", "trajectories", *(header for header, _, _ in _COLUMNS))

_REQUIRED = {"stage": str, "step": int, "by": str, "name": str}


def read_tables(
    path: Path, training_name: Callable[[str], str]
) -> dict[str, list[tuple[str, ...]]]:
    """Return the rows of a table for each kind of part, in the order of the file, tasks last."""
    last: dict[str, dict[int, list[Record]]] = collections.defaultdict(dict)
    for record in metrics.stream(path, required=_REQUIRED):
        steps = last[record["stage"]]
        steps.setdefault(record["step"], []).append(record)
        if len(steps) > STEPS:
            del steps[min(steps)]
    parts: dict[str, dict[tuple[str, str], list[Record]]] = collections.defaultdict(dict)
    for stage, steps in last.items():
        for record in (record for step in sorted(steps) for record in steps[step]):
            place = record["name"], stage
            parts[record["by"]].setdefault(place, []).append(record)
    return {
        kind: [
            (name, training_name(stage), *_cells(parts[kind][name, stage]))
            for name, stage in sorted(parts[kind])
        ]
        for kind in sorted(parts, key=lambda kind: kind == "task")
    }


def _cells(records: Sequence[Record]) -> list[str]:
    count = sum(record.get("trajectories", 0) for record in records)
    return [str(count), *(_mean(records, name, weight) for _, name, weight in _COLUMNS)]


def _mean(records: Sequence[Record], name: str, weight: str) -> str:
    having = [record for record in records if record.get(name) is not None]
    total = sum(record.get(weight, 0) for record in having)
    if not total:
        return "-"
    return f"{sum(record[name] * record.get(weight, 0) for record in having) / total:.3g}"
