"""The chat template of an exported model, in Jinja: it renders what `chatml` assembled in training.

The rendered text is the same to the byte. Where it is tokenized as a whole, the ids are the same
too, but for the border between the policy's words and the output of a script: in training a segment
of another writer begins a new token (ADR 0004).
"""

from typing import Final

OUTPUT_ROLE: Final = "tool"
"""Role of a message that holds what the policy read of a script, as it read it."""

_TEMPLATE: Final = """\
{%- if instructions is not defined %}{%- set instructions = INSTRUCTIONS %}{%- endif %}
{%- set seen = namespace(user=false) %}
{%- for message in messages %}
{%- set next = '' if loop.last else messages[loop.index0 + 1].role %}
{%- set before = '' if loop.first else messages[loop.index0 - 1].role %}
{%- if message.role == 'user' or message.role == 'system' %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'user' and not seen.user %}
{{- instructions }}
{%- set seen.user = true %}
{%- endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' or message.role == 'tool' %}
{%- if message.role == 'assistant' and before != 'tool' %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
{{- message.content }}
{%- set continues = next == 'assistant' or (loop.last and add_generation_prompt) %}
{%- if next != 'tool' and not (message.role == 'tool' and continues) %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- else %}
{{- raise_exception('roles are system, user, assistant and tool, not ' + message.role) }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt and (not messages or messages[-1].role != 'tool') %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def source(instructions: str) -> str:
    """Return the template that puts `instructions` before the first user message.

    Whoever renders it may pass others as the variable `instructions`. A message of the role `tool`
    continues the assistant's message, as the output of a script does, and so does the assistant's
    next one. No system message is added.
    """
    return _TEMPLATE.replace("INSTRUCTIONS", _literal(instructions)).rstrip("\n")


def _literal(text: str) -> str:
    """Spell a text as a Jinja string."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return f'"{text}"'
