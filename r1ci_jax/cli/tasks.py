"""The command `r1ci tasks`: the task registry."""

import argparse
import collections
import dataclasses
import json
import pathlib
import random
import sys
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.runtime import terminal
from r1ci_jax.tasks import catalogue, check, published_files, registry
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench import released_items
from r1ci_jax.tasks.toy.toy_task import ToyTask


def add_commands(subparsers: Any) -> None:
    """Add `tasks` and its subcommands."""
    parser = subparsers.add_parser("tasks", help="the task registry: list, show, sample, check")
    commands = parser.add_subparsers(dest="tasks_command", metavar="COMMAND")

    listing = commands.add_parser("list", help="all tasks")
    listing.add_argument("--suite", help=f"only one suite: {', '.join(registry.suites())}")
    listing.add_argument(
        "--markdown", action="store_true", help="the catalogue of the paper's 144: docs/tasks.md"
    )
    listing.add_argument(
        "--dropped", action="store_true", help="published questions never used: docs/dropped.md"
    )
    listing.set_defaults(run=_list)

    show = commands.add_parser("show", help="one task, with a question of each difficulty")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_show)

    sample = commands.add_parser("sample", help="questions with their answers")
    sample.add_argument("name", metavar="NAME")
    sample.add_argument("-n", type=int, default=5, help="how many (default 5)")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--difficulty", type=int, help="one level (default: all in turn)")
    sample.set_defaults(run=_sample)

    checking = commands.add_parser("check", help="verify generators and scorers")
    checking.add_argument("names", metavar="NAME", nargs="*", help="default: all but suite ood")
    checking.add_argument("--seed", type=int, default=0)
    checking.add_argument("--items", type=int, default=check.ITEMS, help="questions a task")
    checking.add_argument(
        "--released",
        metavar="DIR",
        type=pathlib.Path,
        help="instead: score the released SymBench items in DIR",
    )
    checking.set_defaults(run=_check)

    for command in (listing, show, sample, checking):
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
        command.add_argument(
            "--data-dir",
            metavar="DIR",
            type=pathlib.Path,
            help=f"published questions (default: ${published_files.VARIABLE}, else the cache)",
        )


def _list(args: argparse.Namespace) -> int:
    if args.data_dir is not None:
        published_files.choose_folder(args.data_dir)
    chosen = [name for name in ("json", "markdown", "dropped", "suite") if getattr(args, name)]
    if (args.markdown or args.dropped) and len(chosen) > 1:
        first, second = chosen[:2]
        raise UserError(f"--{first} and --{second} do not go together; give one of them")
    if args.markdown or args.dropped:
        print(catalogue.render_markdown() if args.markdown else catalogue.count_dropped(), end="")
        return 0
    tasks = [_facts(registry.get(name)) for name in registry.names(suite=args.suite)]
    suites = collections.Counter(task["suite"] for task in tasks)
    paper = [task for task in tasks if task["suite"] in registry.PAPER_SUITES]
    splits = collections.Counter(task["split"] for task in paper)
    if args.json:
        counts = {"paper": len(paper), "suites": dict(suites), "paper_splits": dict(splits)}
        print(json.dumps({"counts": counts, "tasks": tasks}))
        return 0
    for task in tasks:
        print(f"{task['name']:<40}{task['suite']:<15}{task['split']:<7}{task['answer_format']}")
    listed = ", ".join(f"{count} {suite}" for suite, count in suites.items())
    print(
        f"{len(tasks)} tasks: {listed}; of the paper's {len(paper)}: "
        f"{splits['train']} for training, {splits['test']} for testing"
    )
    return 0


def _show(args: argparse.Namespace) -> int:
    task = _chosen(args)
    examples = [task.generate(0, 0, difficulty) for difficulty in task.difficulties]
    if args.json:
        facts = _facts(task) | {"examples": [dataclasses.asdict(example) for example in examples]}
        print(json.dumps(facts))
        return 0
    for name, value in _facts(task).items():
        print(f"{name:<15}{value}")
    _print_examples(task, examples)
    if isinstance(task, ToyTask):
        worked = task.reference_solution(examples[0], random.Random(0))
        print("teacher's code for the first:")
        print("\n".join(f"    {line}" for line in worked.code.splitlines()))
    return 0


def _chosen(args: argparse.Namespace) -> Task:
    if args.data_dir is not None:
        published_files.choose_folder(args.data_dir)
    return registry.get(args.name)


def _sample(args: argparse.Namespace) -> int:
    task = _chosen(args)
    if args.n < 1:
        raise UserError(f"-n {args.n}: ask for at least one question")
    if (count := task.count()) is not None and args.n > count:
        raise UserError(f"-n {args.n}: {task.name} has {count} questions; ask for fewer")
    levels = task.difficulties if args.difficulty is None else (args.difficulty,)
    if not set(levels) <= set(task.difficulties):
        known = ", ".join(map(str, task.difficulties))
        raise UserError(f"{task.name} has no difficulty {args.difficulty}; there are: {known}")
    examples = [
        task.generate(i // len(levels), args.seed, levels[i % len(levels)]) for i in range(args.n)
    ]
    if args.json:
        print(json.dumps({"examples": [dataclasses.asdict(example) for example in examples]}))
    else:
        _print_examples(task, examples)
    return 0


def _check(args: argparse.Namespace) -> int:
    if args.data_dir is not None:
        published_files.choose_folder(args.data_dir)
    if args.released is not None:
        return _check_released(args)
    # Few have the gated file of that suite.
    ood = registry.names(suite="ood")
    names = tuple(args.names) or tuple(name for name in registry.names() if name not in ood)
    if args.items < 1:
        raise UserError(f"--items {args.items}: look at at least one question")
    for name in names:
        registry.get(name)  # An unknown name is reported before any work.
    reports = []
    for report in check.check(names, seed=args.seed, items=args.items):
        reports.append(report)
        if not args.json:
            _print_report(report)
    failed = [report.task for report in reports if not report.is_passed]
    if args.json:
        rows = [dataclasses.asdict(report) | {"passed": report.is_passed} for report in reports]
        print(json.dumps({"passed": not failed, "tasks": rows}))
    else:
        print(f"{len(reports) - len(failed)} of {len(reports)} tasks pass")
    return 1 if failed else 0


def _check_released(args: argparse.Namespace) -> int:
    reports = released_items.score_released(args.released)
    failed = [one.task for one in reports if not one.is_passed]
    if args.json:
        rows = [dataclasses.asdict(one) | {"passed": one.is_passed} for one in reports]
        print(json.dumps({"passed": not failed, "tasks": rows}))
    else:
        for one in reports:
            print(
                f"{one.task:<40}{'ok' if one.is_passed else 'FAILED':<8}"
                f"golds {one.num_scored}/{one.golds} of {one.items} items"
                + f", solved {one.num_solved}/{one.searched}"
                * bool(one.searched)
            )
            for why, count in one.explained.items():
                print(f"    {count} golds are wrong: {why}")
            for failure in one.failures:
                print(f"    unexplained: {terminal.shown(failure, sys.stdout)}")
        print(f"{len(reports) - len(failed)} of {len(reports)} tasks pass")
    return 1 if failed else 0


def _facts(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "suite": task.suite,
        "split": task.split,
        "kind": task.kind,
        "answer_format": task.answer_format,
        "difficulties": list(task.difficulties),
        "many_answers": task.many_answers,
        "about": (type(task).__doc__ or "").strip().partition("\n")[0],
    }


def _print_examples(task: Task, examples: list[Example]) -> None:
    for example in examples:
        text = f"[{example.difficulty}] {example.question}  ->  {task.gold(example)}"
        print(terminal.shown(text, sys.stdout))


def _print_report(report: check.Report) -> None:
    print(
        f"{report.task:<40}{'ok' if report.is_passed else 'FAILED':<8}"
        f"golds {report.num_golds_correct}/{report.items}  distinct {report.distinct}  "
        f"commonest gold {report.majority_fraction:.0%}"
    )
    for problem in report.problems:
        print(f"    {terminal.shown(problem, sys.stdout)}")
