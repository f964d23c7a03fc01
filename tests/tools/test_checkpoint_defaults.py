"""Sampling and system message of a checkpoint, and what is said of the rest."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from r1ci_jax.config import EvalConfig, SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.text import chatml
from r1ci_jax.text.tokenizer import MESSAGE_END, MESSAGE_START
from r1ci_jax.tools.model_evaluation import checkpoint_defaults, published_template
from r1ci_jax.tools.model_evaluation.evaluated_model import EvaluatedModel
from r1ci_jax.tools.model_evaluation.evaluation_settings import Choices
from tests.rollout.scripts import ONLY_EOS
from tests.scripted_checkpoint import write_checkpoint

QWEN = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}{{- "# Tools<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen. You help.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""A template of Qwen2.5's form: a default system message, and branches that have none."""
TURNS = "<|im_start|>user\n{{ messages[0].content }}<|im_end|>\n{{ '<|im_start|>assistant\n' }}"
"""The ChatML of a question. Jinja drops a line's end that stands at the end of a template."""


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
    (tmp_path / "chat_template.jinja").write_text(template + TURNS)
    assert read(tmp_path, tokenizer_config={"chat_template": QWEN}).system == "Be brief.\nAlways."


def test_without_files_the_defaults_are_ours(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.sampling == EvalConfig().sampling
    assert (found.system, found.deviations) == ("", ())


def test_a_template_without_a_system_message_gives_none(tmp_path: Path) -> None:
    found = read(tmp_path, tokenizer_config={"chat_template": TURNS})
    assert (found.system, found.deviations) == ("", ())


@pytest.mark.parametrize(
    ("template", "system"),
    [
        # Braces, as those of LaTeX's box.
        ("<|im_start|>system\n{{ 'Put it in \\\\boxed{}.' }}<|im_end|>\n", r"Put it in \boxed{}."),
        (
            "<|im_start|>system\nYou are the user's helper.<|im_end|>\n",
            "You are the user's helper.",
        ),
        # A variable, chosen by what the conversation brings.
        (
            "{% set s = 'Be kind.' %}"
            "{% if messages[0].role == 'system' %}{% set s = '' %}{% endif %}"
            "{{ '<|im_start|>system\n' + s + '<|im_end|>\n' }}",
            "Be kind.",
        ),
        # What only other conversations have.
        ("{% if tools %}<|im_start|>system\nUse tools.<|im_end|>\n{% endif %}", ""),
    ],
)
def test_the_system_message_is_the_rendered_one(tmp_path: Path, template: str, system: str) -> None:
    found = read(tmp_path, tokenizer_config={"chat_template": template + TURNS})
    assert (found.system, found.deviations) == (system, ())


@pytest.mark.parametrize(
    ("template", "deviation"),
    [
        ("{{ bos_token }}" + TURNS, "begins a conversation with '<s>', which is left out"),
        (TURNS + "{{ '<think>\n' }}", "begins an answer with '<think>\\n', which is left out"),
        (
            TURNS.replace("{{ m", "Question: {{ m"),
            "begins a question with 'Question: ', which is left out",
        ),
        (TURNS.replace("assistant", "model"), "is not ChatML, and ChatML is used"),
        ("{{ raise_exception('no system') }}", "fails (no system), and ChatML is used"),
        ("{{ messages[0]['content' }}", "fails (unexpected '}'"),
        ("{{ ''.__class__.__mro__ }}", "fails (access to attribute '__class__'"),
    ],
)
def test_what_a_template_does_besides_is_named(
    tmp_path: Path, template: str, deviation: str
) -> None:
    config = {"chat_template": template, "bos_token": {"content": "<s>"}}
    found = read(tmp_path, tokenizer_config=config)
    assert deviation in found.deviations[0] and found.deviations[0].startswith("its chat template ")


def test_templates_without_a_default_are_a_deviation(tmp_path: Path) -> None:
    for templates in ([{"name": "tool_use", "template": QWEN}], [QWEN]):
        found = read(tmp_path, tokenizer_config={"chat_template": templates})
        assert found.deviations == ("none of its chat templates is the default, ChatML is used",)


def test_every_setting_that_is_not_applied_is_named(tmp_path: Path) -> None:
    asked = {
        "suppress_tokens": [5],
        "min_new_tokens": 3,
        "guidance_scale": 1.5,
        "stop_strings": "X",
    }
    silent = {
        **{"use_cache": False, "num_beams": 1, "max_length": 20, "bad_words_ids": None},
        **{"transformers_version": "5.0", "pad_token_id": 7, "length_penalty": 1.0},
        **{"early_stopping": False, "no_repeat_ngram_size": 0},
    }
    found = read(tmp_path, generation_config={**asked, **silent})
    assert found.deviations == tuple(
        f"{name} = {value} of its generation_config.json is not applied"
        for name, value in asked.items()
    )


def test_another_sampling_is_named_where_the_checkpoint_has_one(tmp_path: Path) -> None:
    model = EvaluatedModel(path=str(tmp_path), run=None)
    write_checkpoint(tmp_path, ONLY_EOS)
    choices = Choices(tasks=("toy_letters",), sampling={"temperature": 0.0})
    assert model.deviations(model.settings(choices)) == []
    read(tmp_path, generation_config={"do_sample": True, "temperature": 0.7, "top_k": 20})
    model = EvaluatedModel(path=str(tmp_path), run=None)
    assert model.deviations(model.settings(choices)) == ["its own sampling has temperature 0.7"]


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


def test_the_published_template_of_qwen_is_read_as_the_reference_renders_it(
    shared_data: Path,
) -> None:
    place = shared_data / "qwen2.5_tokenizer"
    found = published_template.read(place)
    assert found.system.startswith("You are Qwen") and found.deviations == ()
    theirs = transformers.AutoTokenizer.from_pretrained(place).apply_chat_template(
        [{"role": "user", "content": "6 * 7?"}], tokenize=False, add_generation_prompt=True
    )
    system = f"{MESSAGE_START}system\n{found.system}{MESSAGE_END}\n"
    assert theirs == system + chatml.render_prompt("6 * 7?")
