"""GPQA Diamond, AIME 2024 and AIME 2025: the paper's questions unlike its training (Table 4).

Each is one file of the data folder, as published or, of AIME, as JSON lines of its rows:

    ood/gpqa_diamond.csv   columns Question, Correct Answer, Incorrect Answer 1 to 3, ...
    ood/aime_2024.jsonl    fields Problem and Answer, or problem and answer, or question and answer
    ood/aime_2025.jsonl    the same

GPQA's authors ask that its questions never stand in a public place in plain text: the file is
downloaded by each user who accepts their conditions, and a run that was evaluated on it keeps some
of its questions in trajectories.jsonl and report.html, which are then not to be published.
"""

import json
import pathlib
import re
from typing import Any, Final, override

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import answers, base, hub_files, published_files, row_task
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.bbh.bbh_rules import RULES, option_key
from r1ci_jax.tasks.hub_files import Download, HubFile
from r1ci_jax.tasks.published_task import Item

HUB: Final[dict[str, tuple[HubFile, ...]]] = {
    "gpqa_diamond": (
        HubFile(repository="Idavidrein/gpqa", revision="main", file="gpqa_diamond.csv", count=198),
    ),
    "aime_2024": (
        HubFile(
            repository="Maxwell-Jia/AIME_2024",
            revision="main",
            file="aime_2024_problems.parquet",
            count=30,
        ),
    ),
    "aime_2025": tuple(
        HubFile(
            repository="opencompass/AIME2025",
            revision="main",
            file=f"aime2025-{part}.jsonl",
            count=15,
        )
        for part in ("I", "II")
    ),
}
NAMES: Final = tuple(HUB)
FETCH: Final = f"{published_files.FETCH} --ood"

_OPTION: Final = RULES["option"]
_COLUMNS: Final = ("Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3)))
_ANSWER = re.compile(r"\s*([0-9]{1,3})(?:\.0)?(?:\^\{?\\circ\}?)?\s*")
"""Of AIME: up to three digits; a published row has the degree sign of its problem."""


class OodTask(row_task.RowTask):
    """A task of one published file, for evaluation only."""

    suite = "ood"
    split = "test"
    kind = "reasoning"
    fetch_command = FETCH

    @property
    @override
    def path(self) -> str:
        return path(self.name)


class GpqaDiamond(OodTask):
    """Questions of graduate science with four options; the options' order is drawn per question."""

    name = "gpqa_diamond"
    answer_format = _OPTION.answer_format

    @override
    def item(self, number: int, row: dict[str, Any]) -> Item:
        question, options = _text(row.get("Question")), [_text(row.get(key)) for key in _COLUMNS]
        if not question or not all(options):
            raise ValueError(f"no text under Question, {_COLUMNS[0]} or Incorrect Answer 1 to 3")
        options = [" ".join(option.split()) for option in options]
        if len({option_key(option) for option in options}) < len(options):
            raise ValueError("two of its options are the same")
        right = options[0]
        base.example_rng(f"options {question}", 0, 1, 0).shuffle(options)
        listed = "\n".join(
            f"({letter}) {text}" for letter, text in zip("ABCD", options, strict=True)
        )
        return Item(
            number=number,
            question=f"{question}\n\nOptions:\n{listed}\n\n{_OPTION.sentence}",
            answer=f"({'ABCD'[options.index(right)]})",
            metadata={"options": options, "domain": _text(row.get("High-level domain"))},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        options = json.loads(example.metadata)["options"]
        expected, found = json.loads(example.answer), _OPTION.answer(answer_text, options)
        if found is None:
            reason = f"{answers.format_answer(answer_text[:41])} is not {self.answer_format}"
            return Verdict(correct=False, reason=reason)
        is_right = found == expected
        return Verdict(correct=is_right, reason=f"{found} is {'' if is_right else 'not '}right")


class Aime(OodTask):
    """Problems of the American Invitational Mathematics Examination: an integer from 0 to 999."""

    answer_format = "an integer from 0 to 999"

    def __init__(self, name: str, data: pathlib.Path | None = None) -> None:
        """Make the task `aime_2024` or `aime_2025`."""
        super().__init__(data)
        self.name = name

    @override
    def item(self, number: int, row: dict[str, Any]) -> Item:
        fields = {key.lower(): value for key, value in row.items()}
        problem = _text(fields.get("problem")) or _text(fields.get("question"))
        found = _ANSWER.fullmatch(str(fields.get("answer")))
        if not problem:
            raise ValueError("no text under problem or question")
        if found is None:
            raise ValueError("no integer from 0 to 999 under answer")
        return Item(
            number=number,
            question=f"{problem}\n\nAnswer with a single integer from 0 to 999.",
            answer=str(int(found[1])),
            metadata={},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        return answers.score_integer(int(json.loads(example.answer)), answer_text)


def make(name: str, data: pathlib.Path | None = None) -> OodTask:
    """Make the task of that name, from `NAMES`."""
    assert name in NAMES
    return GpqaDiamond(data) if name == GpqaDiamond.name else Aime(name, data)


def path(name: str) -> str:
    """Return the place of a task's file in the data folder."""
    return f"ood/{name}.{'csv' if name == GpqaDiamond.name else 'jsonl'}"


def fetch(name: str, data: pathlib.Path, *, download: Download = hub_files.from_hub) -> bool:
    """Fetch the file of a task unless it exists; return True if it was downloaded.

    Raises:
        UserError: There is no connection or no space, the conditions of GPQA are not accepted, or
            the rows are not the published ones.
    """
    if (data / path(name)).is_file():
        return False
    content = b""
    for source in HUB[name]:
        found = download(source)
        rows = hub_files.read_rows(found, path(name))
        if len(rows) != source.count:
            raise UserError(
                f"{source.file} of {source.repository} has {len(rows)} rows, not {source.count}; "
                f"put the published file at {data / path(name)}"
            )
        if path(name).endswith(".csv"):
            content += found.read_bytes()
        else:
            content += "".join(f"{json.dumps(row, sort_keys=True)}\n" for row in rows).encode()
    published_files.write(path(name), data, content)
    return True


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
