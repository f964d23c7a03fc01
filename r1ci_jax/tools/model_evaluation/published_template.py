"""What a published chat template makes of a question, against the ChatML that is assembled here.

A template is a Jinja program of the checkpoint's publisher. It is rendered as transformers renders
it, in Jinja's sandbox for programs of others, for one message of a user; what stands around that
message is what the publisher's model has read in training.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from r1ci_jax.runtime import json_reader
from r1ci_jax.text import prompts, stop_tokens
from r1ci_jax.text.tokenizer import MESSAGE_END, MESSAGE_START

_TOKENIZER_FILE, _TEMPLATE_FILE = "tokenizer_config.json", "chat_template.jinja"
_SPECIAL_TOKENS: Final = ("bos_token", "eos_token", "pad_token", "unk_token")
"""Variables of a template, by their names in the tokenizer's file."""
_QUESTION: Final = "What is 6 * 7?"
_SHOWN: Final = 60
"""Characters of a template's text in a message."""
_FORM: Final = re.compile(
    rf"(?P<before>.*?)(?:{re.escape(MESSAGE_START)}system\n(?P<system>.*?){re.escape(MESSAGE_END)}\n)?"
    rf"{re.escape(MESSAGE_START)}user\n(?P<head>.*?){re.escape(_QUESTION)}(?P<tail>.*?)"
    rf"{re.escape(MESSAGE_END)}\n{re.escape(MESSAGE_START)}assistant\n(?P<after>.*)",
    re.DOTALL,
)


class Around(NamedTuple):
    """What a template puts around a question."""

    system: str = ""
    """System message of a conversation that brings none."""
    deviations: tuple[str, ...] = ()
    """What it does that is not done here, a sentence each."""


def read(directory: Path) -> Around:
    """Render the template of a checkpoint directory; without one there is nothing to do.

    Raises:
        UserError: A file is damaged.
    """
    config = _tokenizer_config(directory)
    path = directory / _TEMPLATE_FILE
    template = (
        path.read_bytes().decode("utf-8", "replace")
        if path.is_file()
        else config.get("chat_template")
    )
    if isinstance(template, list):  # several by name
        named = {each.get("name"): each for each in template if isinstance(each, Mapping)}
        template = named.get("default", {}).get("template", "")
        if not template:
            return Around(deviations=("none of its chat templates is the default, ChatML is used",))
    if not isinstance(template, str) or not template:
        return Around()
    spelled = {name: stop_tokens.spelling(config, directory, name) for name in _SPECIAL_TOKENS}
    tokens = {name: text for name, text in spelled.items() if text is not None}
    try:
        return _compare(_render(template, tokens))
    except Exception as error:  # whatever a program of others may raise
        reason = " ".join(str(error).split())[: 2 * _SHOWN]
        return Around(deviations=(f"its chat template fails ({reason}), and ChatML is used",))


def _compare(rendered: str) -> Around:
    found = _FORM.fullmatch(rendered)
    if found is None:
        return Around(deviations=("its chat template is not ChatML, and ChatML is used",))
    known = {"", *prompts.INSTRUCTIONS.values()}  # of a checkpoint that was exported here
    places = {
        "begins a conversation": found["before"],
        "begins a question": "" if found["head"] in known else found["head"],
        "ends a question": found["tail"],
        "begins an answer": found["after"],
    }
    return Around(
        system=found["system"] or "",
        deviations=tuple(
            f"its chat template {place} with {text[:_SHOWN]!r}, which is left out"
            for place, text in places.items()
            if text
        ),
    )


def _render(template: str, special_tokens: Mapping[str, str]) -> str:
    from jinja2.ext import loopcontrols  # takes long to import
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": lambda form: datetime.now().strftime(form),
    }
    return environment.from_string(template).render(
        messages=[{"role": "user", "content": _QUESTION}],
        add_generation_prompt=True,
        tools=None,
        documents=None,
        **special_tokens,
    )


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise(message: str) -> None:
    raise ValueError(message)


def _tokenizer_config(directory: Path) -> Mapping[str, Any]:
    path = directory / _TOKENIZER_FILE
    return json_reader.load_object(path, stop_tokens.REMEDY) if path.is_file() else {}
