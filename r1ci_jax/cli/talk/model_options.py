"""Options of the model that `r1ci chat` and `r1ci serve` talk with, and what follows from them."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from r1ci_jax.cli import sampling_options
from r1ci_jax.errors import UserError
from r1ci_jax.ranges import LARGEST_INT32
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Limits, SandboxConfig
from r1ci_jax.text import prompts

if TYPE_CHECKING:  # imports JAX
    from r1ci_jax.tools.chat.chat_model import ChatModel


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "path",
        metavar="MODEL",
        help="a run, a Hugging Face directory or hub id, a GGUF file, or a preset (qwen2.5-...)",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="of a run: sft, grpo_curriculum, ... (default: the newest)"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--context", type=int, metavar="N", help="tokens of a conversation")
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="sampled in an answer, unless a request differs"
    )
    parser.add_argument(
        "--bare", action="store_true", help="put no instructions before the first message"
    )
    sampling_options.add(parser)


def check(args: argparse.Namespace, *others: str) -> None:
    """Report impossible numbers, also of a command's `others`, before anything is loaded.

    Raises:
        UserError: A number is out of its range.
    """
    for name in ("max_tokens", "context", *others):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= LARGEST_INT32:
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} must be from 1 to {LARGEST_INT32}, not {value}")


def find_run(args: argparse.Namespace) -> RunDir | None:
    """Return the run that is named; None: the model is a published one.

    Raises:
        UserError: A run's model is named, but no run.
    """
    path = Path(args.path)
    if RunDir.is_at(path):
        return RunDir.view(path)
    if args.model is not None:
        raise UserError(f"--model names one of a run's models, but {args.path} is no run")
    return None


def sandbox_config(run: RunDir | None, workers: int) -> SandboxConfig:
    """Return the run's settings of the sandbox, or the default ones, with so many workers."""
    saved = {} if run is None else run.config["experiment"].get("sandbox", {})
    limits = Limits(**saved.get("limits", {}))
    return SandboxConfig(**{**saved, "limits": limits, "workers": workers})


def load(args: argparse.Namespace, run: RunDir | None) -> "ChatModel":
    """Load the model, with what the command line says in place of its own defaults."""
    from r1ci_jax.tools.chat import chat_model

    chat = chat_model.load(args.path, run, args.model, args.dtype)
    limits = chat.limits
    if args.max_tokens is not None:
        limits = dataclasses.replace(limits, max_new_tokens=args.max_tokens)
    return dataclasses.replace(
        chat,
        instructions=prompts.NO_INSTRUCTIONS if args.bare else chat.instructions,
        sampling=dataclasses.replace(chat.sampling, **sampling_options.chosen(args)),
        limits=limits,
        context=chat.context if args.context is None else args.context,
    )
