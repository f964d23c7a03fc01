"""BIG-Bench-Hard: 27 tasks of published questions, scored by rules."""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any, Final, override

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader
from r1ci_jax.tasks import answers, published_files, published_task
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.bbh import bbh_files, bbh_flaws
from r1ci_jax.tasks.bbh.bbh_rules import RULES, option_key
from r1ci_jax.tasks.published_task import Contents, Dropped, Item

_PREFIX = "bbh_"
NAMES: Final = tuple(_PREFIX + name for name in bbh_files.PUBLISHED)

_OPTIONS = re.compile(r"\nOptions:\n(?=\()")
_OPTION = re.compile(r"\(([A-Z])\) (.+)")
_TITLES = {"movie_recommendation": 4}
"""Tasks with a fixed number of options; a longer list has titles split in two at their comma."""


class BigBenchHard(published_task.PublishedTask):
    """One of the 27 tasks."""

    suite = "bbh"

    def __init__(self, name: str, data: pathlib.Path | None = None) -> None:
        """Make the task of that name, from `NAMES`."""
        super().__init__(data)
        self.name = name
        self.file = name.removeprefix(_PREFIX)
        """The name of the published file, without its extension."""
        published = bbh_files.PUBLISHED[self.file]
        self.kind = published.kind
        self._rule = RULES[published.rule]
        self.answer_format = self._rule.answer_format
        self.marks_matter = published.rule == "brackets"

    @override
    def read(self, data: pathlib.Path) -> Contents:
        remote = bbh_files.remote(self.file)
        return self.parse(published_files.read(remote.path, data, sha256=remote.sha256))

    def parse(self, content: bytes) -> Contents:
        """Parse the items of a file's content."""
        items: list[Item] = []
        dropped: list[Dropped] = []
        for number, row in enumerate(_parse_records(self.file, content)):
            try:
                items.append(self._item(number, row))
            except ValueError as flaw:
                dropped.append(Dropped(task=self.name, index=number, reason=str(flaw)))
        return published_task.deduplicate(self.name, items, dropped)

    def _item(self, number: int, row: Any) -> Item:
        """Make the item; raise ValueError with the reason why it cannot be used."""
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) and row[key].strip() for key in ("input", "target")
        ):
            raise ValueError("no text under input or target")
        question, target = row["input"].strip(), row["target"].strip()
        options = self._options(question) if self._rule is RULES["option"] else []
        # An option's target is its letter; a target in words means that the list was split wrongly.
        if self._rule.answer(target, options) is None or (options and target[0] != "("):
            raise ValueError(f"its target {target!r} is not {self.answer_format.partition(':')[0]}")
        answer = options[ord(target[1]) - ord("A")] if options else target
        if (reason := bbh_flaws.flaw(self.file, question, answer)) is not None:
            raise ValueError(reason)
        return Item(
            number=number,
            question=f"{question}\n\n{self._rule.sentence}",
            answer=target,
            metadata={"options": options},
        )

    def _options(self, question: str) -> list[str]:
        _, *lists = _OPTIONS.split(question)
        lines = lists[0].split("\n") if len(lists) == 1 else []
        found = [_OPTION.fullmatch(line) for line in lines]
        options = [match[2].strip() for match in found if match is not None]
        letters = "".join(match[1] for match in found if match is not None)
        if (
            not lines
            or len(options) != len(lines)
            or not "ABCDEFGHIJKLMNOPQRSTUVWXYZ".startswith(letters)
        ):
            raise ValueError("its options are not lettered from (A), one a line")
        if len(options) < 2:
            raise ValueError("it has only one option")
        if len({option_key(option) for option in options}) < len(options):
            raise ValueError("two of its options are the same")
        if len(options) > _TITLES.get(self.file, len(options)):
            raise ValueError("an option is split at its comma")
        return options

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        options = json.loads(example.metadata)["options"]
        expected = self._rule.answer(json.loads(example.answer), options)
        found = self._rule.answer(answer_text, options)
        if found is None:
            reason = f"{answers.format_answer(answer_text[:41])} is not {self.answer_format}"
            return Verdict(correct=False, reason=reason)
        if found != expected:
            return Verdict(
                correct=False, reason=f"{answers.format_answer(found)} is not the answer"
            )
        return Verdict(correct=True, reason=f"{answers.format_answer(found)} is the answer")


def make(name: str, data: pathlib.Path | None = None) -> BigBenchHard:
    """Make the task of that name, from `NAMES`."""
    return BigBenchHard(name, data)


def dropped_items(data: pathlib.Path | None = None) -> list[Dropped]:
    """Return every item of the 27 files that is never used, with the reason."""
    return [drop for name in NAMES for drop in make(name, data).dropped_items()]


def remotes() -> Iterator[published_files.Remote]:
    """Return the files to fetch."""
    return (bbh_files.remote(name) for name in bbh_files.PUBLISHED)


def _parse_records(file: str, content: bytes) -> list[Any]:
    try:
        rows = json_reader.parse(content, file)["examples"]
    except (ValueError, KeyError, TypeError):
        rows = None
    if not isinstance(rows, list):
        raise UserError(
            f"{file}.json has no list of examples; delete it and run {published_files.FETCH}"
        )
    return rows
