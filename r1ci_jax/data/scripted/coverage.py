"""The table of docs/teachers.md: what each scripted teacher has, and what came of it in a run."""

from collections.abc import Callable, Iterator
from pathlib import Path

from r1ci_jax.data import demonstration_stats
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.scripted import scripted_teachers, strategies
from r1ci_jax.tasks import registry
from r1ci_jax.teachers import teacher_catalogue


def render_markdown(directory: Path, length: Callable[[str], int]) -> str:
    """Render the page; `directory` has the finished tasks of a run, `length` counts tokens."""
    return "\n".join([*_head(), *_tables(directory, length), ""])


def row_head(task: str) -> str:
    """Return the cells of a task that do not depend on a run."""
    teacher = teacher_catalogue.by_task()[task]
    extras = ", ".join(strategies.defined(teacher)) or "-"
    return f"| {task} | {', '.join(teacher.forms)} | {extras} |"


def missing_line(suite: str) -> str:
    """Return the line about the training tasks of a suite that have no teacher."""
    missing = [name for name in _trained(suite) if name not in teacher_catalogue.by_task()]
    taught = len(_trained(suite)) - len(missing)
    line = f"{taught} of {len(_trained(suite))} training tasks have a teacher."
    return f"{line} Without: {', '.join(missing)}." if missing else line


def _head() -> Iterator[str]:
    yield "# The scripted teachers"
    yield ""
    yield (
        "Made by `r1ci data stats RUN --teachers > docs/teachers.md` after `r1ci synth EXP`; a "
        "test compares tasks, forms and strategies."
    )
    yield ""
    yield (
        "*Forms* are visibly different scripts for the same task. The methods beside `step`: "
        "`check` tests an answer against the question's conditions, `small_case` explores first, "
        "`first_attempt` is a plausible mistake, `in_words` works without code, `wrong_answer` is "
        "a guess that code corrects. *Kept*: scored correct, of all that were made. Lengths are of "
        "turns and observations without the prompt, in tokens of Qwen2.5."
    )


def _tables(directory: Path, length: Callable[[str], int]) -> Iterator[str]:
    for suite in (*registry.PAPER_SUITES, "extra"):
        yield from ("", f"## {suite}", "", missing_line(suite), "")
        yield "| task | forms | methods | kept | turns | median | longest |"
        yield "|---|---|---|---:|---:|---:|---:|"
        for task in _trained(suite):
            if task in teacher_catalogue.by_task():
                yield f"{row_head(task)} {_outcome(directory / f'{task}.jsonl', length)} |"


def _outcome(path: Path, length: Callable[[str], int]) -> str:
    """Return the cells of a task that come from a run."""
    if not path.exists():
        return "- | - | - | -"
    offers = scripted_teachers.read_offers(path)
    kept = [offer for offer in offers if isinstance(offer, Demonstration)]
    if not kept:
        return f"0 of {len(offers)} | - | - | -"
    [row] = demonstration_stats.by_task(kept, length)
    share = f"{row.count} of {len(offers)}"
    return f"{share} | {row.mean_turns} | {row.median_length} | {row.max_length}"


def _trained(suite: str) -> list[str]:
    return [name for name in registry.names(suite=suite) if registry.get(name).split != "test"]
