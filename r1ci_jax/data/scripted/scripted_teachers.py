"""The scripted teachers of the real suite as one source of demonstrations, task by task.

Each finished task is one file in the run directory, written whole: a killed run goes on with the
next task. What is written depends on the questions, the seed and the settings, and not on the
number of scripts that run at a time.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, override

from r1ci_jax.data.demonstration_source import DemonstrationSource, Report
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.data.external import selection
from r1ci_jax.data.external.selection import Made, Rejection, Selection
from r1ci_jax.data.scripted import lengths, writing
from r1ci_jax.data.scripted.lengths import LengthMeasure
from r1ci_jax.data.scripted.planning import Planner
from r1ci_jax.data.scripted.writing import Plan, RejectedError, Writing
from r1ci_jax.data.scripted_teacher import Interpreter
from r1ci_jax.demonstration_config import DemonstrationConfig
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files
from r1ci_jax.sandbox.result import SANDBOX_FAULTS, ExecResult
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.teachers import teacher_catalogue
from r1ci_jax.teachers.teacher import Teacher
from r1ci_jax.text import protocol

Offer = Demonstration | Rejection

_IN_FLIGHT: Final = 64
"""Trajectories that are written at a time: their scripts wait in the sandbox's queue."""
_REVISIONS: Final = 24
"""How often a task's demonstrations are looked through for repeated scripts and for lengths."""
_ANEW: Final = 3
"""How often one with a repeated script is written anew before it becomes `code`."""
_SHORTENED: Final = 2
"""How often one is written shorter: first with the shortest script, then without words too."""
_FAULTS: Final = 3
"""How often a script runs whose jail was lost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScriptedTeachers(DemonstrationSource):
    """Writes one demonstration for each question."""

    sandbox: Interpreter
    seed: int
    mix: DemonstrationConfig = dataclasses.field(default_factory=DemonstrationConfig)
    measure: LengthMeasure = lengths.ESTIMATE
    """Measures the lengths that `mix` limits."""
    directory: Path | None = None
    """Keeps the finished tasks; None: nothing is kept."""

    @override
    def teach(
        self, examples: Sequence[Example], collected: Selection, *, report: Report | None = None
    ) -> Made:
        """Offer a demonstration of each question, in the order of the questions.

        Raises:
            UserError: A task has no teacher, or the sandbox failed.
        """
        by_task: dict[str, list[Example]] = {}
        for example in examples:
            by_task.setdefault(example.task, []).append(example)
        done = 0
        for task, own in by_task.items():
            for offered in self._task(task, own):
                collected.offer(offered)
            done += len(own)
            if report is not None:
                report(done, len(examples))
        return collected.made()

    def _task(self, task: str, examples: Sequence[Example]) -> list[Offer]:
        """Read the offers of a finished task, or write them."""
        teacher = teacher_catalogue.by_task().get(task)
        if teacher is None:
            raise UserError(f"{task} has no scripted teacher")
        if self.directory is None:
            return self._write(teacher, examples)
        path, mark = self.directory / f"{task}.jsonl", self._mark(examples)
        offers = _read(path, mark)
        if offers is None:
            offers = self._write(teacher, examples)
            self.directory.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps({"mark": mark}), *(json.dumps(_encode(each)) for each in offers)]
            atomic_files.write_atomic(path, "".join(f"{line}\n" for line in lines))
        return offers

    def _mark(self, examples: Sequence[Example]) -> str:
        """Return a digest of all that a task's demonstrations depend on."""
        facts = [
            teacher_catalogue.source_digest(),
            teacher_catalogue.source_digest(Path(__file__).parent),
            self.seed,
            dict(self.instructions),
            dataclasses.asdict(self.mix),
            self.measure.name,
            [(example.id, example.question) for example in examples],
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _write(self, teacher: Teacher[Any], examples: Sequence[Example]) -> list[Offer]:
        """Write a demonstration of each question, then revise what repeats scripts or is long."""
        planner = Planner(
            teacher, examples, seed=self.seed, mix=self.mix, instructions=self.instructions
        )
        offers: dict[int, Offer] = {}
        shortened: collections.Counter[int] = collections.Counter()
        planned = {number: planner.plan(number) for number in range(len(examples))}
        for revision in range(_REVISIONS):
            written = _run([_writing(plan) for plan in planned.values()], self.sandbox)
            scored = _score([examples[number] for number in planned], written)
            offers |= zip(planned, scored, strict=True)
            repeated = _repeated(offers)
            long = self._too_long(offers, shortened)
            shortened.update(long)
            kind = None if revision < _ANEW else "code"
            planned = {number: planner.plan(number, kind=kind) for number in repeated}
            planned |= {
                number: planner.shorter(number, has_words=shortened[number] == 1) for number in long
            }
            if not planned:
                break
        for number in _repeated(offers):
            offers[number] = Rejection.DUPLICATE
        for number, length in self._lengths(offers).items():
            if length > self.mix.max_tokens:
                offers[number] = Rejection.TOO_LONG
        return [offers[number] for number in range(len(examples))]

    def _lengths(self, offers: Mapping[int, Offer]) -> dict[int, int]:
        return {
            number: self.measure.length(offered)
            for number, offered in offers.items()
            if isinstance(offered, Demonstration)
        }

    def _too_long(self, offers: Mapping[int, Offer], shortened: Mapping[int, int]) -> list[int]:
        most, median = self.mix.max_tokens, self.mix.median_tokens
        done = {number for number, times in shortened.items() if times == _SHORTENED}
        return lengths.too_long(self._lengths(offers), done, most=most, median=median)


def _repeated(offers: Mapping[int, Offer]) -> list[int]:
    """Return the numbers of those with a script that stands in one before them."""
    seen: set[str] = set()
    found: list[int] = []
    for number, offered in sorted(offers.items()):
        if isinstance(offered, Demonstration):
            codes = {*selection.scripts_of(offered)}
            if codes & seen:
                found.append(number)
            seen |= codes
    return found


def _writing(planned: Plan | Rejection) -> Writing[Offer]:
    """Write a demonstration; what it is not to be is its reason."""
    if isinstance(planned, Rejection):
        return planned
    try:
        return (yield from writing.write(planned))
    except RejectedError as error:
        return error.reason


def _run(writings: Sequence[Writing[Offer]], sandbox: Interpreter) -> list[Offer]:
    """Advance all of them, a few at a time, each as soon as its script has run."""
    offers: dict[int, Offer] = {}
    running: dict[concurrent.futures.Future[ExecResult], tuple[int, str, int]] = {}
    waiting = list(reversed(range(len(writings))))

    def advance(number: int, result: ExecResult | None) -> None:
        try:
            code = next(writings[number]) if result is None else writings[number].send(result)
        except StopIteration as stop:
            offers[number] = stop.value
        else:
            running[sandbox.submit(code)] = (number, code, 1)

    try:
        while waiting or running:
            while waiting and len(running) < _IN_FLIGHT:
                advance(waiting.pop(), None)
            ready, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ready:
                number, code, runs = running.pop(future)
                result = future.result()
                if result.status not in SANDBOX_FAULTS:
                    advance(number, result)
                elif runs < _FAULTS:
                    running[sandbox.submit(code)] = (number, code, runs + 1)
                else:
                    raise UserError(
                        f"the sandbox failed on a demonstration ({result.status}); "
                        "run r1ci sandbox doctor"
                    )
    finally:
        for future in running:
            future.cancel()
    return [offers[number] for number in range(len(writings))]


def _score(examples: Sequence[Example], offers: Sequence[Offer]) -> list[Offer]:
    """Replace what is answered wrongly, without that being its kind, by its reason."""
    if not examples:
        return []
    pairs = [
        (example, protocol.final_answer(offered.segments[-1].text) or "")
        for example, offered in zip(examples, offers, strict=True)
        if isinstance(offered, Demonstration)
    ]
    verdicts = iter(registry.get(examples[0].task).score_all(pairs))
    return [
        offered
        if isinstance(offered, Rejection) or next(verdicts).correct == offered.correct
        else Rejection.WRONG
        for offered in offers
    ]


def _encode(offered: Offer) -> dict[str, Any]:
    if isinstance(offered, Rejection):
        return {"rejected": offered.name}
    return dataclasses.asdict(offered)


def _decode(record: dict[str, Any]) -> Offer:
    if "rejected" in record:
        return Rejection[record["rejected"]]
    segments = tuple(Segment(**segment) for segment in record.pop("segments"))
    return Demonstration(**record, segments=segments)


def _read(path: Path, mark: str) -> list[Offer] | None:
    """Read the offers of a finished task; None if it is not finished, or with other settings."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as file:
        if json.loads(file.readline())["mark"] != mark:
            return None
    return read_offers(path)


def read_offers(path: Path) -> list[Offer]:
    """Read the offers in the file of a finished task."""
    _, *lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [_decode(json.loads(line)) for line in lines]
