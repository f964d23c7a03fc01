"""Demonstrations made elsewhere: JSON lines, checked before anything is trained on them.

A line is a `Demonstration` as a JSON object. There are three checks, and each names the line at
fault: `read` looks at the file alone, before anything is built; `validate_against` compares it with
the questions, once those are generated; `validate_by_execution` runs every script again and
compares what it prints. docs/demonstrations.md describes the format.
"""

import collections
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from etils import epath

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import scripted_teacher
from r1ci_jax.data.demonstrations import AGENTS, Demonstration, Segment
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import first_stop, protocol
from r1ci_jax.text.protocol import Stop

_FIELDS: Final[Mapping[str, type]] = {
    "example_id": str,
    "task": str,
    "agent": str,
    "kind": str,
    "prompt": str,
    "segments": list,
    "correct": bool,
}
_SEGMENT_FIELDS: Final[Mapping[str, type]] = {"text": str, "role": str, "sampled": bool}
_IN_JSON: Final = {str: "a text", bool: "true or false", list: "a list"}

# The ending that an assistant segment must have, by the role of the segment after it.
_ENDS: Final = {
    "observation": (Stop.CODE, "a closed code block, because its output follows"),
    "user": (Stop.ANSWER, "a closed <<<answer>>>, because the user speaks next"),
    "": (Stop.ANSWER, "a closed <<<answer>>>, because it is the last one"),
}


def read(path: str, questions: DatasetConfig) -> dict[int, Demonstration]:
    """Read the demonstrations of a file, keyed by line number.

    Args:
        path: A file of JSON lines, or its URL.
        questions: The settings that limit the tasks and the number of demonstrations.

    Raises:
        UserError: The file cannot be read, or a line of it cannot be used for training.
    """
    found: dict[int, Demonstration] = {}
    shown = collections.Counter[str]()
    training = {name for name in questions.tasks if registry.get(name).split != "test"}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            found[number] = _parse(line)
            task = found[number].task
            shown[task] += 1
            _check_task(task, shown[task], training, questions)
        except UserError as error:
            raise _at(path, number, str(error)) from None
    if not found:
        raise UserError(f"{path} holds no demonstration; write one a line, as JSON")
    return found


def validate_against(
    path: str, found: Mapping[int, Demonstration], examples: Iterable[Example]
) -> None:
    """Check that each demonstration answers one of `examples` (the sft split) correctly.

    Raises:
        UserError: A demonstration does not.
    """
    known = {example.id: example for example in examples}
    answers: dict[str, list[tuple[int, Example, str]]] = collections.defaultdict(list)
    for number, demonstration in found.items():
        example = known.get(demonstration.example_id)
        if example is None or example.task != demonstration.task:
            raise _at(
                path,
                number,
                f"{demonstration.example_id!r} is no question of the sft split of "
                f"{demonstration.task}; questions of other splits must not be shown",
            )
        if example.question not in demonstration.prompt:
            raise _at(path, number, f"the prompt does not hold the question of {example.id}")
        answer = protocol.final_answer(demonstration.segments[-1].text)
        assert answer is not None, "`read` lets nothing else through"
        answers[example.task].append((number, example, answer))
    for task, given in answers.items():
        pairs = [(example, answer) for _, example, answer in given]
        for (number, _, answer), verdict in zip(
            given, registry.get(task).score_all(pairs), strict=True
        ):
            if not verdict.correct:
                raise _at(
                    path, number, f"<<<{answer}>>> is wrong ({verdict.reason}); leave the line out"
                )


def validate_by_execution(
    path: str,
    found: Mapping[int, Demonstration],
    sandbox: scripted_teacher.Interpreter,
    *,
    report: scripted_teacher.Report | None = None,
) -> None:
    """Run every script again, and check that each observation is what its script prints.

    Raises:
        UserError: An observation is not, or the sandbox failed.
    """
    scripts: dict[tuple[int, int], str] = {}
    for number, demonstration in found.items():
        for index, segment in enumerate(demonstration.segments):
            if segment.role == "observation":
                code = protocol.last_code(demonstration.segments[index - 1].text)
                assert code is not None, "`read` lets nothing else through"
                scripts[number, index] = code
    results = scripted_teacher.run_all(dict.fromkeys(scripts.values()), sandbox, report)
    for (number, index), code in scripts.items():
        told = found[number].segments[index].text
        printed = protocol.observation(results[code])
        if told != printed:
            raise _at(
                path,
                number,
                f"segment {index + 1} is not what its script prints here: "
                f"{_first_difference(told, printed)}; correct it, leave the line out, or believe "
                "all observations with demonstrations.reexecute=False",
            )


def _first_difference(told: str, printed: str) -> str:
    """Describe the first line that differs, shortened to one that fits into a message."""
    pairs = itertools.zip_longest(told.split("\n"), printed.split("\n"), fillvalue="")
    was, now = next(pair for pair in pairs if pair[0] != pair[1])
    return f"{was[:60]!r} there, {now[:60]!r} printed"


def _at(path: str, number: int, problem: str) -> UserError:
    return UserError(f"{path}, line {number}: {problem}")


def _lines(path: str) -> Iterator[str]:
    try:
        with epath.Path(path).open("r", encoding="utf-8") as file:
            yield from file
    except (OSError, ImportError, UnicodeDecodeError) as error:
        raise UserError(
            f"demonstrations.path = {path} cannot be read ({' '.join(str(error).split())}); "
            "name a file of JSON lines"
        ) from error


def _check_task(task: str, shown: int, training: Collection[str], questions: DatasetConfig) -> None:
    if task not in training:
        why = "is for testing" if task in questions.tasks else "is not in dataset.tasks"
        raise UserError(f"task {task!r} {why}; show tasks that are trained on")
    if shown > questions.sft_per_task:
        raise UserError(
            f"{task} is shown more often than dataset.sft_per_task = {questions.sft_per_task}; "
            "leave lines out or raise it"
        )


def _parse(line: str) -> Demonstration:
    try:
        raw = json_reader.parse(line, "this")
    except json_reader.JsonError as error:
        raise UserError(f"this is no JSON that can be read ({error})") from None
    fields = _typed(raw, _FIELDS, "the demonstration")
    if fields["agent"] not in AGENTS:
        raise UserError(f"agent is {fields['agent']!r}; it must be one of {', '.join(AGENTS)}")
    if not fields["correct"]:
        raise UserError("correct is false; only right trajectories are learnt from")
    segments = tuple(
        _segment(part, f"segment {position}")
        for position, part in enumerate(fields["segments"], start=1)
    )
    _check_turns(segments)
    values: dict[str, Any] = {**fields, "segments": segments}
    return Demonstration(**values)


def _segment(raw: Any, name: str) -> Segment:
    fields = _typed(raw, _SEGMENT_FIELDS, name)
    if fields["role"] not in ("assistant", "observation", "user"):
        raise UserError(
            f"role of {name} is {fields['role']!r}; it must be assistant, observation or user"
        )
    if fields["sampled"] and fields["role"] != "assistant":
        raise UserError(f"{name} is sampled, but only the assistant's own words can be learnt")
    return Segment(**fields)


def _typed(raw: Any, kinds: Mapping[str, type], name: str) -> dict[str, Any]:
    """Return the object if it has exactly these fields, each of its type."""
    if not isinstance(raw, dict):
        raise UserError(f"{name} is no JSON object; its fields are {', '.join(kinds)}")
    if raw.keys() != kinds.keys():
        missing, foreign = sorted(kinds.keys() - raw.keys()), sorted(raw.keys() - kinds.keys())
        what = f"has no field {missing[0]!r}" if missing else f"has a field {foreign[0]!r} too many"
        raise UserError(f"{name} {what}; its fields are {', '.join(kinds)}")
    for field, kind in kinds.items():
        if not isinstance(raw[field], kind):
            raise UserError(f"{field} of {name} must be {_IN_JSON[kind]}")
    return raw


def _check_turns(segments: Sequence[Segment]) -> None:
    """Check that a rollout could produce these turns: the policy pauses only at a closed mark."""
    if not segments or segments[-1].role != "assistant" or not segments[-1].sampled:
        raise UserError("the last segment must be the assistant's, sampled: it holds the answer")
    for position, segment in enumerate(segments, start=1):
        if (segment.role == "assistant") != (position % 2 == 1):
            raise UserError(
                f"segment {position} is the {segment.role}'s; the assistant speaks first and then "
                "every second time"
            )
        if segment.role == "observation" and not segment.text.startswith(
            f"\n{protocol.OBSERVATION_PREFIX}\n"
        ):
            raise UserError(
                f"segment {position} is interpreter output and must be a line feed, the line "
                f'"{protocol.OBSERVATION_PREFIX}" and what was printed'
            )
    next_roles = [*(segment.role for segment in segments[1::2]), ""]
    for turn, (segment, role) in enumerate(zip(segments[::2], next_roles, strict=True)):
        mark, description = _ENDS[role]
        if first_stop.find(segment.text) != (mark, len(first_stop.encoded(segment.text))):
            raise UserError(f"segment {2 * turn + 1} must end, and pause first, at {description}")
