"""Options of the commands that sample: what stands in place of the model's own sampling."""

import argparse
import dataclasses
from typing import Any

from r1ci_jax.config import SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.ranges import OutOfRange

_HELPS = {
    "temperature": "divisor of the logits",
    "top-p": "keep this much probability",
    "min-p": "keep tokens this likely against the likeliest",
    "repetition-penalty": "against tokens that are there already, prompt included",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "sampling",
        "default: what the checkpoint's generation_config.json, the GGUF file (greedy where it "
        "says nothing) or the run's evaluation says, else temperature 0.6",
    )
    for name, text in _HELPS.items():
        group.add_argument(f"--{name}", type=float, metavar="X", help=text)
    group.add_argument("--top-k", type=int, metavar="K", help="keep the K likeliest tokens")
    group.add_argument(
        "--greedy",
        action="store_true",
        default=None,  # as of every option that is not given
        help="always the likeliest token: temperature 0",
    )


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of SamplingParams that the command line names.

    Raises:
        UserError: A value is impossible.
    """
    named = {field.name: getattr(args, field.name) for field in dataclasses.fields(SamplingParams)}
    if args.greedy:
        if args.temperature is not None:
            raise UserError("--greedy is temperature 0; leave --temperature out")
        named["temperature"] = 0.0
    found = {name: value for name, value in named.items() if value is not None}
    try:
        SamplingParams(**found)
    except OutOfRange as error:
        raise error.of_option() from None
    return found
