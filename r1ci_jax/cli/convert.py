"""`r1ci weights` imports safetensors and GGUF, and exports Hugging Face safetensors."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1ci_jax.model.qwen2 import Qwen2Config
    from r1ci_jax.text.tokenizer import Tokenizer

_DTYPES = ("float32", "bfloat16")
# These files of a Hugging Face repository belong to the model, in addition to its weights.
_COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
# The architecture does not need these keys of config.json, but they must be kept.
_KEPT_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "dual_chunk_attention_config")


def add_commands(subparsers: Any) -> None:
    """Add `weights import` and `weights export`."""
    parser = subparsers.add_parser("weights", help="import safetensors or GGUF, export safetensors")
    commands = parser.add_subparsers(dest="weights_command", metavar="COMMAND")

    importing = commands.add_parser(
        "import",
        help="check a checkpoint and write it in one normal form",
        description="Read a Hugging Face directory, a hub id or a GGUF file of llama.cpp, check "
        "it, and write it again: one config.json, safetensors files of at most 5 GB, and the "
        "tokenizer. The same command continues an interrupted import of a GGUF file.",
    )
    importing.add_argument("source", metavar="DIR_OR_HUB_ID_OR_GGUF")
    importing.add_argument("out", metavar="OUT_DIR", type=Path, help="new or empty directory")
    importing.add_argument(
        "--dtype",
        choices=_DTYPES,
        help="default: the checkpoint's own; of a quantized GGUF file float32, or bfloat16 if it "
        "has more than 10^9 parameters",
    )
    importing.set_defaults(run=_import)

    exporting = commands.add_parser(
        "export",
        help="write a run's model for transformers",
        description="Write a model of a run directory, with its tokenizer, in Hugging Face layout.",
    )
    exporting.add_argument("workdir", metavar="RUN", type=Path, help="e.g. runs/toy")
    exporting.add_argument("out", metavar="DIR", type=Path, help="new or empty directory")
    exporting.add_argument("--model", help="sft, grpo_curriculum, ... (default: the newest)")
    exporting.add_argument("--dtype", choices=_DTYPES, default="float32", help="default: float32")
    exporting.set_defaults(run=_export)

    for command in (importing, exporting):
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _import(args: argparse.Namespace) -> int:
    from r1ci_jax.model.gguf import gguf_file

    source = Path(args.source)
    return _import_gguf(args, source) if gguf_file.is_gguf(source) else _import_checkpoint(args)


def _import_gguf(args: argparse.Namespace, source: Path) -> int:
    from r1ci_jax.model.gguf import gguf_import

    done = gguf_import.import_file(source, args.out, args.dtype)
    return _report(done.config, done.parameters, done.dtype, args, reason=done.reason)


def _import_checkpoint(args: argparse.Namespace) -> int:
    from r1ci_jax.model.hf import hf_config, hub, weights
    from r1ci_jax.text import stop_tokens

    source = hub.resolve(args.source)
    model = weights.load_pretrained(source, args.dtype)
    raw = hf_config.read_json(source)
    stop_tokens.require_known(stop_tokens.read(source), model.config.vocab_size, source)
    kept = {key: raw[key] for key in _KEPT_KEYS if raw.get(key) is not None}
    weights.save_pretrained(model, args.out, extra_config=kept, companions=_companions(source))
    return _report_model(model, args)


def _export(args: argparse.Namespace) -> int:
    from r1ci_jax.model.hf import hub, weights
    from r1ci_jax.runtime.run_dir import RunDir
    from r1ci_jax.train import load_model

    run = RunDir.view(args.workdir)
    model, tokenizer = load_model.load_from_run(run, args.model, args.dtype)
    ids = {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    source = hub.resolve(load_model.tokenizer_path(run))
    checkpoint = run.config["experiment"]["model"]["checkpoint"]
    texts = _end_texts(source, hub.resolve(checkpoint) if checkpoint else source, tokenizer)
    weights.save_pretrained(
        model, args.out, extra_config=ids, companions=_companions(source), texts=texts
    )
    return _report_model(model, args)


def _end_texts(directory: Path, checkpoint: Path, tokenizer: "Tokenizer") -> dict[str, str]:
    """Write the stop tokens of the training into the files that name them.

    A base model's files name `<|endoftext|>`, and training has taught `<|im_end|>`.
    """
    from r1ci_jax.runtime import json_reader
    from r1ci_jax.text import stop_tokens
    from r1ci_jax.text.tokenizer import MESSAGE_END

    path = checkpoint / stop_tokens.GENERATION_FILE
    generation = json_reader.load_object(path, stop_tokens.REMEDY) if path.is_file() else {}
    others = [index for index in tokenizer.stop_token_ids if index != tokenizer.eos_id]
    generation |= {
        "eos_token_id": [tokenizer.eos_id, *others],  # the first is the one that training taught
        "pad_token_id": tokenizer.pad_id,
    }
    texts = {stop_tokens.GENERATION_FILE: _json_text(generation)}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (directory / name).is_file():
            described = json_reader.load_object(directory / name, stop_tokens.REMEDY)
            texts[name] = _json_text(described | {"eos_token": MESSAGE_END})
    return texts


def _json_text(described: Mapping[str, Any]) -> str:
    return json.dumps(described, ensure_ascii=False, indent=2) + "\n"


def _companions(directory: Path) -> list[Path]:
    return [directory / name for name in _COMPANIONS if (directory / name).is_file()]


def _report_model(model: Any, args: argparse.Namespace) -> int:
    import jax
    from flax import nnx

    leaves = jax.tree.leaves(nnx.state(model))
    return _report(model.config, sum(leaf.size for leaf in leaves), leaves[0].dtype, args)


def _report(
    config: "Qwen2Config", parameters: int, dtype: Any, args: argparse.Namespace, reason: str = ""
) -> int:
    """Say what was written; `reason` is that of the dtype."""
    facts = {
        "directory": str(args.out),
        "parameters": parameters,
        "dtype": str(dtype),
        "layers": config.layers,
        "width": config.width,
        "vocab_size": config.vocab_size,
    }
    if args.json:
        print(json.dumps(facts | ({"dtype_reason": reason} if reason else {})))
    else:
        why = f" ({reason})" if reason else ""
        print(
            f"{args.out}: {parameters:,} parameters in {dtype}{why}, {config.layers} layers of "
            f"width {config.width}, vocabulary {config.vocab_size}"
        )
    return 0
