"""Ablations next to the whole method, with what the paper found.

Question   What does each part of the method add?
Command    r1ci table ablation --runs 'runs/ablation-*'
           r1ci table ablation --runs runs/curriculum-controls-demo
Needs      finished runs of the files in experiments/ablations/, and of full_method.py in the same
           size (or of r1ci_14b.py or toy.py); or one run with several arms
Prints     accuracy, its difference from the whole method over the tasks that both have, and what
           the paper found. Most of the paper's numbers are not known, only their direction
"""

import dataclasses
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from experiments import paper_numbers
from experiments.ablations import ablation
from r1ci_jax.config import ARM_PREFIX
from r1ci_jax.evaluate import results, tables
from r1ci_jax.evaluate.results import Result, RunResults

WHOLE: Final = "grpo_curriculum"
"""Model of the whole method."""
CONTROL: Final = "full_method"
"""File of the run that the others are compared with."""

_WHOLE_RUNS: Final = {ablation.base(size).name: size or "14b" for size in ablation.VARIANTS}
"""Runs that are the whole method too, by their names, with their sizes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation:
    """One row of the paper's ablations."""

    name: str
    """File in experiments/ablations/."""
    label: str
    models: tuple[tuple[str, str], ...] = ((WHOLE, WHOLE),)
    """Models of its run that are compared, each with its model of the whole method's run."""
    place: str
    """Table or figure of the paper."""
    finding: str = ""
    """What the paper found, where no source has the number."""
    paper_model: str = ""
    """Model of the paper's main table that has the number; empty: it is not known."""


_AFTER_SFT = (("sft", "sft"), (WHOLE, WHOLE))

ABLATIONS: Final = (
    Ablation(name=CONTROL, label="whole method", place="Table 3", paper_model=WHOLE),
    Ablation(
        name="no_curriculum",
        label="no curriculum",
        models=(("grpo_uniform", WHOLE),),
        place="Table 3",
        finding="+3.4 points in place of +9.3, mean of three sizes (A)",
        paper_model="grpo_uniform",
    ),
    Ablation(
        name="difficulty_order",
        label="stages by difficulty",
        models=(("grpo_difficulty", WHOLE),),
        place="Table 3",
        finding="lower at every size (A)",
    ),
    Ablation(
        name="no_grpo",
        label="no GRPO",
        models=(("sft", WHOLE),),
        place="Table 3",
        finding="lower (A)",
        paper_model="sft",
    ),
    Ablation(
        name="no_sft",
        label="no SFT",
        models=(("grpo_no_sft", WHOLE),),
        place="Fig. 15",
        finding="almost no gain over the untrained model (A)",
    ),
    Ablation(
        name="wrong_trajectories",
        label="wrong trajectories in SFT",
        models=_AFTER_SFT,
        place="Fig. 9b",
        finding="lower, with more variance (A)",
    ),
    Ablation(
        name="no_prompt_variety",
        label="one prompt in SFT",
        models=_AFTER_SFT,
        place="Fig. 9b",
        finding="lower (A)",
    ),
    Ablation(
        name="single_turn",
        label="one script at most",
        models=_AFTER_SFT,
        place="Fig. 9",
        finding="clearly lower without emphasis on many turns (A)",
    ),
    Ablation(
        name="no_observation_mask",
        label="loss on observations",
        models=_AFTER_SFT,
        place="version 1",
        finding="not known",
    ),
    Ablation(
        name="rl_algorithm",
        label="Reinforce++",
        models=(("grpo_reinforce_plus_plus", WHOLE),),
        place="Fig. 7",
        finding="about the same (A)",
    ),
    Ablation(
        name="rl_algorithm",
        label="PPO",
        models=(("grpo_ppo", WHOLE),),
        place="Fig. 7",
        finding="about the same (A)",
    ),
    Ablation(
        name="online_grouping",
        label="groups measured again",
        models=(("grpo_online", WHOLE),),
        place="text",
        finding="about the same, reached sooner (B)",
    ),
    Ablation(
        name="distilled_base",
        label="DeepSeek-distilled base",
        models=_AFTER_SFT,
        place="Table 5",
        finding="lower (A)",
    ),
)
"""In the order of the table. The task count has a figure, `r1ci figure task_count`."""


def build(runs: Sequence[RunResults]) -> tables.Table:
    """The table for the given runs."""
    records = [*_records(runs)]
    notes = [
        "Mean over the tasks for testing, or for training where there are no others; difference: "
        "from the whole method, over the tasks that both have. Paper: accuracy, and its grade.",
        *_missing_controls(records),
        *(run.note for run in runs if run.note),
    ]
    return tables.Table(
        title="Ablations: accuracy, %",
        columns=(
            "ablation",
            "size",
            "model",
            "of",
            "ours",
            "difference",
            "paper",
            "found",
            "where",
        ),
        rows=tuple(_cells(record) for record in records),
        records=tuple(records),
        note=" ".join(notes),
    )


def _records(runs: Sequence[RunResults]) -> Iterator[dict[str, Any]]:
    """Yield a record per ablation, size and model; repetitions of a run are averaged."""
    named: dict[tuple[str, str], list[RunResults]] = {}
    for run in runs:
        if (key := _parse_name(run.name)) is not None:
            named.setdefault(key, []).append(run)
    by_name = {key: tables.group_repetitions(members) for key, members in named.items()}
    others = tables.group_repetitions([run for run in runs if _parse_name(run.name) is None])
    for each in ABLATIONS:
        for (name, size), groups in by_name.items():
            if name == each.name:
                [control, *_] = by_name.get((CONTROL, size), [[]])
                for group in groups:
                    for model, against in each.models:
                        yield _record(each, size, group, model, control, against)
    for group in others:
        yield from _arms(group)


def _parse_name(name: str) -> tuple[str, str] | None:
    """Return file and size of a run by its name; None: it is of no ablation."""
    if size := _WHOLE_RUNS.get(name):
        return CONTROL, size
    for each in ABLATIONS:
        prefix = ablation.run_prefix(each.name)
        if name.startswith(prefix):
            return each.name, name.removeprefix(prefix)
    return None


def _arms(group: Sequence[RunResults]) -> Iterator[dict[str, Any]]:
    """Yield a record per arm of a run, compared with its own curriculum."""
    models = dict.fromkeys(result.model for run in group for result in run.results)
    for model in models:
        if model.startswith(ARM_PREFIX):
            label = results.model_name(model).rpartition(", ")[2]
            arm = Ablation(name=group[0].name, label=label, place="-")
            yield _record(arm, group[0].name, group, model, group, WHOLE)


def _record(
    each: Ablation,
    size: str,
    group: Sequence[RunResults],
    model: str,
    control: Sequence[RunResults],
    against: str,
) -> dict[str, Any]:
    ours, part = _by_task(group, model)
    theirs, _ = _by_task(control, against, part)
    tasks = [task for task in ours[0] if all(task in run for run in ours)] if ours else []
    both = [task for task in tasks if theirs and all(task in run for run in theirs)]
    means = [results.mean_over_tasks([run[task] for task in tasks]) for run in ours if tasks]
    return {
        "ablation": each.label,
        "size": size,
        "model": model,
        "part": part,
        "tasks": len(tasks),
        "runs": len(means),
        "ours": statistics.fmean(mean.mean for mean in means) if means else None,
        "interval": [means[0].low, means[0].high] if len(means) == 1 else None,
        "spread": statistics.stdev(mean.mean for mean in means) if len(means) > 1 else None,
        "difference": _mean(ours, both) - _mean(theirs, both) if both else None,
        "is_control": (each.name, model) == (CONTROL, WHOLE) or ours == theirs,
        **_paper(each, size),
    }


def _paper(each: Ablation, size: str) -> dict[str, Any]:
    """Return what is known of the paper's row in this size."""
    known = [
        entry
        for entry in paper_numbers.MAIN
        if (entry.row, entry.model, entry.suite) == (size, each.paper_model, "all")
        and entry.value is not None
    ]
    return {
        "paper": known[0].value if known else None,
        "grade": known[0].grade if known else "",
        "found": each.finding,
        "place": each.place,
    }


def _by_task(
    group: Sequence[RunResults], model: str, part: str | None = None
) -> tuple[list[Mapping[str, Result]], str]:
    """Map the tasks of each run to a model's results: those for testing, or else for training."""
    found = [
        [r for r in run.results if (r.model, r.agent) == (model, tables.PAPER_AGENT)]
        for run in group
    ]
    parts = {result.part for run in found for result in run}
    part = part or ("test" if "test" in parts else "train")
    by_task = [{r.task: r for r in run if r.part == part} for run in found]
    return [run for run in by_task if run], part


def _mean(runs: Sequence[Mapping[str, Result]], tasks: Sequence[str]) -> float:
    return statistics.fmean(
        results.mean_over_tasks([run[task] for task in tasks]).mean for run in runs
    )


def _missing_controls(records: Sequence[Mapping[str, Any]]) -> list[str]:
    lonely = {
        record["size"]
        for record in records
        if record["ours"] is not None and record["difference"] is None
    }
    return [
        f"{size}: no run of the whole method to compare with (experiments/ablations/{CONTROL}.py)."
        for size in sorted(lonely)
    ]


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    ours = "-" if record["ours"] is None else f"{record['ours']:.1f}"
    if record["interval"] is not None:
        ours += " ({:.1f} to {:.1f})".format(*record["interval"])
    if record["spread"] is not None:
        ours += f" ± {record['spread']:.1f} ({record['runs']} runs)"
    difference = "-"
    if record["difference"] is not None and not record["is_control"]:
        difference = f"{record['difference']:+.1f}"
    return (
        record["ablation"],
        record["size"],
        "-" if record["model"] == "-" else results.model_name(record["model"]),
        f"{record['tasks']} {record['part']}" if record["tasks"] else "-",
        ours,
        difference,
        "-" if record["paper"] is None else f"{record['paper']:.1f} {record['grade']}",
        record["found"] or "-",
        record["place"],
    )


if __name__ == "__main__":
    from r1ci_jax.cli.main import main

    sys.exit(main(["table", "ablation", *sys.argv[1:]]))
