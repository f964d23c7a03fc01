"""trackio: one run in the local project "r1ci", whose metrics are `stage/metric`.

`trackio show --project r1ci` shows it. trackio's own environment variables hold: TRACKIO_DIR is the
place of its database, TRACKIO_SPACE_ID a Hugging Face Space in its stead.
"""

import contextlib
import os
import sys
from typing import Any, override

import trackio  # pyright: ignore[reportMissingImports]  # an extra that tests do without
from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]  # same

from r1ci_jax.runtime.metrics import Record
from r1ci_jax.runtime.sinks.metric_sinks import RunFacts, points
from r1ci_jax.runtime.sinks.sent_records import LineSink, SentRecords

PROJECT = "r1ci"
REMOTE_VARIABLES = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Environment: each moves the database to another machine."""


def open_sink(facts: RunFacts) -> "TrackioSink":
    """Start the run, or resume the one with the same name."""
    sent = SentRecords(facts.path / "sinks" / "trackio.json")
    name = f"{facts.name}-{sent.run_id}"  # trackio knows a run by its name
    with contextlib.redirect_stdout(sys.stderr):  # it introduces itself there
        run = trackio.init(
            project=PROJECT,
            name=name,
            config=facts.config,
            resume="allow",
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
    if not any(os.environ.get(variable) for variable in REMOTE_VARIABLES):
        # A killed process loses its last half second, so the database knows best.
        stored = SQLiteStorage.get_max_step_for_run(PROJECT, name)
        sent.sent = 0 if stored is None else stored + 1
    return TrackioSink(run, sent)


class TrackioSink(LineSink):
    """Logs each record that the run does not have yet."""

    def __init__(self, run: Any, sent: SentRecords) -> None:
        super().__init__(sent)
        self._run = run

    @override
    def send(self, line: int, record: Record) -> None:
        stage = record["stage"]
        values = {f"{stage}/{name}": value for name, value in points(record).items()}
        self._run.log({f"{stage}/step": record["step"], **values}, step=line)

    def close(self) -> None:
        """Wait until everything is stored."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()
