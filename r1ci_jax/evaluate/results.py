"""Read the results of a run: the records of results.jsonl, one per model, agent and task."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1ci_jax import renamed
from r1ci_jax.config import ARM_PREFIX, BASE_MODELS, COLD_ARM_PREFIX
from r1ci_jax.errors import UserError
from r1ci_jax.evaluate import intervals
from r1ci_jax.evaluate.intervals import Counts, Estimate
from r1ci_jax.runtime import json_reader, metrics, run_dir

EVALUATION_FILE = "eval.json"
"""Settings of an evaluation by `r1ci eval MODEL`, whose directory is no run."""

RESULT_KEY = ("model", "agent", "task")
"""Keys that identify a record of results.jsonl."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One line of results.jsonl: one model with one agent on one task."""

    model: str
    agent: str
    """code_agent, all_text, all_code, codesteer, or the name of a user's own."""
    task: str
    n: int
    """Number of scored trajectories."""
    correct: int
    suite: str = ""
    split: str = "test"
    """train or test."""
    void: int = 0
    """Number of trajectories whose interpreter failed; they are not among `n`."""
    majority: float | None = None
    """Fraction of the questions that have the most common gold: what a constant answer scores."""
    questions: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    """Answers and correct answers by question; empty in records of an earlier version."""
    stops: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of trajectories by stop reason."""
    too_long: int = 0
    """Number of questions whose prompt did not fit into the cache; they were not asked."""
    code_calls_per_trajectory: float | None = None
    used_code_fraction: float | None = None
    tokens_per_trajectory: float | None = None
    """Sampled tokens per trajectory; None in records of an earlier version."""
    difficulty: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def part(self) -> str:
        """Return what the task is averaged with: train, test, or ood (unlike all trained on)."""
        return "ood" if self.suite == "ood" else self.split

    @property
    def percent(self) -> float:
        """Return the accuracy in percent."""
        return 100 * self.correct / self.n

    @property
    def counts_by_question(self) -> dict[str, Counts]:
        """Return the counts by the question's id; empty in records of an earlier version."""
        return {question: Counts(n, right) for question, (n, right) in self.questions.items()}

    @property
    def counts(self) -> list[Counts]:
        """Return the counts by question; without any, each answer stands for a question."""
        if self.questions:
            return list(self.counts_by_question.values())
        wrong = self.n - self.correct
        return [Counts(1, 1)] * self.correct + [Counts(1, 0)] * wrong


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunResults:
    """Results of one run, and the paper's group that they are compared with."""

    path: Path
    name: str
    paper_row: str
    settings: str
    """Config without name, seeds and arms, as text."""
    arms: Mapping[str, str]
    """The settings of each arm, as text."""
    results: tuple[Result, ...]
    note: str = ""
    """Sentence on what the records cannot tell."""

    def repeats(self, other: "RunResults") -> bool:
        """Whether the two differ by name and seeds only; one may lack arms that the other has.

        Rematerialization may differ too: it decides about memory and time, not about results.
        """
        common = self.arms.keys() & other.arms.keys()
        alike = all(self.arms[name] == other.arms[name] for name in common)
        return self.settings == other.settings and alike

    def label(self, model: str) -> str:
        """Return a model's name beside those of other runs; an evaluation has one, its own."""
        return model if model == self.name else f"{self.name}: {model_name(model)}"


def read_run(path: Path) -> RunResults:
    """Read the results of a run, or of an evaluation; the last of several records of a key counts.

    Raises:
        UserError: There are no results, or an earlier version wrote them.
    """
    config, deviations = _read_config(path)
    name, file = config["name"], path / "results.jsonl"
    every = metrics.read(file)
    # A task whose every trajectory lost its interpreter has no accuracy.
    records = [record for record in every if record.get("n") != 0]
    if every and not records and not any(_lost_tasks(every)):
        raise UserError(f"{path}: no prompt fits into the cache; evaluate with a larger --context")
    if not records:
        raise UserError(f"{path} has no results yet: finish it with r1ci run or r1ci eval")
    latest = {tuple(str(record.get(key)) for key in RESULT_KEY): record for record in records}
    results = [_parse_result(file, record) for record in latest.values()]
    order = {model: index for index, model in enumerate(list_models(config))}
    results.sort(key=lambda result: order.get(result.model, len(order)))
    apart = ("name", "seed", "data_seed", "arms")
    settings = {key: value for key, value in config.items() if key not in apart}
    if "train" in settings:  # What is recomputed for the backward pass changes no result.
        settings["train"] = {k: v for k, v in settings["train"].items() if k != "remat"}
    notes = [
        *_lost_tasks(every),
        *_too_long(every),
        *_missing_counts(path, config, results),
        *(f"{name}: {each}." for each in deviations),
    ]
    return RunResults(
        path=path,
        name=name,
        paper_row=config.get("paper_row", ""),
        settings=json.dumps(settings, sort_keys=True),
        arms={arm["name"]: json.dumps(arm, sort_keys=True) for arm in config.get("arms", ())},
        results=tuple(results),
        note=" ".join(notes),
    )


def _read_config(path: Path) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Return an experiment, or an evaluation's settings and what in it is not as it should be."""
    file = path / EVALUATION_FILE
    if not file.is_file():
        return run_dir.RunDir.view(path).config["experiment"], ()
    found = json_reader.load_object(file, f"delete {path}")
    if not isinstance(found.get("settings"), dict) or "name" not in found["settings"]:
        raise UserError(f"{file} has no settings; delete {path}")
    return found["settings"], found.get("deviations", ())


def _lost_tasks(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Say which tasks have no accuracy because the interpreter failed in every trajectory."""
    lost = [each for each in records if each.get("n") == 0 and each.get("void", 1)]
    names = dict.fromkeys(f"{record.get('task')} ({record.get('model')})" for record in lost)
    if names:
        yield f"Left out, for their interpreter always failed: {', '.join(names)}."


def _too_long(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Say how many questions were not asked because they do not fit into the cache."""
    left_out = {
        (each["model"], each["agent"], each["task"]): each["too_long"]
        for each in records
        if each.get("too_long")
    }
    if left_out:
        tasks = dict.fromkeys(task for _, _, task in left_out)
        yield (
            f"Not asked and not counted, for the prompt does not fit into the cache: "
            f"{sum(left_out.values())} questions ({', '.join(tasks)})."
        )


def _missing_counts(
    path: Path, config: Mapping[str, Any], results: Iterable[Result]
) -> Iterator[str]:
    """Say whose intervals are too narrow: of several answers a question, counts are needed."""
    several = config.get("eval", {}).get("samples_per_question", 1) > 1
    if several and not all(result.questions for result in results):
        yield (
            f"{path.name}: an earlier version wrote records without counts by question; their "
            "intervals take all answers for independent ones and are too narrow, repeat the "
            "evaluation."
        )


def _parse_result(path: Path, record: Mapping[str, Any]) -> Result:
    for old, new in renamed.RESULT_KEYS.items():
        if old in record:
            advice = f"write the new key into every record of {path}, or repeat the evaluation"
            raise UserError(renamed.explain(f'"{old}"', f'"{new}"', advice))
    known = {field.name for field in dataclasses.fields(Result)}
    try:
        result = Result(**{key: value for key, value in record.items() if key in known})
    except TypeError as error:
        raise UserError(f"{path}: a record lacks keys ({error}); repeat the evaluation") from None
    counts = result.counts if 0 <= result.correct <= result.n else []
    sums = sum(each.n for each in counts), sum(each.correct for each in counts)
    if sums != (result.n, result.correct) or any(not 0 <= c <= n for n, c in counts):
        raise UserError(
            f"{path}: {result.correct} of {result.n} correct cannot be, or are not the sum over "
            f"the questions of {result.task}; repeat the evaluation"
        )
    return result


def model_name(model: str) -> str:
    """Return the name of a model in tables: grpo_uniform is SFT + GRPO, uniform."""
    if model.startswith(COLD_ARM_PREFIX):
        return f"GRPO without SFT{model.removeprefix(COLD_ARM_PREFIX).replace('_', ' ')}"
    if model.startswith(ARM_PREFIX):
        return f"SFT + GRPO, {model.removeprefix(ARM_PREFIX).replace('_', ' ')}"
    return "SFT" if model == "sft" else model


def list_models(experiment: Mapping[str, Any]) -> list[str]:
    """List the models of an experiment as config.json holds it, in the order of training."""
    return [*BASE_MODELS, *(arm["name"] for arm in experiment.get("arms", ()))]


def mean_over_tasks(results: Sequence[Result]) -> Estimate:
    """Estimate the mean accuracy over tasks."""
    return intervals.mean_of_tasks([result.counts for result in results])


def mean_majority(results: Iterable[Result]) -> float | None:
    """Compute what constant answers score in percent: the mean over tasks where it is known."""
    known = [100 * each.majority for each in results if each.majority is not None]
    return sum(known) / len(known) if known else None


def group_by_model(results: Iterable[Result]) -> dict[tuple[str, str], list[Result]]:
    """Group results by (model, agent), in the order of `RunResults.results`."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.model, result.agent), []).append(result)
    return found


def group_by_model_and_split(
    results: Iterable[Result],
) -> dict[tuple[str, str, str], list[Result]]:
    """Group results so that tasks trained on, never seen, and unlike these are averaged apart."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for (model, agent), members in group_by_model(results).items():
        for result in members:
            found.setdefault((model, agent, result.part), []).append(result)
    return found


def weighted_mean(results: Sequence[Result], field: str) -> float | None:
    """Average a metric over all trajectories; return None if a task lacks it."""
    values = [getattr(result, field) for result in results]
    if any(value is None for value in values):
        return None
    total = sum(result.n for result in results)
    return sum(value * result.n for value, result in zip(values, results, strict=True)) / total
