"""Leaderboard: models x agents by suite and split, ours next to the paper's (its Table 3).

Question   What can a model do before any training here, with each of the four agents?
Command    r1ci table bases --runs 'runs/eval-*' --format markdown|csv|latex
Needs      directories of r1ci eval MODEL; finished runs may stand beside them
Prints     a line per model and agent, the best first: mean accuracy over tasks with its interval,
           by split and suite; the paper's number and the difference where it has one. A difference
           is shown only where ours is the mean over all tasks that stand for the paper's
"""

import dataclasses
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from experiments import paper_numbers
from r1ci_jax.evaluate import results, tables
from r1ci_jax.evaluate.results import Result, RunResults
from r1ci_jax.evaluate.tables import Published

_PAPER_BASES: Final = re.compile(r"qwen2\.5-(14b|7b|3b)-instruct", re.IGNORECASE)
"""Base models of the paper, by their published names."""
_SPLITS: Final = ("test", "train", "ood")

_SAME_SETTINGS: Final = (
    "questions",
    "dataset.difficulties",
    "prompts",
    "eval.ask_for_answer",
    "limits.max_new_tokens",
    "limits.max_code_calls",
    "limits.max_observation_tokens",
)
"""What decides how hard an evaluation is, besides its tasks and the checkpoint's own wishes."""

type _Part = tuple[str, str]
"""Suite, or `all`, and split."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Line:
    """One model with one agent."""

    label: str
    agent: str
    by_part: Mapping[_Part, Sequence[Result]]
    paper: Mapping[_Part, Published]


def build(runs: Sequence[RunResults]) -> tables.Table:
    """The table for the given evaluations and runs."""
    lines = [line for run in runs for line in _lines(run)]
    seen = {part for line in lines for part in line.by_part}
    parts = sorted(seen, key=lambda part: (_SPLITS.index(part[1]), part[0] != "all", part[0]))
    every = {
        part: {each.task for line in lines for each in line.by_part.get(part, ())} for part in parts
    }
    best = sorted(lines, key=lambda line: [-_mean(line, part) for part in parts])
    shown = {part for line in lines for part in parts if part in line.paper}
    records = [_record(line, parts, every) for line in best]
    records += [_baseline(entry) for entry in paper_numbers.MAIN if entry.row == "baseline"]
    shown |= {(e.suite, e.split) for e in paper_numbers.MAIN if e.row == "baseline"} & seen
    columns = [name for part in parts for name in _columns(_name(part), has_paper=part in shown)]
    return tables.Table(
        title="Models and agents: mean accuracy over tasks, %",
        columns=("model", "agent", *columns),
        rows=tuple(
            (
                record["model"],
                record["agent"] or "-",
                *(
                    cell
                    for part in parts
                    for cell in _cells(record["parts"].get(_name(part)), has_paper=part in shown)
                ),
            )
            for record in records
        ),
        records=tuple(records),
        note=_note(runs, records),
    )


def _lines(run: RunResults) -> Iterator[_Line]:
    for (model, agent), members in results.group_by_model(run.results).items():
        by_part: dict[_Part, list[Result]] = {}
        for result in members:
            for suite in dict.fromkeys(("all", result.suite or "all")):
                by_part.setdefault((suite, result.part), []).append(result)
        yield _Line(
            label=run.label(model),
            agent=agent,
            by_part=by_part,
            paper=_paper(run, model) if agent == tables.PAPER_AGENT else {},
        )


def _paper(run: RunResults, model: str) -> dict[_Part, Published]:
    """Return the paper's numbers of the same model: of a run's row, or of its base by name."""
    row, state = run.paper_row, model
    if found := _PAPER_BASES.fullmatch(model):
        row, state = found[1].lower(), "untrained"
    return {
        (entry.suite, entry.split): entry
        for entry in paper_numbers.MAIN
        if row and (entry.row, entry.model) == (row, state)
    }


def _mean(line: _Line, part: _Part) -> float:
    found = line.by_part.get(part)
    return results.mean_over_tasks(found).mean if found else -1.0


def _record(
    line: _Line, parts: Sequence[_Part], every: Mapping[_Part, Collection[str]]
) -> dict[str, Any]:
    """Make a line's record; `every` has the tasks of all lines."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        ours, entry = line.by_part.get(part), line.paper.get(part)
        if not ours and entry is None:
            continue
        fact = _paper_fact(entry)
        if ours:
            estimate = results.mean_over_tasks(ours)
            comparable, difference = None, None
            if entry is not None and entry.value is not None:
                comparable = entry.tasks == {each.task for each in ours}
                difference = estimate.mean - entry.value if comparable else None
            fact |= {
                "tasks": len(ours),
                "is_partial": {each.task for each in ours} != every[part],
                "ours": estimate.mean,
                "interval": [estimate.low, estimate.high],
                "comparable": comparable,
                "difference": difference,
            }
        found[_name(part)] = fact
    return {"model": line.label, "agent": line.agent, "parts": found}


def _paper_fact(entry: Published | None) -> dict[str, Any]:
    return {
        "ours": None,
        "comparable": None,
        "difference": None,
        "paper": entry.value if entry else None,
        "grade": entry.grade if entry else "",
        "paper_note": entry.note if entry else "",
        "is_missing": entry.missing if entry else False,
    }


def _baseline(entry: Published) -> dict[str, Any]:
    """Make the record of a model that the paper alone has."""
    return {
        "model": f"{entry.model} (paper)",
        "agent": "",
        "parts": {_name((entry.suite, entry.split)): _paper_fact(entry)},
    }


def _name(part: _Part) -> str:
    suite, split = part
    return split if suite == "all" else f"{suite} {split}"


def _columns(name: str, *, has_paper: bool) -> tuple[str, ...]:
    return (name, "paper", "difference") if has_paper else (name,)


def _cells(fact: Mapping[str, Any] | None, *, has_paper: bool) -> tuple[str, ...]:
    count = 3 if has_paper else 1
    if fact is None:
        return ("-",) * count
    ours = "-"
    if fact["ours"] is not None:
        low, high = fact["interval"]
        ours = f"{fact['ours']:.1f}{'*' * fact['is_partial']} ({low:.1f} to {high:.1f})"
    paper = "missing" if fact["is_missing"] else "-"
    if fact["paper"] is not None:
        paper = f"{fact['paper']:.1f} {fact['grade']}"
    difference = "-" if fact["difference"] is None else f"{fact['difference']:+.1f}"
    if fact["comparable"] is False:
        difference = tables.NOT_COMPARABLE
    return (ours, paper, difference)[:count]


def _note(runs: Sequence[RunResults], records: Sequence[Mapping[str, Any]]) -> str:
    facts = [fact for record in records for fact in record["parts"].values()]
    sentences = [
        "In brackets the 95 % interval for other questions, made of Wilson's of each task. "
        "Letters: confidence in the paper's number (A, B, C), see "
        f"experiments/paper_numbers.py. {paper_numbers.OTHER_TASKS}"
    ]
    if any(fact.get("is_partial") for fact in facts):
        sentences.append("*: over other tasks than others of its column, so not comparable.")
    sentences += _differences(runs)
    if any(fact["comparable"] is False for fact in facts):
        sentences.append(f"{tables.NOT_COMPARABLE}: ours is not the mean over all those tasks.")
    sentences += dict.fromkeys(
        f"{record['model']} {fact['paper']} of the paper: {fact['paper_note']}."
        for record in records
        for fact in record["parts"].values()
        if fact["paper"] is not None and fact["paper_note"]
    )
    return " ".join([*sentences, *dict.fromkeys(run.note for run in runs if run.note)])


def _differences(runs: Sequence[RunResults]) -> list[str]:
    """Say in which settings the evaluations differ that are the same for comparable ones."""
    evaluations = [json.loads(run.settings) for run in runs]
    evaluations = [each for each in evaluations if "questions" in each]
    found = []
    for name in _SAME_SETTINGS:
        values = dict.fromkeys(json.dumps(_look_up(each, name)) for each in evaluations)
        if len(values) > 1:
            found.append(f"{name} ({', '.join(values)})")
    return [f"The evaluations differ in {'; '.join(found)}, so compare with care."] if found else []


def _look_up(settings: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        settings = settings.get(part, {})
    return settings


if __name__ == "__main__":
    from r1ci_jax.cli.main import main

    sys.exit(main(["table", "bases", *sys.argv[1:]]))
