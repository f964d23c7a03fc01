"""What each training added: accuracy against the model that it started from, with an interval.

Question   Did SFT help, did GRPO help on top, and did the curriculum's order?
Command    r1ci table gains --runs runs/NAME [runs/NAME-1 ...]
Needs      results of two models on the same questions
Prints     a row per pair of models, agent and split: mean over the tasks of both, their difference
           with its 95 % interval, and what that says; of repetitions with other seeds also a row
           with the mean difference, the smallest and the largest

Compared are SFT with the untrained model, an arm of GRPO with the model that it starts from, and
the curriculum with every other arm. Both models answer the same questions, so questions are drawn
anew in pairs (`r1ci_jax/evaluate/bootstrap.py`): the interval is about other questions, not about
another seed of the training, which moves results further where the runs are small. Where every pair
of answers is alike it has no width.
"""

import dataclasses
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from r1ci_jax.config import ARM_PREFIX, BASE_MODELS, COLD_ARM_PREFIX
from r1ci_jax.evaluate import bootstrap, results, tables
from r1ci_jax.evaluate.intervals import Difference
from r1ci_jax.evaluate.results import Result, RunResults

UNTRAINED, SFT = BASE_MODELS
CURRICULUM: Final = f"{ARM_PREFIX}curriculum"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gain:
    """One model less another, with one agent on the tasks of one split."""

    run: str
    model: str
    against: str
    agent: str
    split: str
    tasks: int
    questions: int
    before: float
    """Mean over tasks of `against`, in percent."""
    after: float
    """Of `model`."""
    difference: Difference
    """after - before; its interval is for other questions of the same tasks."""

    @property
    def verdict(self) -> str:
        """Return what the interval says."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "no difference shown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repetitions:
    """The same comparison in runs that differ by their seeds alone."""

    runs: tuple[str, ...]
    model: str
    against: str
    agent: str
    split: str
    before: float
    """Mean over the runs."""
    after: float
    difference: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, members: Sequence[Gain]) -> "Repetitions":
        """Summarize the comparisons of several runs."""
        found = [each.difference.mean for each in members]
        first = members[0]
        return cls(
            runs=tuple(each.run for each in members),
            model=first.model,
            against=first.against,
            agent=first.agent,
            split=first.split,
            before=statistics.mean(each.before for each in members),
            after=statistics.mean(each.after for each in members),
            difference=statistics.mean(found),
            smallest=min(found),
            largest=max(found),
        )

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        return (
            f"{len(self.runs)} runs",
            results.model_name(self.model),
            results.model_name(self.against),
            self.agent,
            self.split,
            "",
            "",
            f"{self.before:.1f}",
            f"{self.after:.1f}",
            f"{self.difference:+.1f}",
            f"runs: {self.smallest:+.1f} to {self.largest:+.1f}",
        )


def build(runs: Sequence[RunResults]) -> tables.Table:
    """The table for the given runs."""
    gains: list[Gain] = []
    repeated: list[Repetitions] = []
    notes: list[str] = []
    for group in tables.group_repetitions(runs):
        found = {run.path: list(_gains(run)) for run in group}
        of_group = [gain for each in found.values() for gain in each]
        gains += of_group
        repeated += _summarize(of_group)
        notes += [
            f"{run.name}: left out, no two of its models answered the same questions."
            for run in group
            if not found[run.path]
        ]
    return tables.Table(
        title="What each training added, %",
        columns=(
            "run",
            "model",
            "against",
            "agent",
            "split",
            "tasks",
            "questions",
            "before",
            "after",
            "difference (95 %)",
            "verdict",
        ),
        rows=tuple(_row(each) for each in gains) + tuple(each.row() for each in repeated),
        records=(
            *(_record(each) for each in gains),
            *(dataclasses.asdict(each) for each in repeated),
        ),
        note=" ".join([*notes, *dict.fromkeys(run.note for run in runs if run.note)]),
    )


def _summarize(gains: Sequence[Gain]) -> list[Repetitions]:
    """Summarize each comparison that several of these repetitions made."""
    same: dict[tuple[str, ...], list[Gain]] = {}
    for each in gains:
        same.setdefault((each.model, each.against, each.agent, each.split), []).append(each)
    return [Repetitions.of(members) for members in same.values() if len(members) > 1]


def pair_models(models: Sequence[str]) -> list[tuple[str, str]]:
    """List (model, the one that it is compared with) of a run's models, in their order."""
    starts = ((model, _start(model)) for model in models)
    pairs = [(model, start) for model, start in starts if start is not None and start in models]
    others = [each for each in models if _start(each) == SFT and each != CURRICULUM]
    if CURRICULUM in models:
        pairs += [(CURRICULUM, other) for other in others]
    return pairs


def _start(model: str) -> str | None:
    """Return the model that this one was trained from."""
    if model == SFT or model.startswith(COLD_ARM_PREFIX):
        return UNTRAINED
    return SFT if model.startswith(ARM_PREFIX) else None


def _gains(run: RunResults) -> Iterator[Gain]:
    """Yield the run's comparisons, those of one pair together."""
    by_model = results.group_by_model_and_split(run.results)
    models = list(dict.fromkeys(model for model, _, _ in by_model))
    for model, against in pair_models(models):
        for (name, agent, split), after in by_model.items():
            if name != model or (against, agent, split) not in by_model:
                continue
            pairs = pair_questions(by_model[against, agent, split], after)
            if pairs:
                before, mean = bootstrap.means_of_pairs(pairs)
                yield Gain(
                    run=run.path.name,
                    model=model,
                    against=against,
                    agent=agent,
                    split=split,
                    tasks=len(pairs),
                    questions=sum(map(len, pairs)),
                    before=before,
                    after=mean,
                    difference=Difference(mean - before, *bootstrap.of_difference(pairs)),
                )


def pair_questions(before: Sequence[Result], after: Sequence[Result]) -> list[list[bootstrap.Pair]]:
    """Pair the answers of two models to each question that both answered, task by task."""
    known = {result.task: result.counts_by_question for result in before}
    tasks = []
    for result in after:
        theirs, ours = known.get(result.task, {}), result.counts_by_question
        shared = [
            bootstrap.Pair(theirs[question], counts)
            for question, counts in ours.items()
            if counts.n and question in theirs and theirs[question].n
        ]
        if shared:
            tasks.append(shared)
    return tasks


def _row(gain: Gain) -> tuple[str, ...]:
    return (
        gain.run,
        results.model_name(gain.model),
        results.model_name(gain.against),
        gain.agent,
        gain.split,
        str(gain.tasks),
        str(gain.questions),
        f"{gain.before:.1f}",
        f"{gain.after:.1f}",
        str(gain.difference),
        gain.verdict,
    )


def _record(gain: Gain) -> dict[str, Any]:
    mean, *interval = gain.difference
    facts = {"difference": mean, "interval": interval, "verdict": gain.verdict}
    return dataclasses.asdict(gain) | facts


if __name__ == "__main__":
    from r1ci_jax.cli.main import main

    sys.exit(main(["table", "gains", *sys.argv[1:]]))
