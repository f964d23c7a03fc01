"""Note how much of metrics.jsonl a service has, for services that take nothing back.

The record of line n is step n of the service. A stage that resumes repeats records, and they get
the same lines: what a service has is not sent again.
"""

import abc
import uuid
from collections.abc import Sequence
from pathlib import Path

from r1ci_jax.runtime import atomic_files, json_reader
from r1ci_jax.runtime.metrics import Record


class SentRecords:
    """The note in RUN/sinks/NAME.json: the run's id at the service, and the lines sent to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        noted = json_reader.read(path) if path.exists() else {}
        self.run_id: str = noted.get("run_id") or uuid.uuid4().hex[:12]
        """Name of the run at the service, the same after each resume."""
        self.sent: int = noted.get("sent", 0)
        """Lines that the service has; a sink sets it if its service knows better."""
        self.sent_before: int = noted.get("sent_before", 0)
        """Lines that it had when the process began that last sent some."""
        self._begun: int | None = None
        self._line = 0

    def take(self, records: Sequence[Record], *, restart: bool = False) -> list[tuple[int, Record]]:
        """Return those of the next records that must be sent, with their lines, from 0.

        The note is written first: a kill between it and the sending loses these lines at a service
        that cannot tell what it has, and no kill sends a line twice. With `restart` the first
        record is line 0.
        """
        first = 0 if restart else self._line
        self._line = first + len(records)
        new = [(line, record) for line, record in enumerate(records, first) if line >= self.sent]
        if new:
            self._begun = self.sent if self._begun is None else self._begun
            self.sent = self._line
            note = {"run_id": self.run_id, "sent": self.sent, "sent_before": self._begun}
            self._path.parent.mkdir(exist_ok=True)
            atomic_files.write_json(self._path, note)
        return new


class LineSink(abc.ABC):
    """A sink whose service takes each record once, as the line that it has in metrics.jsonl."""

    def __init__(self, sent: SentRecords) -> None:
        self._sent = sent

    def follow(self, records: Sequence[Record]) -> None:
        """Send those of all records that were never sent."""
        for line, record in self._sent.take(records, restart=True):
            self.send(line, record)

    def write(self, record: Record) -> None:
        """Send the next record, unless the service has it."""
        for line, new in self._sent.take([record]):
            self.send(line, new)

    @abc.abstractmethod
    def send(self, line: int, record: Record) -> None:
        """Send one record as step `line`."""
