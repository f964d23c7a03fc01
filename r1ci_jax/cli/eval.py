"""`r1ci eval MODEL` evaluates any model; `r1ci eval EXP` is the stage of an experiment."""

import argparse
import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from r1ci_jax.cli import run as experiment_stages
from r1ci_jax.cli import sampling_options
from r1ci_jax.config import TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.ranges import OutOfRange
from r1ci_jax.rollout import agents
from r1ci_jax.runtime import preemption, user_modules
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig
from r1ci_jax.text import prompts

_TRAJECTORIES = 50
_OF_EXPERIMENT = frozenset(("exp", "workdir", "json", "help"))
"""Arguments that an experiment's stage has too."""
_EPILOG = """\
WORDS are tasks, suites (symbench, bbh, reasoning_gym, toy, extra, ood), train, test, paper (144
tasks), offline (its 114 that need no download), patterns ('rg_*'), or two of these: symbench:test.
A name that ends in .py is an experiment: r1ci eval experiments/toy.py --help has its settings.
docs/evaluation.md explains the rows and tables."""


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Register `eval`."""
    parser = subparsers.add_parser(
        "eval",
        help=experiment_stages.SUMMARIES["eval"],
        description="Evaluate a model on held-out questions. The same command resumes it, and "
        "does not ask a question twice.",
        usage="r1ci eval MODEL [--tasks WORDS] [--agents NAMES] [options], or r1ci eval EXP",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "exp",
        nargs="?",
        metavar="MODEL",
        help="a run directory, a Hugging Face directory or hub id, whatever else r1ci chat takes, "
        "or a preset (qwen2.5-0.5b-...)",
    )
    parser.add_argument("-h", "--help", action="store_true", help="this text")
    parser.add_argument("--workdir", metavar="D", help="default runs/eval-NAME")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout at the end")
    _add_questions(parser.add_argument_group("questions"))
    _add_answers(parser.add_argument_group("answers"))
    sampling_options.add(parser)
    _add_model(parser.add_argument_group("model"))
    parser.set_defaults(run=_run, parser=parser, takes_overrides=True)


def _add_questions(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tasks", nargs="+", metavar="WORDS", help="see below; default: offline, 114 tasks"
    )
    group.add_argument("--questions", type=int, metavar="N", help="of each task; default 5")
    group.add_argument(
        "--difficulties", metavar="L,L", help="levels; default 1,2,3,4,5, or those of the run"
    )
    group.add_argument(
        "--data-seed", type=int, metavar="S", help="of the questions; default 0, or the run's"
    )
    group.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="published questions (default: $R1CI_DATA, else the cache)",
    )


def _add_answers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--agents",
        nargs="+",
        metavar="NAMES",
        help=f"{', '.join(prompts.AGENT_NAMES)}, or all; default code_agent. One of your own is "
        "package.module:Class; its module lies in the working directory or is installed",
    )
    group.add_argument(
        "--samples", type=int, metavar="N", help="answers per question and agent; default 1"
    )
    group.add_argument(
        "--prompts",
        choices=("r1ci", "boxed", "paper", "none"),
        help="instructions before each question; default r1ci, or the run's. A model that was not "
        "trained here has to be told how code is run and answers are marked",
    )
    group.add_argument(
        "--system", metavar="TEXT", help="system message; default that of the checkpoint's template"
    )
    group.add_argument(
        "--ask-for-answer",
        action=argparse.BooleanOptionalAction,
        help="ask once for the answer if the model ends its message without one; default for a "
        "model that was not trained here",
    )
    _add_limits(group)
    group.add_argument(
        "--trajectories",
        type=int,
        metavar="N",
        help=f"questions whose first trajectory is kept, per agent; default {_TRAJECTORIES}",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-tokens", type=int, metavar="N", help="sampled in one trajectory; default 600"
    )
    group.add_argument("--max-code-calls", type=int, metavar="N", help="default 8")
    group.add_argument(
        "--max-observation-tokens", type=int, metavar="N", help="of one output; default 256"
    )
    group.add_argument("--seed", type=int, metavar="S", help="of the sampling; default 0")


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", metavar="NAME", help="of a run: sft, grpo_curriculum, ... (default: the newest)"
    )
    group.add_argument(
        "--name", metavar="NAME", help="in rows and tables; default the last part of MODEL"
    )
    group.add_argument("--dtype", choices=("float32", "bfloat16"), help="default float32")
    group.add_argument(
        "--context", type=int, metavar="N", help="tokens of one trajectory; default 4096"
    )
    group.add_argument(
        "--slots", type=int, metavar="N", help="trajectories decoded together; default 16"
    )


def _run(args: argparse.Namespace) -> int:
    file, _, _ = (args.exp or "").partition(":")
    if file.endswith(".py"):
        return _run_experiment(args)
    if args.help:
        print(args.parser.format_help(), end="")
        return 0
    if args.exp is None:
        return _fail("name a model: r1ci eval MODEL; see r1ci eval --help")
    if args.overrides:
        return _fail(f"unrecognized arguments: {' '.join(args.overrides)}; see r1ci eval --help")
    # Library output belongs with the progress on stderr, not in the JSON.
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
        summary = _evaluate(args)
    if args.json:
        print(json.dumps(summary))
    return 0


def _fail(text: str) -> int:
    raise UserError(text)


def _run_experiment(args: argparse.Namespace) -> int:
    """Run the stage; what is chosen for a model by options is set in an experiment."""
    chosen = [
        name
        for name, value in vars(args).items()
        if value is not None and name not in _OF_EXPERIMENT and _is_option(args, name)
    ]
    if chosen:
        flag = chosen[0].replace("_", "-")
        raise UserError(
            f"--{flag} is for r1ci eval MODEL; an experiment has settings: "
            f"--config.eval.a=V, see r1ci eval {args.exp} --help"
        )
    args.parser = experiment_stages.make_parser("eval")
    return experiment_stages.run_experiment(args)


def _is_option(args: argparse.Namespace, name: str) -> bool:
    return any(action.dest == name for action in args.parser._actions)


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the model that the command line names; return what --json prints."""
    path = Path(args.exp)
    run = RunDir.view(path) if RunDir.is_at(path) else None
    if run is None and args.model is not None:
        raise UserError(f"--model names one of a run's models, but {args.exp} is no run")
    if args.data_dir is not None:
        from r1ci_jax.tasks import published_files

        published_files.choose_folder(args.data_dir)
    kept = _TRAJECTORIES if args.trajectories is None else args.trajectories
    if kept < 0:
        raise UserError(f"--trajectories {kept}: 0 or more")
    choices = _choices(args)
    with Sandbox(_sandbox_config(run)) as sandbox, preemption.handle_sigterm():
        # Import only now: the sandbox's fork servers are not children of a process with JAX's
        # threads.
        from r1ci_jax.evaluate import tables
        from r1ci_jax.runtime import compilation_cache
        from r1ci_jax.tools.model_evaluation import evaluation_run
        from r1ci_jax.tools.model_evaluation.evaluated_model import EvaluatedModel

        compilation_cache.enable()
        model = EvaluatedModel(args.exp, run, args.model)
        settings = model.settings(choices)
        workdir = Path(args.workdir or Path("runs", f"eval-{settings.name.replace('/', '-')}"))
        found = evaluation_run.run(model, settings, workdir, sandbox, trajectories=kept)
        tables.show(found.table)
    print(f"rows: {found.directory.results_path}", file=sys.stderr)
    return {
        "workdir": str(workdir),
        "model": settings.name,
        "deviations": list(found.deviations),
        "results": list(found.table.records),
        "note": found.table.note,
    }


def _sandbox_config(run: RunDir | None) -> SandboxConfig:
    saved = {} if run is None else run.config["experiment"].get("sandbox", {})
    return SandboxConfig(**{**saved, "limits": Limits(**saved.get("limits", {}))})


def _choices(args: argparse.Namespace) -> Any:
    """Return the user's choices, checked."""
    from r1ci_jax.tools.model_evaluation import question_choice
    from r1ci_jax.tools.model_evaluation.evaluation_settings import Choices

    limits = {
        "max_new_tokens": args.max_tokens,
        "max_code_calls": args.max_code_calls,
        "max_observation_tokens": args.max_observation_tokens,
    }
    given = {
        "tasks": None if args.tasks is None else tuple(args.tasks),
        "name": args.name,
        "agents": None if args.agents is None else _agents(args.agents),
        "questions": args.questions,
        "samples": args.samples,
        "difficulties": None if args.difficulties is None else _levels(args.difficulties),
        "sampling": sampling_options.chosen(args),
        "limits": _given(limits),
        "context": args.context,
        "slots": args.slots,
        "dtype": args.dtype,
        "prompts": args.prompts,
        "system": args.system,
        "ask_for_answer": args.ask_for_answer,
        "seed": args.seed,
        "data_seed": args.data_seed,
    }
    try:
        TurnLimits(**_given(limits))
        choices = Choices(**_given(given))
    except OutOfRange as error:
        if error.field == "max_new_tokens":
            raise UserError(f"--max-tokens {error.reason}") from None
        raise error.of_option() from None
    question_choice.choose(choices.tasks)  # unknown names are reported before anything is opened
    return choices


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _agents(words: list[str]) -> tuple[Any, ...]:
    """Return the names and places of agents; the paper's spelling is understood: "All Code"."""
    named = [
        word.strip() if ":" in word else re.sub(r"[\s-]+", "_", word.strip().lower())
        for word in ",".join(words).split(",")
    ]
    if "all" in named:
        named = [*prompts.AGENT_NAMES, *(name for name in named if name != "all")]
    if any(":" in name for name in named):
        user_modules.search(Path.cwd())
    agents.get_all(named)  # an unknown one is reported before anything is opened
    return tuple(dict.fromkeys(named))


def _levels(text: str) -> tuple[int, ...]:
    try:
        levels = tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        levels = ()
    if not levels:
        raise UserError(f"--difficulties {text}: numbers with commas, such as 1,2,3")
    return levels
