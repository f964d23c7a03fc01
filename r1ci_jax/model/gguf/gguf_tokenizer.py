"""The tokenizer of a GGUF file as Hugging Face's files.

A GGUF file names the rule that splits text before byte pairs are merged (`tokenizer.ggml.pre`) but
does not hold it; `_SPLITS` has the rules of tokenizers that the reference reads the same way.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from r1ci_jax.errors import UserError
from r1ci_jax.model.gguf.gguf_file import GgufFile
from r1ci_jax.model.qwen2 import Qwen2Config
from r1ci_jax.text.tokenizer import QWEN_SPLIT

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_KINDS = (_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED)
_PREFIX = "tokenizer.ggml."

_LLAMA3 = QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": use_regex,
    }


def _split(pattern: str) -> list[dict[str, Any]]:
    rule = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return [rule, _byte_level(use_regex=False)]


_GPT2 = [_byte_level(use_regex=True)]
_SINGLE_DIGITS = [{"type": "Digits", "individual_digits": True}, *_GPT2]
_SPLITS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "qwen2": _split(QWEN_SPLIT),
    "deepseek-r1-qwen": _split(QWEN_SPLIT),
    "llama-bpe": _split(_LLAMA3),
    "llama3": _split(_LLAMA3),
    "llama-v3": _split(_LLAMA3),
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "gpt-2": _GPT2,
}
_COMPOSED = frozenset(("qwen2", "deepseek-r1-qwen"))
"""The reference reads these, and every model of the architecture qwen2, by Qwen's class, which
normalizes text to Unicode NFC."""
_WHOLE_WORDS = frozenset(("llama-bpe", "llama3", "llama-v3"))
"""A word that is a token is one, whatever the merges say; and text begins with a mark unless the
file says otherwise."""

_SAMPLING = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
"""Keys of what the publisher recommends, by their names in generation_config.json."""


def files(source: GgufFile, config: Qwen2Config) -> dict[str, str]:
    """Return the texts of the tokenizer's files, and generation_config.json, by name.

    Raises:
        UserError: The tokenizer is of an unknown kind, or damaged.
    """
    vocabulary = _Vocabulary(source)
    if len(vocabulary.tokens) > config.vocab_size:
        raise UserError(
            f"{source.path} has {len(vocabulary.tokens)} tokens and only {config.vocab_size} "
            "embeddings; download it again"
        )
    if config.qkv_bias and vocabulary.split not in _COMPOSED:
        raise UserError(
            f"{source.path}: general.architecture is 'qwen2' and tokenizer.ggml.pre is "
            f"{vocabulary.split!r}, but transformers splits text for every qwen2 model as Qwen "
            "does; import the safetensors checkpoint that the file was made from"
        )
    definition = vocabulary.definition()
    _require_loadable(definition, source)
    return {
        "tokenizer.json": json.dumps(definition, ensure_ascii=False),
        "tokenizer_config.json": _text(vocabulary.config(config.max_positions)),
        "generation_config.json": _text(vocabulary.generation()),
    }


def special_ids(source: GgufFile) -> dict[str, int]:
    """Return the ids of special tokens as config.json names them."""
    return _Vocabulary(source).special_ids()


class _Vocabulary:
    """The metadata of a tokenizer, checked."""

    def __init__(self, source: GgufFile) -> None:
        self._source = source
        model = self._get("model", str, "")
        if model != "gpt2":
            raise UserError(
                f"{source.path}: tokenizer.ggml.model is {model!r}; only byte-level BPE ('gpt2') "
                "can be imported, since stop marks are followed in bytes"
            )
        self.split = self._get("pre", str, "")
        if self.split not in _SPLITS:
            raise UserError(
                f"{source.path}: tokenizer.ggml.pre is {self.split!r}; known are "
                f"{', '.join(sorted(_SPLITS))}: import the safetensors checkpoint that the file "
                "was made from"
            )
        if self._get("add_space_prefix", bool, False):
            raise UserError(
                f"{source.path}: tokenizer.ggml.add_space_prefix is true, which no byte-level BPE "
                "supports here; import the safetensors checkpoint"
            )
        self._adds_bos = self._get("add_bos_token", bool, self.split in _WHOLE_WORDS)
        self._adds_eos = self._get("add_eos_token", bool, False)
        self.tokens = self._list("tokens", str)
        self.kinds = self._list("token_type", int)
        self.merges = [self._pair(merge) for merge in self._list("merges", str)]
        if len(self.kinds) != len(self.tokens) or not set(self.kinds) <= set(_KINDS):
            raise self._damaged("token_type does not give each token a known type")
        # Unused tokens at the end fill the embedding up; they are no tokens.
        while self.kinds and self.kinds[-1] == _UNUSED:
            self.kinds.pop()
            self.tokens.pop()
        if len(set(self.tokens)) != len(self.tokens) or not self.tokens:
            raise self._damaged("tokens is empty or holds a token twice")

    def definition(self) -> dict[str, Any]:
        """Return the content of tokenizer.json."""
        last = max((i for i, kind in enumerate(self.kinds) if not _is_added(kind)), default=-1)
        vocab = {token: index for index, token in enumerate(self.tokens[: last + 1])}
        for merge in self.merges:
            if any(part not in vocab for part in (*merge, "".join(merge))):
                raise self._damaged(f"the merge {' '.join(merge)!r} has parts that are no tokens")
        added = [self._added(index) for index, kind in enumerate(self.kinds) if _is_added(kind)]
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {"type": "NFC"} if self.split in _COMPOSED else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(_SPLITS[self.split])},
            "post_processor": self._post_processor(),
            "decoder": _byte_level(use_regex=False),
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": self.split in _WHOLE_WORDS,
                "vocab": vocab,
                "merges": self.merges,
            },
        }

    def config(self, context_length: int) -> dict[str, Any]:
        """Return the content of tokenizer_config.json."""
        found: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": context_length,
            "add_bos_token": self._adds_bos,
            "add_eos_token": self._adds_eos,
        }
        for key, index in self.special_ids().items():
            found[key.removesuffix("_id")] = self.tokens[index]
        template = self._source.fields.get("tokenizer.chat_template")
        if isinstance(template, str):
            found["chat_template"] = template
        return found

    def generation(self) -> dict[str, Any]:
        """Return the content of generation_config.json."""
        found: dict[str, Any] = dict(self.special_ids())
        ends = [found.get("eos_token_id"), self._id("eot"), self._id("eom")]
        known = list(dict.fromkeys(index for index in ends if index is not None))
        if known:
            found["eos_token_id"] = known[0] if len(known) == 1 else known
        fields = self._source.fields
        # 0.7, not the 0.699999988 of float32.
        given = {
            name: fields[key] if isinstance(fields[key], int) else float(f"{fields[key]:.7g}")
            for name, key in _SAMPLING.items()
            if isinstance(fields.get(key), int | float)
        }
        # A penalty alone leaves the likeliest token to be taken.
        draws = given.keys() - {"repetition_penalty"}
        return found | given | {"do_sample": bool(draws) and given.get("temperature", 1.0) > 0}

    def special_ids(self) -> dict[str, int]:
        """Return the ids of the marks of beginning, end and padding that the file names."""
        named = {"bos": self._id("bos"), "eos": self._id("eos"), "pad": self._id("padding")}
        return {f"{key}_token_id": index for key, index in named.items() if index is not None}

    def _added(self, index: int) -> dict[str, Any]:
        return {
            "id": index,
            "content": self.tokens[index],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": self.kinds[index] == _CONTROL,
        }

    def _post_processor(self) -> dict[str, Any]:
        plain = _byte_level(use_regex=False)
        before = self._mark("bos", self._adds_bos)
        after = self._mark("eos", self._adds_eos)
        if not before and not after:
            return plain
        marks = {
            token: {"id": token, "ids": [self.tokens.index(token)], "tokens": [token]}
            for token in {*before, *after}
        }
        template = {
            "type": "TemplateProcessing",
            "single": _template(before, "A", after),
            "pair": [*_template(before, "A", after), *_template(before, "B", after)],
            "special_tokens": marks,
        }
        return {"type": "Sequence", "processors": [plain, template]}

    def _mark(self, name: str, is_wanted: bool) -> list[str]:
        if not is_wanted:
            return []
        index = self._id(name)
        if index is None:
            raise self._damaged(f"it adds the token {name} to every text and does not name it")
        return [self.tokens[index]]

    def _id(self, name: str) -> int | None:
        index = self._get(f"{name}_token_id", int, None)
        if index is not None and not 0 <= index < len(self.tokens):
            raise self._damaged(f"{name}_token_id is {index} of {len(self.tokens)} tokens")
        return index

    def _pair(self, merge: str) -> list[str]:
        parts = merge.split(" ")
        if len(parts) != 2 or not all(parts):
            raise self._damaged(f"the merge {merge[:40]!r} has no two parts")
        return parts

    def _get(self, name: str, kind: type, default: Any) -> Any:
        value = self._source.fields.get(_PREFIX + name, default)
        if value is not default and type(value) is not kind:
            raise self._damaged(f"{name} is no {kind.__name__}")
        return value

    def _list(self, name: str, kind: type) -> list[Any]:
        value = self._get(name, list, None)
        if value is None:
            raise self._damaged(f"there is no list {_PREFIX}{name}")
        if not all(type(each) is kind for each in value):
            raise self._damaged(f"{name} is no list of {kind.__name__}")
        return list(value)

    def _damaged(self, what: str) -> UserError:
        return UserError(
            f"{self._source.path}: the tokenizer is damaged: {what}; download the file again"
        )


def _is_added(kind: int) -> bool:
    return kind in (_CONTROL, _USER_DEFINED)


def _template(before: list[str], sequence: str, after: list[str]) -> list[dict[str, Any]]:
    number = 0 if sequence == "A" else 1
    marks = [[{"SpecialToken": {"id": token, "type_id": number}} for token in part]
             for part in (before, after)]  # fmt: skip
    return [*marks[0], {"Sequence": {"id": sequence, "type_id": number}}, *marks[1]]


def _require_loadable(definition: Mapping[str, Any], source: GgufFile) -> None:
    """Build the tokenizer once: what is written can be read."""
    try:
        tokenizers.Tokenizer.from_str(json.dumps(definition))
    except Exception as error:  # the package raises no class of its own
        reason = " ".join(str(error).split())
        raise UserError(
            f"{source.path}: the tokenizer is damaged ({reason}); download the file again"
        ) from error


def _text(described: Mapping[str, Any]) -> str:
    return json.dumps(described, ensure_ascii=False, indent=2) + "\n"
