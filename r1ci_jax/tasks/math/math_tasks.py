"""Three tasks of published questions: GSM-Hard and two subjects of MATH.

Each is one file of the data folder, `symbench/<task>.jsonl`, with one JSON object per line that has
the fields of the publication. `fetch` downloads it from the Hugging Face hub; the released sample
of SymBench has the same fields and can be stored there as well.
"""

import json
import pathlib
from fractions import Fraction
from typing import Any, Final, override

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import answers, hub_files, published_files, row_task
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.hub_files import Download, HubFile
from r1ci_jax.tasks.math import equality, extraction
from r1ci_jax.tasks.published_task import Dropped, Item

TOLERANCE: Final = Fraction(1, 10**6)
"""The largest relative error of an answer to GSM-Hard: its golds are floating-point numbers."""


HUB: Final = {
    "gsm_hard": HubFile(
        repository="reasoning-machines/gsm-hard",
        revision="main",
        file="gsmhardv2.jsonl",
        count=1319,
    ),
    "math_geometry": HubFile(
        repository="EleutherAI/hendrycks_math",
        revision="73ed0b104cbf1bae49a9118a37d805aed58a7a13",
        file="geometry/train-00000-of-00001.parquet",
        count=870,
    ),
    "math_counting_and_probability": HubFile(
        repository="EleutherAI/hendrycks_math",
        revision="73ed0b104cbf1bae49a9118a37d805aed58a7a13",
        file="counting_and_probability/train-00000-of-00001.parquet",
        count=771,
    ),
}


class HubTask(row_task.RowTask):
    """A task of one JSON-lines file."""

    suite = "symbench"

    @property
    @override
    def path(self) -> str:
        return _path(self.name)


class GsmHard(HubTask):
    """School problems in words with large numbers."""

    name = "gsm_hard"
    kind = "execution"
    answer_format = "a number in digits, right to one part in a million"

    @override
    def item(self, number: int, row: dict[str, Any]) -> Item:
        question, target = row.get("input"), row.get("target")
        if not isinstance(question, str) or not question.strip():
            raise ValueError("no text under input")
        if not isinstance(target, int | float) or isinstance(target, bool):
            raise ValueError("no number under target")
        text = repr(int(target)) if target == int(target) else repr(target)
        return Item(
            number=number,
            question=f"{question.strip()}\n\nTake every number as it stands, even where the result "
            "looks odd. Answer with a single number in digits, without unit, currency sign or "
            "thousands separators; its relative error must not exceed 0.000001.",
            answer=text,
            metadata={},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        expected = extraction.read_number(json.loads(example.answer))
        found = extraction.read_number(answer_text)
        shown = answers.format_answer(answer_text[:41])
        if found is None or expected is None:
            return Verdict(correct=False, reason=f"{shown} is not a single number in digits")
        if abs(found - expected) > TOLERANCE * abs(expected):
            return Verdict(correct=False, reason=f"{shown} is not the expected number")
        return Verdict(correct=True, reason=f"{shown} is the expected number")


class MathSubject(HubTask):
    """One subject of MATH: competition problems, answered by a value."""

    kind = "reasoning"
    answer_format = "an exact value in plain or LaTeX notation, without units"

    def __init__(self, name: str, data: pathlib.Path | None = None) -> None:
        """Make the task `math_geometry` or `math_counting_and_probability`."""
        super().__init__(data)
        self.name = name

    @override
    def item(self, number: int, row: dict[str, Any]) -> Item:
        problem, solution = row.get("problem"), row.get("solution")
        if not isinstance(problem, str) or not problem.strip() or not isinstance(solution, str):
            raise ValueError("no text under problem or solution")
        content = extraction.extract_boxed(solution)
        if content is None:
            raise ValueError("its solution marks no answer")
        value = extraction.read_value(content)
        if value is None or len(value) > answers.MAX_ANSWER_CHARS:
            raise ValueError("its marked answer is not one value")
        return Item(
            number=number,
            question=f"{problem.strip()}\n\nAnswer with the value alone, in LaTeX or plain "
            "notation such as sqrt(2)/3 or 5*pi: exact rather than rounded unless rounding is "
            "asked for, without its name, units, percent or degree signs. A point or a list of "
            "values is written with commas, in the order and the brackets that are asked for.",
            answer=value,
            metadata={"level": str(row.get("level", ""))},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        """Score the text.

        Raises:
            UserError: The jail, which compares everything but plain numbers, does not start.
        """
        return extraction.score_answer(json.loads(example.answer), answer_text, equality.are_equal)


NAMES: Final = tuple(HUB)


def make(name: str, data: pathlib.Path | None = None) -> HubTask:
    """Make the task of that name, from `NAMES`."""
    assert name in NAMES
    return GsmHard(data) if name == GsmHard.name else MathSubject(name, data)


def fetch(name: str, data: pathlib.Path, *, download: Download = hub_files.from_hub) -> bool:
    """Fetch the file of a task unless it exists; return True if it was downloaded.

    Raises:
        UserError: There is no connection or no space, or the rows are not the published ones.
    """
    if (data / _path(name)).is_file():
        return False
    source = HUB[name]
    path = download(source)
    rows = hub_files.read_rows(path, _path(name))
    if len(rows) != source.count:
        raise UserError(
            f"{source.file} of {source.repository} has {len(rows)} rows, not {source.count}; "
            f"put the published rows at {data / _path(name)} as JSON lines"
        )
    lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    published_files.write(_path(name), data, lines.encode())
    return True


def dropped_items(data: pathlib.Path | None = None) -> list[Dropped]:
    """Return every item of the three files that is never used, with the reason."""
    return [drop for name in NAMES for drop in make(name, data).dropped_items()]


def _path(name: str) -> str:
    return f"symbench/{name}.jsonl"
