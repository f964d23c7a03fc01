"""TensorBoard: event files under RUN/tensorboard/, one folder per stage.

A stage is a run in TensorBoard's words, so that arms lie over each other in one chart.
"""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from r1ci_jax.runtime.metrics import Record
from r1ci_jax.runtime.sinks.metric_sinks import RunFacts, points

FOLDER = "tensorboard"


def open_sink(facts: RunFacts) -> "TensorBoardSink":
    """Open the sink of a run; what an earlier process wrote is written again by `follow`."""
    folder = facts.path / FOLDER
    if folder.exists():
        shutil.rmtree(folder)
    return TensorBoardSink(folder)


class TensorBoardSink:
    """Writes one event per record, at once: a killed process leaves at most a half last one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, EventsWriter] = {}
        self._counts: dict[str, int] = {}
        """Records in the event file of each stage."""

    def follow(self, records: Sequence[Record]) -> None:
        """Write the stages anew that have other records; an event cannot be taken back."""
        by_stage: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_stage[record["stage"]].append(record)
        for stage in self._counts.keys() | by_stage.keys():
            if self._counts.get(stage, 0) != len(by_stage[stage]):
                self._remove(stage)
                for record in by_stage[stage]:
                    self._add(record)
        self._flush()

    def write(self, record: Record) -> None:
        """Write the event of one record."""
        self._add(record)
        self._flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _add(self, record: Record) -> None:
        stage = record["stage"]
        if stage not in self._writers:
            place = self.folder / stage
            place.mkdir(parents=True, exist_ok=True)
            self._writers[stage] = EventsWriter(str(place / "events"))
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)  # pyright: ignore[reportAttributeAccessIssue]  # generated
            for name, value in points(record).items()
        ]
        self._writers[stage].write_event(
            event_pb2.Event(  # pyright: ignore[reportAttributeAccessIssue]  # generated
                wall_time=record["time"],
                step=record["step"],
                summary=summary_pb2.Summary(value=values),  # pyright: ignore[reportAttributeAccessIssue]  # generated
            )
        )
        self._counts[stage] = self._counts.get(stage, 0) + 1

    def _remove(self, stage: str) -> None:
        if stage in self._writers:
            self._writers.pop(stage).close()
            shutil.rmtree(self.folder / stage)
        self._counts.pop(stage, None)

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()
