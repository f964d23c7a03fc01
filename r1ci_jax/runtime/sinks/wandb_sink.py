"""Weights & Biases: one run, whose metrics are `stage/metric` over `stage/step`.

wandb's own environment variables hold: WANDB_MODE=offline keeps everything in RUN/wandb/, to be
sent later by `wandb sync`; WANDB_PROJECT names the project, "r1ci" without it.
"""

import os
import shutil
from pathlib import Path
from typing import override

import wandb
import wandb.errors

from r1ci_jax.errors import UserError
from r1ci_jax.runtime.metrics import Record
from r1ci_jax.runtime.sinks.metric_sinks import RunFacts, points
from r1ci_jax.runtime.sinks.sent_records import LineSink, SentRecords

PROJECT = "r1ci"


def open_sink(facts: RunFacts) -> "WandbSink":
    """Start the run, or resume the one with the same id.

    Raises:
        UserError: wandb refuses, for example for want of a key.
    """
    sent = SentRecords(facts.path / "sinks" / "wandb.json")
    if _remove_unsynced(facts.path, sent.run_id):
        sent.sent = sent.sent_before
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=sent.run_id,
            name=os.environ.get("WANDB_NAME", facts.name),
            dir=facts.path,
            config=facts.config,
            resume="allow",
            # The console is ours: progress is redrawn there, and --json must stay alone on it.
            # Quiet: the address of the run, without forty lines of its last values.
            settings=wandb.Settings(console="off", quiet=True),
        )
    except wandb.errors.Error as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the sink wandb: {reason}; set WANDB_API_KEY, or WANDB_MODE=offline"
        ) from error
    if run.resumed:
        sent.sent = run.starting_step  # the server knows best
    return WandbSink(run, sent)


def _remove_unsynced(path: Path, run_id: str) -> bool:
    """Remove the offline files of an earlier process; returns whether there were any.

    One that is killed leaves a file without its last records, and nothing can be added to it. What
    it held is in metrics.jsonl, and is logged again.
    """
    folders = [
        folder
        for folder in path.glob(f"wandb/offline-run-*-{run_id}")
        if not (folder / f"run-{run_id}.wandb.synced").exists()
    ]
    for folder in folders:
        shutil.rmtree(folder)
    return bool(folders)


class WandbSink(LineSink):
    """Logs each record that the run does not have yet."""

    def __init__(self, run: wandb.Run, sent: SentRecords) -> None:
        super().__init__(sent)
        self._run = run
        self._stages: set[str] = set()

    @override
    def send(self, line: int, record: Record) -> None:
        stage = record["stage"]
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        values = {f"{stage}/{name}": value for name, value in points(record).items()}
        # With `commit` the point is shown now, not with the next one.
        self._run.log({f"{stage}/step": record["step"], **values}, step=line, commit=True)

    def close(self) -> None:
        """Wait until everything is sent, or written in offline mode."""
        self._run.finish()
