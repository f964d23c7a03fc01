"""Options of chat and serve: what stands in place of the checkpoint's own."""

import argparse
import json
from pathlib import Path

import pytest

from r1ci_jax.cli.talk import model_options
from r1ci_jax.config import SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.tools.chat import chat_model
from tests.rollout.scripts import CODE_THEN_ANSWER

OWN = SamplingParams(temperature=0.7, top_k=20, repetition_penalty=1.1)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    model_options.add(parser)
    return parser.parse_args(["DIR", *words])


def test_what_is_not_chosen_is_the_checkpoints() -> None:
    assert model_options.sampling(parse(), OWN) == OWN
    assert model_options.sampling(parse("--greedy"), OWN) == SamplingParams(
        temperature=0.0, top_k=20, repetition_penalty=1.1
    )
    words = ("--temperature", "1", "--top-k", "0", "--top-p", ".5", "--min-p", ".1")
    assert model_options.sampling(parse(*words, "--repetition-penalty", "1"), OWN) == (
        SamplingParams(temperature=1.0, top_p=0.5, min_p=0.1)
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top-p", "0"), "--top-p must be above 0"),
        (("--repetition-penalty", "0"), "--repetition-penalty must be above 0"),
        (("--greedy", "--temperature", "1"), "--greedy is temperature 0"),
    ],
)
def test_mistakes_name_the_option(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_options.sampling(parse(*words), OWN)


def test_a_published_model_brings_its_sampling_and_its_system_message(scripted) -> None:
    place = Path(scripted(CODE_THEN_ANSWER))
    (place / "generation_config.json").write_text(json.dumps({"do_sample": True, "top_k": 5}))
    (place / "chat_template.jinja").write_text("{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}")
    found = chat_model.load(str(place), None, None, "float32")
    assert (found.sampling, found.system) == (SamplingParams(top_k=5), "Be kind.")
