"""Sampling and system message that a published checkpoint asks for, and what of it we cannot do."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from r1ci_jax.config import EvalConfig, SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import json_reader
from r1ci_jax.text import stop_tokens
from r1ci_jax.tools.model_evaluation import published_template

_DRAWING: Final = ("temperature", "top_k", "top_p", "min_p")
"""What transformers reads only where `do_sample` is set."""
_PENALTY: Final = "repetition_penalty"
_OURS: Final = frozenset(
    {
        *("do_sample", _PENALTY, *_DRAWING, "eos_token_id"),
        # How long an answer may be is set here for all models.
        *("max_length", "max_new_tokens"),
    }
)
"""What is done, or has its own setting here."""
_HARMLESS: Final = frozenset(
    {
        *("bos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version"),
        *("_from_model_config", "use_cache", "cache_implementation", "cache_config"),
        *("chat_format", "trust_remote_code", "max_time", "max_window_size"),
        *("output_scores", "output_logits", "output_attentions", "output_hidden_states"),
        *("return_dict_in_generate", "prefill_chunk_size", "disable_compile"),
    }
)
"""What changes no token of ours."""
_NEUTRAL: Final[Mapping[str, Any]] = {
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "encoder_repetition_penalty": 1.0,
    "typical_p": 1.0,
    "top_h": 1.0,
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "length_penalty": 1.0,
    "guidance_scale": 1.0,
}
"""Values other than 0, false and null at which a setting that our sampler has not does nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointDefaults:
    """How a checkpoint wants to be used."""

    sampling: SamplingParams = EvalConfig().sampling
    """From generation_config.json; without that file the default of `eval.sampling`."""
    has_sampling: bool = False
    """There is that file."""
    system: str = ""
    """System message of the chat template where the conversation has none."""
    deviations: tuple[str, ...] = ()
    """What the checkpoint asks for and is not done, a sentence each."""


def read(directory: Path) -> CheckpointDefaults:
    """Read the defaults of a checkpoint directory.

    Raises:
        UserError: A file is damaged, or asks for something impossible.
    """
    path = directory / stop_tokens.GENERATION_FILE
    sampling, ignored = _sampling(path)
    around = published_template.read(directory)
    return CheckpointDefaults(
        sampling=sampling,
        has_sampling=path.is_file(),
        system=around.system,
        deviations=(*ignored, *around.deviations),
    )


def _sampling(path: Path) -> tuple[SamplingParams, list[str]]:
    if not path.is_file():
        return EvalConfig().sampling, []
    raw = json_reader.load_object(path, stop_tokens.REMEDY)
    is_greedy = not raw.get("do_sample", False)
    names = [_PENALTY] if is_greedy else [_PENALTY, *_DRAWING]
    given: dict[str, Any] = {"temperature": 0.0 if is_greedy else 1.0}
    given |= {name: raw[name] for name in names if raw.get(name) is not None}
    ignored = [
        f"{name} = {value} of its {path.name} is not applied"
        for name, value in raw.items()
        if value and name not in _OURS | _HARMLESS and value != _NEUTRAL.get(name)
    ]
    try:
        return SamplingParams(**given), ignored
    except UserError as error:
        raise UserError(f"{path}: {error}; correct it or {stop_tokens.REMEDY}") from None
