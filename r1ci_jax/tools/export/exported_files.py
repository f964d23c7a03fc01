"""Files beside the weights of an exported model, so that others prompt it as training did.

A base model's files describe the base model: its chat template adds a system message that training
never showed, its end token is another, its sampling was tuned for it. These are replaced.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from r1ci_jax.config import EvalConfig, SamplingParams
from r1ci_jax.model.hf import hub
from r1ci_jax.runtime import json_reader
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.text import chat_template, prompts, stop_tokens
from r1ci_jax.text.tokenizer import MESSAGE_END, PAD, Tokenizer
from r1ci_jax.tools.export import model_card
from r1ci_jax.train import load_model

COMPANIONS: Final = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""Files of a Hugging Face repository that belong to the model, in addition to its weights."""
_REPLACED: Final = ("generation_config.json", "chat_template.jinja")
_TOKENIZER_FILE: Final = "tokenizer_config.json"
_LICENSES: Final = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedFiles:
    """Files of a model directory, in addition to its weights."""

    companions: tuple[Path, ...]
    """Files to copy."""
    texts: Mapping[str, str]
    """Contents of further files by name; they replace companions."""
    extra_config: Mapping[str, Any]
    """Further keys of config.json."""


def of_checkpoint(directory: Path) -> tuple[Path, ...]:
    """List the companions of a model that was not trained here: it keeps its own."""
    return tuple(directory / name for name in COMPANIONS if (directory / name).is_file())


def of_run(run: RunDir, trained: str, tokenizer: Tokenizer) -> ExportedFiles:
    """Make the files of a model that a run has trained.

    Raises:
        UserError: A file of the checkpoint or of the run is damaged.
    """
    directory = hub.resolve(load_model.tokenizer_path(run))
    name = run.config["experiment"]["model"]["checkpoint"]
    checkpoint = hub.resolve(name) if name else None
    instructions = prompts.instructions_of("code_agent", load_model.instructions_of_run(run))
    licenses = [] if checkpoint is None else [checkpoint / file for file in _LICENSES]
    companions = [path for path in of_checkpoint(directory) if path.name not in _REPLACED]
    texts = _tokenizer_texts(directory, chat_template.source(instructions))
    return ExportedFiles(
        companions=(*companions, *(path for path in licenses if path.is_file())),
        texts=texts
        | {
            stop_tokens.GENERATION_FILE: _json_text(_generation(run, checkpoint, tokenizer)),
            model_card.FILE: model_card.render(run, trained, instructions, checkpoint),
        },
        extra_config={"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id},
    )


def _generation(run: RunDir, checkpoint: Path | None, tokenizer: Tokenizer) -> dict[str, Any]:
    """Describe how the run samples when it evaluates; of the base model only its first token.

    The stop tokens are those of the training: a base model's files name `<|endoftext|>`, and
    training has taught `<|im_end|>`.
    """
    path = None if checkpoint is None else checkpoint / stop_tokens.GENERATION_FILE
    is_there = path is not None and path.is_file()
    base = json_reader.load_object(path, stop_tokens.REMEDY) if path and is_there else {}
    others = [index for index in tokenizer.stop_token_ids if index != tokenizer.eos_id]
    saved = run.config["experiment"].get("eval", {}).get("sampling")
    sampling = EvalConfig().sampling if saved is None else SamplingParams(**saved)
    found: dict[str, Any] = {
        "eos_token_id": [tokenizer.eos_id, *others],  # the first is the one that training taught
        "pad_token_id": tokenizer.pad_id,
        "do_sample": sampling.temperature > 0,
    }
    if base.get("bos_token_id") is not None:
        found["bos_token_id"] = base["bos_token_id"]
    if sampling.temperature > 0:
        # Zero top_k is written, for transformers takes 50 where the key is missing.
        found |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        found |= {"top_k": sampling.top_k}
        found |= {"min_p": sampling.min_p} if sampling.min_p else {}
    if sampling.repetition_penalty != 1:
        found["repetition_penalty"] = sampling.repetition_penalty
    return found


def _tokenizer_texts(directory: Path, template: str) -> dict[str, str]:
    """Write end token and chat template into the tokenizer's files that name them."""
    texts, path = {}, directory / "special_tokens_map.json"
    if path.is_file():
        described = json_reader.load_object(path, stop_tokens.REMEDY)
        texts[path.name] = _json_text(described | {"eos_token": MESSAGE_END})
    path = directory / _TOKENIZER_FILE
    if path.is_file():
        described = json_reader.load_object(path, stop_tokens.REMEDY)
    else:
        described = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD}
    described |= {"eos_token": MESSAGE_END, "chat_template": template}
    return texts | {path.name: _json_text(described)}


def _json_text(described: Mapping[str, Any]) -> str:
    return json.dumps(described, ensure_ascii=False, indent=2) + "\n"
