"""TFDS datasets of a run, written and read as array_record without TensorFlow.

    r1ci_tasks          one config per task; splits sft, grpo, eval
    r1ci_trajectories   demonstrations for supervised fine-tuning; split train
    r1ci_curriculum     one measurement of potential; splits group1 … group4; one more config per
                        order that has other groups

Each dataset is written completely or not at all (TFDS renames a temporary folder). It carries a
fingerprint of its inputs, so that a dataset with other inputs is never used by mistake.
"""

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, override

import tensorflow_datasets as tfds
from tensorflow_datasets.core import writer

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import question_splits, question_workers, records
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.records import GradedExample, Record, Source
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example

VERSION = tfds.core.Version("1.0.0")

Report = Callable[[int, int], None]
"""A function called with (done, total)."""


# --- builders ---


class _LocalInfo(tfds.core.DatasetInfo):
    """Dataset information that is never looked up on the network."""

    def initialize_from_bucket(self) -> None:
        """Do nothing: these datasets are not published, and TFDS would leave a temporary folder."""


class _Writer(writer.ExampleWriter):
    """A TFDS writer that writes the same bytes in every process."""

    @override
    def write(self, path: Any, examples: Iterable[tuple[Any, Any]]) -> Any:
        return super().write(path, ((key, records.canonical(row)) for key, row in examples))


class _LocalBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder that writes rows from memory in the given order and prints nothing."""

    VERSION = VERSION
    url_infos = (
        None  # Nothing is downloaded; TFDS would look for a checksum file next to this module.
    )

    def __init__(
        self,
        *,
        records: Mapping[str, Sequence[Record]],
        features: dict[str, Any],
        facts: Mapping[str, Any],
        **settings: Any,
    ) -> None:
        self._rows = records
        self._row_features = features
        self._facts = facts
        super().__init__(file_format="array_record", **settings)

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(self._row_features),
            metadata=tfds.core.MetadataDict(self._facts),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Record]]]:
        del dl_manager  # Nothing is downloaded.
        # TFDS refuses a split without rows; readers treat a missing split as empty.
        return {split: self._generate_examples(rows) for split, rows in self._rows.items() if rows}

    def _generate_examples(self, rows: Iterable[Record]) -> Iterator[tuple[int, Record]]:
        yield from enumerate(rows)

    def _example_writer(self) -> writer.ExampleWriter:
        assert self.info.file_format is not None
        return _Writer(self.info.file_format)

    def _log_download_bytes(self) -> None:
        """Print nothing: standard output belongs to the caller."""

    def _log_download_done(self) -> None:
        """Print nothing: standard output belongs to the caller."""


class _AnyConfig(_LocalBuilder, skip_registration=True):
    """A builder whose configs have any name."""

    @classmethod
    @override
    def get_builder_config(cls, name: str, version: Any = None) -> tfds.core.BuilderConfig:
        """Return the config of this name, also of a task registered after this module's import."""
        del version
        return tfds.core.BuilderConfig(name=name)


class R1ciTasks(_AnyConfig):
    """Questions of one task in the splits sft, grpo and eval."""


class R1ciTrajectories(_LocalBuilder):
    """Worked trajectories for supervised fine-tuning."""


class R1ciCurriculum(_AnyConfig):
    """Questions grouped by measured improvement potential, or in a config by another order."""


# --- building ---


def build_tasks(
    questions: DatasetConfig,
    *,
    seed: int,
    data_dir: Path,
    jobs: int | None = 1,
    report: Report | None = None,
) -> dict[str, float]:
    """Write `r1ci_tasks` for every task of `questions`; existing datasets are kept.

    The datasets are the same for any number of processes `jobs` (None: by the processors). Test
    tasks come first: their questions are then kept out of the training splits of the other tasks.
    Returns the seconds that generation took, by task, for the tasks that were generated.
    """
    # Unknown names and datasets with other settings are reported before anything is written, and so
    # are published questions that are missing: their number cannot be read.
    todo = [
        name
        for name in questions.tasks
        if not _is_current(data_dir, "r1ci_tasks", name, _tasks_mark(name, questions, seed))
    ]
    for name in todo:
        registry.get(name).count()
    done = len(questions.tasks) - len(todo)
    testing = _test_tasks(questions)
    seconds: dict[str, float] = {}
    for trained in (False, True):
        names = [name for name in todo if (name not in testing) == trained]
        reserved = _identities(data_dir, testing) if trained and names else frozenset()
        for generated in question_workers.generate_all(
            names, questions, seed=seed, jobs=jobs, reserved=reserved
        ):
            _write_task(generated, questions, seed, data_dir)
            seconds[generated.task] = generated.seconds
            if report is not None:
                report(done + len(seconds), len(questions.tasks))
    return seconds


def _write_task(
    generated: question_workers.GeneratedTask, questions: DatasetConfig, seed: int, data_dir: Path
) -> None:
    rows = {
        split: [records.encode_example(example) for example in examples]
        for split, examples in generated.splits.items()
    }
    _prepare(
        R1ciTasks,
        rows,
        features=records.example_features(),
        fingerprint=_tasks_mark(generated.task, questions, seed),
        data_dir=data_dir,
        config=generated.task,
        facts={
            "asked": question_splits.questions_per_split(registry.get(generated.task), questions)
        },
    )


def _test_tasks(questions: DatasetConfig) -> list[str]:
    return [name for name in questions.tasks if registry.get(name).split == "test"]


def _identities(data_dir: Path, names: Sequence[str]) -> frozenset[bytes]:
    """Return the keys of the test tasks' questions."""
    rows = load_examples(data_dir, names, "eval")
    return frozenset(question_splits.question_key(example.question) for example in rows)


def _tasks_mark(name: str, questions: DatasetConfig, seed: int) -> str:
    """Return the fingerprint of a task's dataset."""
    parameters = dataclasses.asdict(questions) | {"seed": seed}
    del parameters["tasks"]  # A task's questions depend on no other tasks except the test tasks.
    testing = sorted(_test_tasks(questions))
    if testing and name not in testing:
        parameters["reserved"] = testing
    return _digest([name, parameters])


def build_trajectories(demonstrations: Sequence[Demonstration], *, data_dir: Path) -> None:
    """Write `r1ci_trajectories`."""
    rows = [records.encode_demonstration(demonstration) for demonstration in demonstrations]
    if not rows:
        raise UserError("there is no demonstration to write; ask for more questions")
    _prepare(
        R1ciTrajectories,
        {"train": rows},
        features=records.trajectory_features(),
        fingerprint=_digest(rows),
        data_dir=data_dir,
    )


def replace_trajectories(demonstrations: Sequence[Demonstration], *, data_dir: Path) -> None:
    """Write `r1ci_trajectories`; others that are there are replaced."""
    rows = [records.encode_demonstration(demonstration) for demonstration in demonstrations]
    directory = _dataset_dir(data_dir, R1ciTrajectories.name, "")
    if directory.exists() and _fingerprint(directory) != _digest(rows):
        shutil.rmtree(directory)
    build_trajectories(demonstrations, data_dir=data_dir)


def build_curriculum(graded: Sequence[GradedExample], *, data_dir: Path, order: str = "") -> None:
    """Write `r1ci_curriculum` with one split per group and rows in the given order.

    `order` names the config for groups that are not those of the measured potential.
    """
    groups: dict[str, list[Record]] = {}
    for row in graded:
        groups.setdefault(f"group{row.group}", []).append(records.encode_graded(row))
    if not groups:
        raise UserError("no question has a measured potential; run the potential stage first")
    _prepare(
        R1ciCurriculum,
        dict(sorted(groups.items())),
        features=records.graded_features(),
        fingerprint=_digest(groups),
        data_dir=data_dir,
        config=order,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _is_current(data_dir: Path, dataset: str, config: str, fingerprint: str) -> bool:
    """Return True if that dataset exists; raise UserError if its settings differ."""
    directory = _dataset_dir(data_dir, dataset, config)
    if not directory.exists():
        return False
    if _fingerprint(directory) != fingerprint:
        raise UserError(
            f"{directory} was built with other settings; delete {data_dir} or choose another"
        )
    return True


def _fingerprint(directory: Path) -> str | None:
    return (_open(directory).info.metadata or {}).get("fingerprint")


def _prepare(
    kind: type[_LocalBuilder],
    records: Mapping[str, Sequence[Record]],
    *,
    features: dict[str, Any],
    fingerprint: str,
    data_dir: Path,
    config: str = "",
    facts: Mapping[str, Any] | None = None,
) -> None:
    tfds.disable_progress_bar()
    if _is_current(data_dir, kind.name, config, fingerprint):
        return
    # A killed build left this folder; the caller holds the run directory's lock.
    for part in _dataset_dir(data_dir, kind.name, config).parent.glob("incomplete.*"):
        shutil.rmtree(part)
    builder = kind(
        records=records,
        features=features,
        facts={"fingerprint": fingerprint, **(facts or {})},
        data_dir=data_dir,
        config=config or None,
    )
    with tempfile.TemporaryDirectory() as downloads:
        builder.download_and_prepare(download_dir=downloads)


# --- reading ---


def load_examples(data_dir: Path | str, tasks: Sequence[str], split: str) -> Source[Example]:
    """Return rows of one split (sft, grpo or eval), or of several (`sft+grpo`), task after task."""
    parts = [part for task in tasks for part in _parts(data_dir, "r1ci_tasks", split, task)]
    return Source(parts, records.decode_example)


def load_trajectories(data_dir: Path | str) -> Source[Demonstration]:
    """Return all demonstrations."""
    return Source(_parts(data_dir, "r1ci_trajectories", "train"), records.decode_demonstration)


def load_curriculum(data_dir: Path | str, split: str, *, order: str = "") -> Source[GradedExample]:
    """Return rows of the groups in TFDS split syntax (`group1+group2`); a group may be empty."""
    return Source(_parts(data_dir, "r1ci_curriculum", split, order), records.decode_graded)


def is_built(data_dir: Path | str, dataset: str, config: str = "") -> bool:
    """Return True if that dataset exists."""
    return _dataset_dir(data_dir, dataset, config).is_dir()


def task_names(data_dir: Path | str) -> tuple[str, ...]:
    """Return the names of the tasks whose questions are built."""
    directories = (Path(data_dir) / "r1ci_tasks").glob(f"*/{VERSION}")
    return tuple(sorted(directory.parent.name for directory in directories))


def stored_metadata(data_dir: Path | str, task: str) -> dict[str, int]:
    """Return the number of questions requested from a task when it was built, by split."""
    return _open(_dataset_dir(data_dir, "r1ci_tasks", task)).info.metadata["asked"]


def short_splits(data_dir: Path, tasks: Iterable[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return the built and requested numbers where questions were missing, by task and split."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for task in tasks:
        wanted = stored_metadata(data_dir, task)
        there = {split: len(load_examples(data_dir, [task], split)) for split in wanted}
        if short := {s: (there[s], n) for s, n in wanted.items() if there[s] < n}:
            found[task] = short
    return found


def _dataset_dir(data_dir: Path | str, dataset: str, config: str = "") -> Path:
    return Path(data_dir) / dataset / config / str(VERSION)


def _open(directory: Path) -> Any:
    # Any: the decorators around TFDS's methods hide their parameters from type checkers.
    return tfds.builder_from_directory(directory)


def _parts(data_dir: Path | str, dataset: str, split: str, config: str = "") -> list[Any]:
    directory = _dataset_dir(data_dir, dataset, config)
    if not directory.is_dir():
        what = f"{dataset}/{config}" if config else dataset
        raise UserError(f"{data_dir} holds no {what}; build it first (r1ci data build EXP)")
    builder = _open(directory)
    names = [name for name in split.split("+") if name.partition("[")[0] in builder.info.splits]
    raw = tfds.decode.DeserializeMethod.RAW_BYTES  # `records` decodes them faster.
    return [builder.as_data_source(split=name, deserialize_method=raw) for name in names]
