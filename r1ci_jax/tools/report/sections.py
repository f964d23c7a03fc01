"""Sections of the report about what a run measured: accuracy, curriculum, ends, time, reward."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.config import PotentialConfig
from r1ci_jax.curriculum import potential
from r1ci_jax.evaluate import tables
from r1ci_jax.runtime.metrics import Record
from r1ci_jax.runtime.progress import format_duration
from r1ci_jax.tools.report import batch_parts, markup
from r1ci_jax.tools.report.learning_curves import NUM_COLORS

NEARLY_ALL = 0.9
"""Fraction of the questions in one potential group from which on the page says what it means."""

NO_RESULTS = "<p>No results yet.</p>"


def draw_accuracy(
    results: tables.RunResults, colors: Mapping[str, int], *, prefix: str = ""
) -> str:
    """Draw a bar for each model and agent, with the number that the table has."""
    table = tables.build_results_table(results)
    mean = table.columns.index("mean")
    has_splits = len({record["split"] for record in table.records}) > 1
    return "".join(
        markup.bar(
            f"{prefix}{tables.model_name(record['model'])}{_agent_suffix(record['agent'])}"
            + (f", {record['split']} tasks" if has_splits else ""),
            record["accuracy"],
            colors.get(record["model"], NUM_COLORS - 1),
            f"{row[mean]} %",
        )
        for record, row in zip(table.records, table.rows, strict=False)  # rows: a constant's too
    )


def results_tables(results: tables.RunResults) -> str:
    """Render accuracy by model, by task and by difficulty."""
    main, by_task = tables.build_results_table(results), tables.build_tasks_table(results)
    return (
        f"{markup.table(main.columns, main.rows)}<p>{markup.escape(main.note)}</p>"
        "<details><summary>By task</summary>"
        f"{markup.table(by_task.columns, by_task.rows)}</details>{_difficulty(results)}"
    )


def _agent_suffix(agent: str) -> str:
    return "" if agent == tables.PAPER_AGENT else f" ({agent})"


def _difficulty(results: tables.RunResults) -> str:
    """Render accuracy by difficulty level over all tasks; nothing when the records have none."""
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for result in results.results:
        if result.agent == tables.PAPER_AGENT:
            for level, counts in result.difficulty.items():
                sums[result.model, level].update(n=counts["n"], correct=counts["correct"])
    levels = sorted({level for _, level in sums}, key=lambda level: (len(level), level))
    if not levels:
        return ""
    rows = []
    for model in dict.fromkeys(model for model, _ in sums):
        cells = (sums[model, level] for level in levels)
        fractions = (f"{100 * c['correct'] / c['n']:.1f}" if c["n"] else "-" for c in cells)
        rows.append((tables.model_name(model), *fractions))
    heads = ("model", *(f"level {level}" for level in levels))
    return f"<details><summary>By difficulty</summary>{markup.table(heads, rows)}</details>"


def training_parts(path: Path) -> str:
    """Render what the last steps of each training were like, by kind of part."""
    parts = batch_parts.read_tables(path, tables.model_name)
    return "".join(
        f"<details><summary>By {markup.escape(kind.replace('_', ' '))}, "
        f"last {batch_parts.STEPS} steps</summary>"
        f"{markup.table(batch_parts.HEADERS, rows)}</details>"
        for kind, rows in parts.items()
    )


def _grouping(settings: Mapping[str, Any]) -> PotentialConfig:
    """Return those settings that decide on groups; an earlier version's lack some others."""
    return PotentialConfig(
        lower_bounds=tuple(settings["lower_bounds"]),
        chance_corrected=settings.get("chance_corrected", False),
    )


def curriculum(records: Sequence[Record], settings: Mapping[str, Any]) -> str:
    """Render the potential groups: sizes, uncertainty, tasks."""
    if not records:
        return "<p>No potential measured yet.</p>"
    groups = sorted({record["group"] for record in records})
    sizes = Counter(record["group"] for record in records)
    by_task: dict[str, Counter[int]] = defaultdict(Counter)
    for record in records:
        by_task[record["task"]][record["group"]] += 1
    bars = "".join(
        markup.bar(f"group {group}", sizes[group] / len(records), 3, f"{sizes[group]} questions")
        for group in groups
    )
    headers = ("task", *(f"group {group}" for group in groups), "mean p", "mean potential")
    body = [
        (
            task,
            *(str(counts[group]) for group in groups),
            *(
                _mean(record[key] for record in records if record["task"] == task)
                for key in ("p", "potential")
            ),
        )
        for task, counts in by_task.items()
    ]
    return (
        "<p>Potential 4p(1-p) of a question, p its fraction of correct answers by the SFT model. "
        f"Stage s trains on groups 1 to s.</p>{bars}{_one_group_note(sizes)}"
        f"{_uncertainty(records, _grouping(settings))}{markup.table(headers, body)}"
    )


def _one_group_note(sizes: Mapping[int, int]) -> str:
    """Say that a curriculum over one group orders nothing; nothing where there are several."""
    total = sum(sizes.values())
    group, size = max(sizes.items(), key=lambda each: each[1])
    if size < NEARLY_ALL * total:
        return ""
    return (
        f'<p class="note">{size} of {total} questions are in group {markup.escape(group)}: all '
        "stages draw from nearly the same questions, so this run says next to nothing about their "
        "order.</p>"
    )


def _uncertainty(records: Sequence[Record], config: PotentialConfig) -> str:
    """Show how far few answers decide on p and the group; nothing for records without intervals."""
    rows = []
    for group in sorted({record["group"] for record in records}):
        members = [r for r in records if r["group"] == group and {"p_low", "p_high"} <= r.keys()]
        if not members:
            continue
        spans = [
            potential.possible_groups(
                record["p_low"], record["p_high"], config, chance=record.get("chance", 0.0)
            )
            for record in members
        ]
        rows.append(
            (
                f"group {group}",
                str(len(members)),
                *(_mean(record[key] for record in members) for key in ("p", "p_low", "p_high")),
                str(sum(first < last for first, last in spans)),
            )
        )
    if not rows:
        return ""
    heads = ("group", "questions", "mean p", "mean low", "mean high", "may be of another group")
    return (
        "<p>The 95 % interval of p (Wilson's, from a question's answers): mean ends by group, and "
        f"the questions whose interval reaches into another group.</p>{markup.table(heads, rows)}"
    )


def _mean(values: Iterable[float]) -> str:
    numbers = list(values)
    return f"{sum(numbers) / len(numbers):.2f}"


def stops(results: tables.RunResults) -> str:
    """Render how often trajectories ended for which reason."""
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for result in results.results:
        sums[result.model, result.agent].update(result.stops)
    reasons = list(dict.fromkeys(reason for counts in sums.values() for reason in counts))
    body = [
        (
            tables.model_name(model),
            agent,
            *(f"{100 * counts[reason] / max(1, counts.total()):.1f}" for reason in reasons),
        )
        for (model, agent), counts in sums.items()
    ]
    return markup.table(("model", "agent", *(f"{reason}, %" for reason in reasons)), body)


def times(
    records: Sequence[Record], stages: Mapping[str, Mapping[str, Any]], created: float
) -> str:
    """Render how long each stage took, and what its steps spent time on."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        spent = {name: record[name] or 0.0 for name in record if _is_seconds(name)}
        sums[record["stage"]].update(spent)
    kinds = list(dict.fromkeys(kind for counts in sums.values() for kind in counts))
    walls = _wall_seconds(records, stages, created)
    if not walls:
        return "<p>No times logged yet.</p>"
    body = [
        (stage, format_duration(seconds), *(_duration(sums[stage], kind) for kind in kinds))
        for stage, seconds in walls.items()
    ]
    all_kinds = sum(sums.values(), Counter())
    total = ("total", format_duration(sum(walls.values())))
    heads = (_KIND_NAMES.get(kind, kind.removeprefix("time/")) for kind in kinds)
    return (
        "<p>From the end of the stage before to the end of the stage, pauses of a stopped run "
        "counted; then the seconds that its steps logged. Sandbox: the part of the rollout in "
        "which all slots waited for scripts.</p>"
        + markup.table(
            ("stage", "in all", *heads),
            [*body, (*total, *(_duration(all_kinds, kind) for kind in kinds))],
            total=True,
        )
    )


_KIND_NAMES = {"time/sandbox": "of it sandbox"}


def _is_seconds(name: str) -> bool:
    return name.startswith("time/") and not name.endswith("_fraction")


def _duration(counts: Mapping[str, float], kind: str) -> str:
    return format_duration(counts[kind]) if kind in counts else "-"


def _wall_seconds(
    records: Sequence[Record], stages: Mapping[str, Mapping[str, Any]], created: float
) -> dict[str, float]:
    """Return the seconds of each stage and arm; one that goes on counts to its last record."""
    ends = {"data": stages["data"]["time"]} if "data" in stages else {}
    for record in records:
        ends[record["stage"]] = record["time"]
    ends |= {name: stages[name]["time"] for name in ("sft", "potential", "eval") if name in stages}
    walls: dict[str, float] = {}
    before = created
    for name, end in ends.items():
        walls[name] = max(0.0, end - before)
        before = max(before, end)
    return walls


def explain_reward(experiment: Mapping[str, Any]) -> str:
    """Say in words what the numbers of the reward are made of, for each setting that arms have."""
    own = {arm["name"]: arm.get("grpo") or experiment["grpo"] for arm in experiment["arms"]}
    sentences: dict[str, list[str]] = {}
    for name, grpo in own.items():
        sentences.setdefault(_reward_sentence(grpo), []).append(tables.model_name(name))
    if len(sentences) == 1:
        return f"<p>{markup.escape(next(iter(sentences)))}</p>"
    return "".join(
        f"<p>{markup.escape(f'{", ".join(names)}: {text}')}</p>"
        for text, names in sentences.items()
    )


def _reward_sentence(grpo: Mapping[str, Any]) -> str:
    reward = grpo.get("reward", {})
    right, form, penalty = (
        reward.get(name, default)
        for name, default in (("correct", 1.0), ("format", 0.1), ("turn_penalty", 0.1))
    )
    counted = "code calls" if reward.get("turn_penalty_counts") == "code_calls" else "turns"
    return (
        f"The number beside a trajectory is its reward: {right:g} for a correct answer, {form:g} "
        f"more if every response keeps the format and {form:g} less if one does not, {penalty:g} "
        f"less with more than {grpo.get('turn_penalty_after', 6)} {counted}. So {right + form:.2f} "
        f"is correct and in the format, {form:.2f} wrong but in the format, {-form:.2f} wrong and "
        "not in the format."
    )
