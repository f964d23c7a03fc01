"""The form of a record on disk, and random access to records.

A record is a `tf.train.Example` with one feature per field, which any reader of TFDS can decode.
TFDS decodes such a record through numpy, feature by feature, in 0.1 ms or more; this module
decodes the message directly, in a tenth of that time.
"""

import bisect
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from r1ci_jax import utf8
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.tasks.base import Example

Record = dict[str, Any]
"""A row as TFDS writes it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradedExample:
    """A question with its measured potential."""

    example: Example
    group: int
    """The group, from 1 (largest potential) to the number of groups."""
    accuracy: float
    """The fraction p of the model's answers that were correct."""
    potential: float
    """The potential Π = 4p(1-p)."""


class Source[Row]:
    """Random access to the rows of one or more splits; a row is read on access."""

    def __init__(self, parts: Sequence[Sequence[bytes]], decode: Callable[[bytes], Row]) -> None:
        self._parts = tuple(parts)
        self._starts = (0, *itertools.accumulate(len(part) for part in parts))
        self._decode = decode

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect.bisect_right(self._starts, index) - 1
        return self._decode(self._parts[part][index - self._starts[part]])

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))


# --- questions ---

_TEXT = tfds.features.Text
_EXAMPLE_TEXTS = ("id", "task", "question", "answer", "metadata")


def example_features() -> dict[str, Any]:
    """Return the TFDS features of a question."""
    return {
        "id": _TEXT(),
        "task": _TEXT(),
        "question": _TEXT(),
        "answer": _TEXT(),
        "difficulty": tfds.features.Scalar(np.int32),
        "metadata": _TEXT(),
    }


def encode_example(example: Example) -> Record:
    """Encode a question as a row."""
    row = dataclasses.asdict(example)
    return row | {name: utf8.well_formed(row[name]) for name in _EXAMPLE_TEXTS}


def decode_example(record: bytes) -> Example:
    """Decode a question from a record."""
    return _example(_fields(record))


def _example(fields: Any) -> Example:
    texts = {name: _text(fields, name) for name in _EXAMPLE_TEXTS}
    return Example(**texts, difficulty=_integer(fields, "difficulty"))


# --- demonstrations ---

_DEMONSTRATION_TEXTS = ("example_id", "task", "agent", "kind", "prompt")


def trajectory_features() -> dict[str, Any]:
    """Return the TFDS features of a demonstration; its segments are JSON text."""
    names = (*_DEMONSTRATION_TEXTS, "segments")
    return {**{name: _TEXT() for name in names}, "correct": tfds.features.Scalar(np.bool_)}


def encode_demonstration(demonstration: Demonstration) -> Record:
    """Encode a demonstration as a row."""
    row = dataclasses.asdict(demonstration)
    segments = json.dumps(row["segments"], ensure_ascii=False)
    texts = {name: row[name] for name in _DEMONSTRATION_TEXTS} | {"segments": segments}
    return row | {name: utf8.well_formed(text) for name, text in texts.items()}


def decode_demonstration(record: bytes) -> Demonstration:
    """Decode a demonstration from a record."""
    fields = _fields(record)
    texts: Any = {name: _text(fields, name) for name in _DEMONSTRATION_TEXTS}
    segments = tuple(Segment(**segment) for segment in json.loads(_text(fields, "segments")))
    return Demonstration(**texts, segments=segments, correct=bool(_integer(fields, "correct")))


# --- questions with their potential ---


def graded_features() -> dict[str, Any]:
    """Return the TFDS features of a question with its potential."""
    scalars = {"group": np.int32, "accuracy": np.float32, "potential": np.float32}
    return example_features() | {k: tfds.features.Scalar(kind) for k, kind in scalars.items()}


def encode_graded(graded: GradedExample) -> Record:
    """Encode a question with its potential as a row."""
    numbers = {"group": graded.group, "accuracy": graded.accuracy, "potential": graded.potential}
    return encode_example(graded.example) | numbers


def decode_graded(record: bytes) -> GradedExample:
    """Decode a question and its potential from a record."""
    fields = _fields(record)
    return GradedExample(
        example=_example(fields),
        group=_integer(fields, "group"),
        accuracy=_number(fields, "accuracy"),
        potential=_number(fields, "potential"),
    )


# --- fields of a record ---

# Any: message classes are created at import, so type checkers do not know them.
_Message: Any = getattr(tf_example_pb2, "Example")  # noqa: B009


def canonical(record: bytes) -> bytes:
    """Return the record with sorted fields: protobuf's own order differs between processes."""
    return _Message.FromString(record).SerializeToString(deterministic=True)


def _fields(record: bytes) -> Any:
    return _Message.FromString(record).features.feature


def _text(fields: Any, name: str) -> str:
    return fields[name].bytes_list.value[0].decode("utf-8")


def _integer(fields: Any, name: str) -> int:
    return fields[name].int64_list.value[0]


def _number(fields: Any, name: str) -> float:
    return fields[name].float_list.value[0]
