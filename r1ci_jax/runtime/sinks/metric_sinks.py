"""Open the sinks of a run: TensorBoard, Weights & Biases, trackio.

metrics.jsonl stays the source of truth. A sink follows it: opened late or after a kill, it first
gets all records that are there, so that its curves have each step once.
"""

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from r1ci_jax.config import SinkName
from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra
from r1ci_jax.runtime import hosts, metrics
from r1ci_jax.runtime.metrics import Record


class RunFacts(NamedTuple):
    """What a sink is told about its run."""

    path: Path
    """Run directory, in which the sink keeps its files."""
    name: str
    config: dict[str, Any]
    """The experiment as JSON values."""


class MetricSink(metrics.Follower, Protocol):
    """A follower of metrics.jsonl that is closed at the end."""

    def close(self) -> None:
        """Write what is left."""
        ...


class _Kind(NamedTuple):
    module: str
    """Module with a function `open_sink(facts: RunFacts) -> MetricSink`."""
    package: str


KINDS: Final[dict[SinkName, _Kind]] = {
    "tensorboard": _Kind("r1ci_jax.runtime.sinks.tensorboard_sink", "tensorboardX"),
    "wandb": _Kind("r1ci_jax.runtime.sinks.wandb_sink", "wandb"),
    "trackio": _Kind("r1ci_jax.runtime.sinks.trackio_sink", "trackio"),
}
"""An extra of setup.py by the name of each sink installs its package."""


def require_installed(names: Sequence[SinkName]) -> None:
    """Refuse a run whose sinks are not installed.

    Raises:
        UserError: a package is missing.
    """
    for name in names:
        package = KINDS[name].package
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"the sink {name} needs the package {package}; install it: "
                f"{install_extra(name)}, or leave {name} out of --config.sinks"
            )


@contextlib.contextmanager
def opened(
    names: Sequence[SinkName], facts: RunFacts, metrics_path: Path
) -> Iterator[tuple[MetricSink, ...]]:
    """Open the sinks and give them the records that there are; hosts but the first have none."""
    if not hosts.is_first():
        yield ()
        return
    require_installed(names)
    records = metrics.read(metrics_path) if names else []
    with contextlib.ExitStack() as stack:
        sinks: list[MetricSink] = []
        for name in names:
            sink = importlib.import_module(KINDS[name].module).open_sink(facts)
            stack.callback(sink.close)
            sink.follow(records)
            sinks.append(sink)
        yield tuple(sinks)


def points(record: Record) -> dict[str, float]:
    """Return the metrics of a record that have a value; null is no point."""
    columns = ("stage", "step", "time", "non_finite")
    return {name: x for name, x in record.items() if name not in columns and x is not None}
