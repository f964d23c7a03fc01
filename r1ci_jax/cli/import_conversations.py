"""The command `r1ci data import`: conversations of others become demonstrations, or are counted."""

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.config import Experiment
from r1ci_jax.data import build, datasets, encoding, question_splits
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.external import conversation_formats, conversation_import, selection
from r1ci_jax.data.external.selection import Made, Selection
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import progress, run_dir
from r1ci_jax.runtime.progress import Progress
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.sandbox.host.tiers import UNSAFE_WARNING
from r1ci_jax.text import tokenizer as tokenizers


def add_command(commands: Any) -> None:
    """Register `import` below `data`."""
    parser = commands.add_parser(
        "import",
        help="conversations of others (OpenAI, ShareGPT, LLaMA-Factory) as demonstrations",
        description="Every script runs again in the jail and every answer is scored again; what is "
        "not kept is counted by reason. The file that comes out is what demonstrations.path reads.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="JSON lines, or one JSON list")
    parser.add_argument("experiment", metavar="EXP", help="experiments/file.py[:variant]")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--format",
        choices=conversation_formats.FORMATS,
        default="auto",
        help="form of the records (default: look at each)",
    )
    parser.add_argument("--workdir", type=Path, help="run directory (default runs/NAME)")
    add_tokenizer(parser, "leave out what has more than sft.sequence_length tokens of this one")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_import, takes_overrides=True)


def add_tokenizer(parser: argparse._ActionsContainer, what: str) -> None:
    """Add the option by whose tokens lengths are limited."""
    parser.add_argument("--tokenizer", metavar="DIR_OR_HUB_ID", help=what)


def new_selection(experiment: Experiment, tokenizer: str | None) -> Selection:
    """Return an empty selection with the experiment's limits."""
    fits: Callable[[Demonstration], bool] | None = None
    if tokenizer is not None:
        fits = functools.partial(_fits, tokenizers.load(tokenizer), experiment)
    share = experiment.demonstrations.multi_turn
    return Selection(experiment.dataset.sft_per_task, fits=fits, multi_turn=share)


def show(made: Made, out: Path, *, as_json: bool) -> None:
    """Print what came of it."""
    if as_json:
        rejected = {reason.name.lower(): count for reason, count in made.rejected.items()}
        facts = {"out": str(out), "kept": len(made.demonstrations), "rejected": rejected}
        print(json.dumps(facts | {"stopped": made.stopped}))
        return
    print("\n".join([*made.summary(), f"{out}: written"]))


def _fits(
    tokenizer: tokenizers.Tokenizer, experiment: Experiment, demonstration: Demonstration
) -> bool:
    encoded = encoding.encode(demonstration, tokenizer, limits=experiment.limits)
    return len(encoded.tokens_T) <= experiment.sft.sequence_length


def _import(args: argparse.Namespace) -> int:
    experiment = experiments.load(args.experiment, args.overrides)
    names = experiment.dataset.tasks
    if args.out.exists() and args.file.exists() and args.out.samefile(args.file):
        raise UserError("--out is the file that is imported; name another one")
    collected = new_selection(experiment, args.tokenizer)
    path = args.workdir or run_dir.default_path(experiment)
    with run_dir.RunDir.open(path, experiment):
        with Progress("questions", len(names), unit="tasks") as bar:
            build.build_questions(
                experiment, path / "data", report=lambda done, _: bar.update(done)
            )
        questions = conversation_import.Questions(
            {
                split: datasets.load_examples(path / "data", names, split)
                for split in question_splits.SPLITS
            }
        )
        if experiment.sandbox.unsafe:
            progress.warn(UNSAFE_WARNING)
        with Sandbox(experiment.sandbox) as sandbox, Progress("import", unit="records") as bar:
            made = conversation_import.import_file(
                args.file,
                questions,
                sandbox,
                collected,
                form=args.format,
                max_scripts=experiment.limits.max_code_calls,
                instructions=build.instructions(experiment),
                report=bar.update,
            )
    if made.demonstrations:
        selection.write(args.out, made.demonstrations)
        show(made, args.out, as_json=args.json)
        return 0
    reasons = "; ".join(made.summary()[1:]) or "it holds no conversation"
    raise UserError(f"{args.file}: no demonstration came of it ({reasons})")
