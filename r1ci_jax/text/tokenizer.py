"""The byte-level BPE tokenizers are Qwen2.5's own and a small one trained on a run's text.

Both are the same class over a Hugging Face `tokenizer.json`. Encoding uses a copy of that
definition from which every added token is removed, so `<|im_end|>` or `<tool_call>` in a question
or a script's output is encoded as plain text. Only code produces control ids.

Decoding goes through bytes, so it inverts encoding exactly. One exception: Qwen's definition
normalizes text to Unicode NFC before encoding, so a decomposed "é" comes back composed. The trained
tokenizer does not normalize.
"""

import copy
import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.errors
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from r1ci_jax import utf8
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, json_reader
from r1ci_jax.runtime.quiet_hub import quiet_hub
from r1ci_jax.text import stop_tokens

PAD = "<|endoftext|>"
MESSAGE_START = "<|im_start|>"
MESSAGE_END = "<|im_end|>"

# Qwen2.5 splits on English clitics, words with one leading mark, SINGLE digits, runs of marks with
# the line breaks after them, line breaks and blanks.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# This is the ChatML of `r1ci_jax.text.chatml`; unlike Qwen's, it adds no system message.
_CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

_DEFINITION_FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
_TEMPLATE_FILE = "chat_template.jinja"


class Tokenizer:
    """A tokenizer converts text to ids and back.

    Attributes:
        vocab_size: Number of ids, added tokens included. A model's embedding may be larger
            (published Qwen2.5 checkpoints pad it); the extra ids must not be sampled.
        eos_id: `<|im_end|>`, the end of a message.
        pad_id: `<|endoftext|>`.
        stop_token_ids: The ids that end a turn when the policy samples one: `eos_id`, `pad_id`,
            and those that the checkpoint names.
        im_start_id: `<|im_start|>`, the start of a message.
        marks: The spellings of the added tokens.
    """

    vocab_size: int
    eos_id: int
    pad_id: int
    stop_token_ids: tuple[int, ...]
    im_start_id: int
    marks: tuple[str, ...]

    def __init__(
        self,
        definition: dict[str, Any],
        config: dict[str, Any],
        stop_token_ids: tuple[int, ...] = (),
        source: object = "the tokenizer",
    ) -> None:
        """Build from the contents of `tokenizer.json` and of `tokenizer_config.json`.

        `stop_token_ids` are further ids that end a turn; `source` names the files in errors.
        """
        if not _is_byte_level(definition):
            raise UserError(
                "the tokenizer is not a byte-level BPE, so stop marks cannot be followed in bytes; "
                "use a Qwen2.5 tokenizer or leave the setting empty to train one"
            )
        self._definition = definition
        self._config = config
        bare = definition | {
            "added_tokens": [],
            "post_processor": None,
            "truncation": None,
            "padding": None,
        }
        added_tokens = definition.get("added_tokens", [])
        self._encoder = _encoder(bare)
        self._marked = bare | {"added_tokens": added_tokens}
        added = {entry["content"]: entry["id"] for entry in added_tokens}
        self.marks = tuple(added)
        for content in (PAD, MESSAGE_START, MESSAGE_END):
            if content not in added:
                raise UserError(
                    f"the tokenizer has no {content} token; use one with Qwen2.5's ChatML tokens"
                )
        self.pad_id = added[PAD]
        self.im_start_id = added[MESSAGE_START]
        self.eos_id = added[MESSAGE_END]
        vocab = definition["model"]["vocab"]
        self._bytes = _bytes_of_ids(vocab, added)
        self.vocab_size = len(self._bytes)
        stop_tokens.require_known(stop_token_ids, self.vocab_size, source)
        named = stop_tokens.spelling(config, source)
        if named is not None:
            index = added.get(named, vocab.get(named))
            if index is None:
                raise UserError(
                    f"{source}: eos_token {named!r} of {_CONFIG_FILE} is not in the vocabulary; "
                    "correct it"
                )
            stop_token_ids = (*stop_token_ids, index)
        self.stop_token_ids = tuple(sorted({self.eos_id, self.pad_id, *stop_token_ids}))

    def with_stop_tokens_of(self, checkpoint: Path) -> "Tokenizer":
        """Return the same tokenizer, with the stop tokens of a checkpoint's files too."""
        ids = stop_tokens.read(checkpoint)
        stop_tokens.require_known(ids, self.vocab_size, checkpoint)
        changed = copy.copy(self)
        changed.stop_token_ids = tuple(sorted({*self.stop_token_ids, *ids}))
        return changed

    @functools.cached_property
    def _marking_encoder(self) -> tokenizers.Tokenizer:
        """Encoder for rendered conversations; few commands need it, and it is slow to build."""
        return _encoder(self._marked)

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text, never an added token, whatever the text spells."""
        # A lone surrogate (half of a UTF-16 pair) has no UTF-8 form; it becomes "?".
        text = utf8.well_formed(text)
        return self._encoder.encode(text, add_special_tokens=False).ids

    def encode_marked(self, text: str) -> list[int]:
        """Return the ids of a rendered conversation; spelled added tokens are recognized."""
        text = utf8.well_formed(text)
        return self._marking_encoder.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text; added tokens are spelled out, invalid UTF-8 is U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the bytes that the ids stand for."""
        return b"".join(self._bytes[index] for index in ids)

    def token_bytes(self) -> list[bytes]:
        """Return the bytes of every id; unused ids have empty bytes."""
        return list(self._bytes)

    def save(self, directory: Path) -> None:
        """Write the Hugging Face layout, readable by `load` and by transformers."""
        files = {
            _DEFINITION_FILE: json.dumps(self._definition, ensure_ascii=False),
            _CONFIG_FILE: json.dumps(self._config, ensure_ascii=False, indent=2),
        }
        for name, text in files.items():
            try:
                directory.mkdir(parents=True, exist_ok=True)
                atomic_files.write_atomic(directory / name, text)
            except OSError as error:
                raise UserError(
                    f"cannot write {directory / name}: {error.strerror}; free space or choose "
                    "another directory"
                ) from error


def load(path_or_hub_id: str) -> Tokenizer:
    """Return the tokenizer in a directory, or the one of a Hugging Face hub repository."""
    if os.path.isdir(path_or_hub_id):
        directory = Path(path_or_hub_id)
        if not (directory / _DEFINITION_FILE).is_file():
            raise UserError(
                f"{directory} holds no {_DEFINITION_FILE}; name a tokenizer's directory"
            )
    elif os.path.isfile(path_or_hub_id):
        raise UserError(
            f"{path_or_hub_id} is a file; name a tokenizer's directory (a GGUF file becomes one by "
            "`r1ci weights import FILE.gguf DIR`)"
        )
    else:
        directory = _fetch(path_or_hub_id)
    definition = _read_json(directory / _DEFINITION_FILE)
    config_path = directory / _CONFIG_FILE
    config = _read_json(config_path) if config_path.is_file() else _config()
    template_path = directory / _TEMPLATE_FILE
    if template_path.is_file():
        config["chat_template"] = _read_text(template_path)
    try:
        return Tokenizer(definition, config, stop_tokens.read(directory), directory)
    except UserError:
        raise
    except Exception as error:  # The library raises this very class for a malformed definition.
        raise UserError(
            f"{directory / _DEFINITION_FILE} is no tokenizer definition ({type(error).__name__}: "
            f"{str(error)[:100]!r}); fetch the tokenizer again"
        ) from error


def train_byte_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return a byte-level BPE trained on `texts`; the same texts always give the same ids.

    The ids of learned tokens come first, then the three ChatML tokens, as in Qwen2.5. The result
    has fewer than `vocab_size` ids if the texts have too few different words to merge.
    """
    specials = (PAD, MESSAGE_START, MESSAGE_END)
    smallest = 256 + len(specials)
    if vocab_size < smallest:
        raise UserError(f"a tokenizer of {vocab_size} ids is too small; ask for {smallest} or more")
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(map(utf8.well_formed, texts), trainer)
    backend.add_special_tokens(
        [tokenizers.AddedToken(content, special=True, normalized=False) for content in specials]
    )
    return Tokenizer(json.loads(backend.to_str()), _config())


def _config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": MESSAGE_END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 17,
        "chat_template": _CHAT_TEMPLATE,
    }


def _encoder(definition: dict[str, Any]) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(definition))
    except Exception as error:  # the package raises no class of its own
        reason = " ".join(str(error).split())
        raise UserError(
            f"the tokenizer's {_DEFINITION_FILE} is damaged ({reason}); fetch the tokenizer again"
        ) from error


def _is_byte_level(definition: dict[str, Any]) -> bool:
    decoder = definition.get("decoder") or {}
    steps = decoder.get("decoders", [decoder])
    is_bpe = definition.get("model", {}).get("type") == "BPE"
    return is_bpe and any(step.get("type") == "ByteLevel" for step in steps)


def _byte_of_character() -> dict[str, int]:
    """Invert the alphabet in which byte-level vocabularies spell bytes as printable characters.

    A byte that is a printable Latin-1 character is spelled as itself; the others are numbered from
    U+0100 in byte order (blank is U+0120, line feed U+010A).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + rank): byte for rank, byte in enumerate(others)}


def _bytes_of_ids(vocab: dict[str, int], added: dict[str, int]) -> list[bytes]:
    alphabet = {ord(character): chr(byte) for character, byte in _byte_of_character().items()}
    outside = dict.fromkeys(set(range(256)) - alphabet.keys(), "\uffff")
    latin1 = str.maketrans(alphabet | outside)
    table = [b""] * (1 + max(*vocab.values(), *added.values()))
    for token, index in vocab.items():
        try:
            table[index] = token.translate(latin1).encode("latin-1")
        except UnicodeEncodeError:
            # A special token among the ordinary ones may use characters outside the alphabet.
            table[index] = token.encode("utf-8")
    for content, index in added.items():
        table[index] = content.encode("utf-8")
    return table


def _fetch(hub_id: str) -> Path:
    try:
        with quiet_hub():
            definition = huggingface_hub.hf_hub_download(hub_id, _DEFINITION_FILE)
            huggingface_hub.hf_hub_download(hub_id, _CONFIG_FILE)
    except (OSError, huggingface_hub.errors.HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no tokenizer at {hub_id!r}: neither a directory nor a reachable hub repository "
            f"({reason}); name a directory that holds {_DEFINITION_FILE}"
        ) from error
    return Path(definition).parent


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; fetch the tokenizer again") from error


def _read_json(path: Path) -> dict[str, Any]:
    return json_reader.load_object(path, "fetch the tokenizer again")
