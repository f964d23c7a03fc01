"""Sampling and system message that a published checkpoint asks for, and what of it we cannot do."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from r1ci_jax.config import EvalConfig, SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader
from r1ci_jax.text import stop_tokens
from r1ci_jax.text.tokenizer import MESSAGE_START

_TOKENIZER_FILE, _TEMPLATE_FILE = "tokenizer_config.json", "chat_template.jinja"
_DRAWING: Final = ("temperature", "top_k", "top_p", "min_p")
"""What transformers reads only where `do_sample` is set."""
_PENALTY: Final = "repetition_penalty"
_NEUTRAL: Final[Mapping[str, Any]] = {
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "typical_p": 1.0,
    "num_beams": 1,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
"""Settings that our sampler has not, with the value at which they do nothing."""
_DEFAULT_SYSTEM: Final = re.compile(r"<\|im_start\|>system(?:\\n|\n)([^'{}<>]+?)<\|im_end\|>")
"""A system message that a ChatML template spells out: the one for conversations without any."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointDefaults:
    """How a checkpoint wants to be used."""

    sampling: SamplingParams = EvalConfig().sampling
    """From generation_config.json; without that file the default of `eval.sampling`."""
    system: str = ""
    """System message of the chat template where the conversation has none."""
    deviations: tuple[str, ...] = ()
    """What the checkpoint asks for and is not done, a sentence each."""


def read(directory: Path) -> CheckpointDefaults:
    """Read the defaults of a checkpoint directory.

    Raises:
        UserError: A file is damaged, or asks for something impossible.
    """
    sampling, ignored = _sampling(directory / stop_tokens.GENERATION_FILE)
    template = _template(directory)
    if template and MESSAGE_START not in template:
        ignored.append("its chat template is not ChatML, and ChatML is used")
    found = _DEFAULT_SYSTEM.search(template)
    system = found[1].replace("\\n", "\n") if found else ""
    return CheckpointDefaults(sampling=sampling, system=system, deviations=tuple(ignored))


def _sampling(path: Path) -> tuple[SamplingParams, list[str]]:
    if not path.is_file():
        return EvalConfig().sampling, []
    raw = json_reader.load_object(path, stop_tokens.REMEDY)
    is_greedy = not raw.get("do_sample", False)
    names = [_PENALTY] if is_greedy else [_PENALTY, *_DRAWING]
    given: dict[str, Any] = {"temperature": 0.0 if is_greedy else 1.0}
    given |= {name: raw[name] for name in names if raw.get(name) is not None}
    ignored = [
        f"{name} = {raw[name]} of its {path.name} is not applied"
        for name, neutral in _NEUTRAL.items()
        if raw.get(name) is not None and raw[name] != neutral
    ]
    try:
        return SamplingParams(**given), ignored
    except UserError as error:
        raise UserError(f"{path}: {error}; correct it or {stop_tokens.REMEDY}") from None


def _template(directory: Path) -> str:
    path = directory / _TEMPLATE_FILE
    if path.is_file():
        return path.read_bytes().decode("utf-8", "replace")
    path = directory / _TOKENIZER_FILE
    if not path.is_file():
        return ""
    template = json_reader.load_object(path, stop_tokens.REMEDY).get("chat_template")
    if isinstance(template, list):  # several by name
        named = {each.get("name"): each.get("template") for each in template}
        template = named.get("default")
    return template if isinstance(template, str) else ""
