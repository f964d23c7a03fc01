"""Options of chat and serve: what stands in place of the checkpoint's own."""

import argparse
import json
from pathlib import Path

import pytest

from r1ci_jax.cli import sampling_options
from r1ci_jax.cli.talk import model_options
from r1ci_jax.config import SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.tools.chat import chat_model
from tests.rollout.scripts import CODE_THEN_ANSWER


def parse(*words: str, place: str = "DIR") -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    model_options.add(parser)
    return parser.parse_args([place, *words])


def test_only_what_is_chosen_replaces_the_models_own() -> None:
    assert sampling_options.chosen(parse()) == {}
    assert sampling_options.chosen(parse("--greedy")) == {"temperature": 0.0}
    words = ("--temperature", "1", "--top-k", "0", "--top-p", ".5", "--min-p", ".1")
    assert SamplingParams(**sampling_options.chosen(parse(*words))) == (
        SamplingParams(temperature=1.0, top_p=0.5, min_p=0.1)
    )
    found = sampling_options.chosen(parse("--repetition-penalty", "1.2"))
    assert found == {"repetition_penalty": 1.2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top-p", "0"), "--top-p must be above 0"),
        (("--repetition-penalty", "0"), "--repetition-penalty must be at least 0.01"),
        (("--greedy", "--temperature", "1"), "--greedy is temperature 0"),
    ],
)
def test_mistakes_name_the_option(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sampling_options.chosen(parse(*words))


def test_the_command_line_goes_before_the_checkpoint(scripted) -> None:
    place = Path(scripted(CODE_THEN_ANSWER))
    config = {"do_sample": True, "top_k": 5, "repetition_penalty": 1.1}
    (place / "generation_config.json").write_text(json.dumps(config))
    args = parse("--top-k", "7", "--bare", place=str(place))
    assert model_options.load(args, None).sampling == SamplingParams(
        top_k=7, repetition_penalty=1.1
    )


def test_a_published_model_brings_its_sampling_and_its_system_message(scripted) -> None:
    place = Path(scripted(CODE_THEN_ANSWER))
    (place / "generation_config.json").write_text(json.dumps({"do_sample": True, "top_k": 5}))
    (place / "chat_template.jinja").write_text(
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\n{{ messages[0].content }}<|im_end|>\n{{ '<|im_start|>assistant\n' }}"
    )
    found = chat_model.load(str(place), None, None, "float32")
    assert (found.sampling, found.system) == (SamplingParams(top_k=5), "Be kind.")
