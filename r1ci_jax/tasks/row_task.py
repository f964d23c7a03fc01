"""Base class of tasks whose published file holds rows: an item per row, or the reason for none."""

import abc
import pathlib
from typing import Any, ClassVar, override

from r1ci_jax.tasks import hub_files, published_files, published_task
from r1ci_jax.tasks.published_task import Contents, Dropped, Item


class RowTask(published_task.PublishedTask):
    """A task of one file of comma-separated values or JSON lines."""

    fetch_command: ClassVar[str] = published_files.FETCH
    """The command that downloads the file, for messages."""

    @property
    @abc.abstractmethod
    def path(self) -> str:
        """Place of the file in the data folder."""

    @abc.abstractmethod
    def item(self, number: int, row: dict[str, Any]) -> Item:
        """Make the item of a row; raise ValueError with the reason why it cannot be used."""

    @override
    def read(self, data: pathlib.Path) -> Contents:
        content = published_files.read(self.path, data, command=self.fetch_command)
        items: list[Item] = []
        dropped: list[Dropped] = []
        for number, row in enumerate(hub_files.parse_rows(content, self.path)):
            try:
                items.append(self.item(number, row))
            except ValueError as flaw:
                dropped.append(Dropped(task=self.name, index=number, reason=str(flaw)))
        return published_task.deduplicate(self.name, items, dropped)
