"""TFDS datasets of a run, written and read as array_record without TensorFlow.

    r1ci_tasks          one config per task; splits sft, grpo, eval
    r1ci_trajectories   demonstrations for supervised fine-tuning; split train
    r1ci_curriculum     one measurement of potential; splits group1 … group4

Each dataset appears whole or not at all (TFDS writes beside it and renames), and carries a
fingerprint of what it was made from, so that a directory is never taken for something it is not.
"""

import dataclasses
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from r1ci_jax.core.config import Questions
from r1ci_jax.data import questions as drawing
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example

VERSION = tfds.core.Version("1.0.0")

Record = dict[str, Any]
Report = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graded:
    """A question with its measured potential."""

    example: Example
    group: int
    """1 (largest potential) to the number of groups."""
    accuracy: float
    """p: share of the model's answers that were correct."""
    potential: float
    """Π = 4p(1-p)."""


class Source[Row]:
    """Random access to the rows of one or more splits; a row is read when it is asked for."""

    def __init__(self, parts: Sequence[Any], decode: Callable[[Record], Row]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        self._decode = decode

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._ends, index, side="right"))
        start = 0 if part == 0 else int(self._ends[part - 1])
        return self._decode(self._parts[part][index - start])

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))


# --- what a row looks like on disk ---

_TEXT = tfds.features.Text


def _example_features() -> dict[str, Any]:
    return {
        "id": _TEXT(),
        "task": _TEXT(),
        "question": _TEXT(),
        "answer": _TEXT(),
        "difficulty": tfds.features.Scalar(np.int32),
        "metadata": _TEXT(),
    }


def _trajectory_features() -> dict[str, Any]:
    names = ("example_id", "task", "agent", "kind", "prompt", "segments")
    return {**{name: _TEXT() for name in names}, "correct": tfds.features.Scalar(np.bool_)}


def _graded_features() -> dict[str, Any]:
    scalars = {"group": np.int32, "accuracy": np.float32, "potential": np.float32}
    return _example_features() | {k: tfds.features.Scalar(kind) for k, kind in scalars.items()}


def _text(row: Record, name: str) -> str:
    return row[name].decode("utf-8")


def _encode_example(example: Example) -> Record:
    return dataclasses.asdict(example)


def _decode_example(row: Record) -> Example:
    texts = {name: _text(row, name) for name in ("id", "task", "question", "answer", "metadata")}
    return Example(**texts, difficulty=int(row["difficulty"]))


def _encode_demonstration(demonstration: Demonstration) -> Record:
    row = dataclasses.asdict(demonstration)
    return row | {"segments": json.dumps(row["segments"], ensure_ascii=False)}


def _decode_demonstration(row: Record) -> Demonstration:
    texts: Any = {
        name: _text(row, name) for name in ("example_id", "task", "agent", "kind", "prompt")
    }
    segments = tuple(Segment(**segment) for segment in json.loads(_text(row, "segments")))
    return Demonstration(**texts, segments=segments, correct=bool(row["correct"]))


def _encode_graded(graded: Graded) -> Record:
    numbers = {"group": graded.group, "accuracy": graded.accuracy, "potential": graded.potential}
    return _encode_example(graded.example) | numbers


def _decode_graded(row: Record) -> Graded:
    return Graded(
        example=_decode_example(row),
        group=int(row["group"]),
        accuracy=float(row["accuracy"]),
        potential=float(row["potential"]),
    )


# --- builders ---


class _LocalInfo(tfds.core.DatasetInfo):
    """Dataset information that is never looked up elsewhere."""

    def initialize_from_bucket(self) -> None:
        """Nothing: our datasets are published nowhere (TFDS would leave a temporary folder)."""


class _LocalBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder over rows at hand, silent, in the order given."""

    VERSION = VERSION
    url_infos = (
        None  # nothing is downloaded; TFDS would look for a checksum file beside this module
    )

    def __init__(
        self,
        *,
        rows: Callable[[], Mapping[str, Iterable[Record]]],
        features: dict[str, Any],
        fingerprint: str,
        **settings: Any,
    ) -> None:
        self._rows = rows
        self._row_features = features
        self._fingerprint = fingerprint
        super().__init__(file_format="array_record", **settings)

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(self._row_features),
            metadata=tfds.core.MetadataDict(fingerprint=self._fingerprint),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Record]]]:
        del dl_manager  # nothing is downloaded
        # TFDS refuses a split without rows; readers take an absent one as empty.
        filled = {split: list(rows) for split, rows in self._rows().items()}
        return {split: self._generate_examples(rows) for split, rows in filled.items() if rows}

    def _generate_examples(self, rows: Iterable[Record]) -> Iterator[tuple[int, Record]]:
        yield from enumerate(rows)

    def _log_download_bytes(self) -> None:
        """Silent: standard output belongs to the caller."""

    def _log_download_done(self) -> None:
        """Silent: standard output belongs to the caller."""


class R1ciTasks(_LocalBuilder):
    """Questions of one task in the splits sft, grpo and eval."""

    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in registry.names())


class R1ciTrajectories(_LocalBuilder):
    """Worked trajectories for supervised fine-tuning."""


class R1ciCurriculum(_LocalBuilder):
    """Questions grouped by measured improvement potential."""


# --- building ---


def build_tasks(
    questions: Questions, *, seed: int, data_dir: Path, report: Report | None = None
) -> None:
    """Write `r1ci_tasks` for every task of `questions`; what is already there is kept."""
    for name in questions.tasks:
        registry.get(name)  # an unknown name is told before anything is written
    parameters = dataclasses.asdict(questions) | {"seed": seed}
    del parameters["tasks"]  # a task's questions do not depend on which other tasks are asked
    for done, name in enumerate(questions.tasks):
        _prepare(
            R1ciTasks,
            functools.partial(_question_rows, name, questions, seed),
            features=_example_features(),
            fingerprint=_digest([name, parameters]),
            data_dir=data_dir,
            config=name,
        )
        if report is not None:
            report(done + 1, len(questions.tasks))


def _question_rows(name: str, questions: Questions, seed: int) -> dict[str, list[Record]]:
    splits = drawing.draw(registry.get(name), questions, seed=seed)
    return {split: [_encode_example(example) for example in rows] for split, rows in splits.items()}


def build_trajectories(demonstrations: Sequence[Demonstration], *, data_dir: Path) -> None:
    """Write `r1ci_trajectories`."""
    rows = [_encode_demonstration(demonstration) for demonstration in demonstrations]
    if not rows:
        raise UserError("there is no demonstration to write; ask for more questions")
    _prepare(
        R1ciTrajectories,
        lambda: {"train": rows},
        features=_trajectory_features(),
        fingerprint=_digest(rows),
        data_dir=data_dir,
    )


def build_curriculum(graded: Sequence[Graded], *, data_dir: Path) -> None:
    """Write `r1ci_curriculum`: one split a group, rows in the given order."""
    groups: dict[str, list[Record]] = {}
    for row in graded:
        groups.setdefault(f"group{row.group}", []).append(_encode_graded(row))
    if not groups:
        raise UserError("no question has a measured potential; run the potential stage first")
    _prepare(
        R1ciCurriculum,
        lambda: dict(sorted(groups.items())),
        features=_graded_features(),
        fingerprint=_digest(groups),
        data_dir=data_dir,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _prepare(
    kind: type[_LocalBuilder],
    rows: Callable[[], Mapping[str, Iterable[Record]]],
    *,
    features: dict[str, Any],
    fingerprint: str,
    data_dir: Path,
    config: str = "",
) -> None:
    tfds.disable_progress_bar()
    place = _place(data_dir, kind.name, config)
    if place.exists():
        present = _open(place).info.metadata or {}
        if present.get("fingerprint") != fingerprint:
            raise UserError(
                f"{place} was built with other settings; "
                f"delete {data_dir} or choose another directory"
            )
        return
    # What a killed build left; the caller holds the run directory's lock.
    for part in place.parent.glob("incomplete.*"):
        shutil.rmtree(part)
    builder = kind(
        rows=rows,
        features=features,
        fingerprint=fingerprint,
        data_dir=data_dir,
        config=config or None,
    )
    with tempfile.TemporaryDirectory() as downloads:
        builder.download_and_prepare(download_dir=downloads)


# --- reading ---


def load_examples(data_dir: Path, tasks: Sequence[str], split: str) -> Source[Example]:
    """Rows of one split (sft, grpo or eval), or of several as `sft+grpo`, task after task."""
    parts = [part for task in tasks for part in _parts(data_dir, "r1ci_tasks", split, task)]
    return Source(parts, _decode_example)


def load_trajectories(data_dir: Path) -> Source[Demonstration]:
    """All demonstrations."""
    return Source(_parts(data_dir, "r1ci_trajectories", "train"), _decode_demonstration)


def load_curriculum(data_dir: Path, split: str) -> Source[Graded]:
    """Rows of the groups named in TFDS split syntax (`group1+group2`); an empty group has none."""
    return Source(_parts(data_dir, "r1ci_curriculum", split), _decode_graded)


def built(data_dir: Path, dataset: str, config: str = "") -> bool:
    """Whether that dataset is there, whole."""
    return _place(data_dir, dataset, config).is_dir()


def task_names(data_dir: Path) -> tuple[str, ...]:
    """Tasks whose questions are there."""
    places = (data_dir / "r1ci_tasks").glob(f"*/{VERSION}")
    return tuple(sorted(place.parent.name for place in places))


def _place(data_dir: Path, dataset: str, config: str = "") -> Path:
    return data_dir / dataset / config / str(VERSION)


def _open(place: Path) -> Any:
    # Any: the decorators around TFDS's methods hide their parameters from type checkers.
    return tfds.builder_from_directory(place)


def _parts(data_dir: Path, dataset: str, split: str, config: str = "") -> list[Any]:
    place = _place(data_dir, dataset, config)
    if not place.is_dir():
        what = f"{dataset}/{config}" if config else dataset
        raise UserError(f"{data_dir} holds no {what}; build it first (r1ci data build EXP)")
    builder = _open(place)
    names = [name for name in split.split("+") if name.partition("[")[0] in builder.info.splits]
    return [builder.as_data_source(split=name) for name in names]
