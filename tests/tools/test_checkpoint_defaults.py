"""Sampling and system message of a checkpoint, and what is said of the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.config import EvalConfig, SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.tools.model_evaluation import checkpoint_defaults

QWEN = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}{{- "# Tools<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen. You help.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}{{- '<|im_start|>' + message.role }}{%- endfor %}"""
"""A template of Qwen2.5's form: a default system message, and branches that have none."""


def read(place: Path, **files: Any) -> checkpoint_defaults.CheckpointDefaults:
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    return checkpoint_defaults.read(place)


def test_what_qwen_asks_for_is_done_and_the_rest_is_named(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        generation_config={
            **{"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20},
            **{"repetition_penalty": 1.1, "num_beams": 2, "eos_token_id": [1, 2]},
        },
        tokenizer_config={"chat_template": QWEN},
    )
    assert found.sampling == SamplingParams(
        temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.1
    )
    assert found.system == "You are Qwen. You help."
    assert found.deviations == ("num_beams = 2 of its generation_config.json is not applied",)


def test_a_greedy_checkpoint_keeps_its_penalty(tmp_path: Path) -> None:
    config = {"do_sample": False, "temperature": 0.7, "repetition_penalty": 1.2}
    found = read(tmp_path, generation_config=config)
    assert found.sampling == SamplingParams(temperature=0.0, repetition_penalty=1.2)


def test_a_template_file_goes_before_the_tokenizers(tmp_path: Path) -> None:
    template = "{{ '<|im_start|>system\nBe brief.\nAlways.<|im_end|>\n' }}"
    (tmp_path / "chat_template.jinja").write_text(template)
    assert read(tmp_path, tokenizer_config={"chat_template": QWEN}).system == "Be brief.\nAlways."


def test_without_files_the_defaults_are_ours(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.sampling == EvalConfig().sampling
    assert (found.system, found.deviations) == ("", ())


def test_a_template_without_a_system_message_gives_none(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '<|im_end|>' }}{% endfor %}"
    assert read(tmp_path, tokenizer_config={"chat_template": template}).system == ""


def test_another_template_is_a_deviation(tmp_path: Path) -> None:
    named = [{"name": "tool", "template": QWEN}, {"name": "default", "template": "[INST]"}]
    found = read(tmp_path, tokenizer_config={"chat_template": named})
    assert found.deviations == ("its chat template is not ChatML, and ChatML is used",)


def test_greedy_and_temperature_one_are_what_the_library_takes(tmp_path: Path) -> None:
    greedy = read(tmp_path, generation_config={"temperature": 0.7, "top_k": 5})
    assert greedy.sampling == SamplingParams(temperature=0.0)
    plain = read(tmp_path, generation_config={"do_sample": True, "top_k": 5})
    assert plain.sampling == SamplingParams(temperature=1.0, top_k=5)


def test_an_impossible_setting_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"generation_config.json: eval.sampling.top_p must be"):
        read(tmp_path, generation_config={"do_sample": True, "top_p": "much"})
