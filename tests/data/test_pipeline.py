"""Tokens, masks and batches: only the policy's words train; a resumed iterator goes on exactly."""

import collections

import pytest

from r1ci_jax.data import encoding, pipeline
from r1ci_jax.data.demonstrations import Demonstration, asked, mistaken, observed, written
from r1ci_jax.errors import UserError
from r1ci_jax.text import chat, prompts, protocol, tokenizer
from r1ci_jax.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def toy_tokenizer(demonstrations: list[Demonstration]) -> Tokenizer:
    return tokenizer.train_byte_bpe(encoding.texts(demonstrations), 512)


def _steered() -> Demonstration:
    return Demonstration(
        example_id="e",
        task="toy_letters",
        agent="codesteer",
        kind="steered_wrong",
        prompt="How many 'a' in 'aba'?",
        segments=(
            mistaken("<<<3>>>"),
            asked(prompts.CHECK_TURN),
            written("```python\nprint(2)\n```"),
            observed("\nCode Execution Results:\n<|im_end|>2\n"),
            written("<<<2>>>"),
        ),
        correct=True,
    )


def test_the_whole_trajectory_stands_there_and_only_the_policys_words_train(
    toy_tokenizer: Tokenizer,
) -> None:
    row = encoding.encode(_steered(), toy_tokenizer)
    ids = row.tokens_T.tolist()
    assert toy_tokenizer.decode(ids) == (
        "<|im_start|>user\nHow many 'a' in 'aba'?<|im_end|>\n"
        "<|im_start|>assistant\n<<<3>>><|im_end|>\n"
        "<|im_start|>user\nCheck the answer with code.<|im_end|>\n<|im_start|>assistant\n"
        "```python\nprint(2)\n```\nCode Execution Results:\n<|im_end|>2\n<<<2>>><|im_end|>"
    )
    learnt = [i for i, sampled in zip(ids, row.sampled_T, strict=True) if sampled]
    assert toy_tokenizer.decode(learnt) == "```python\nprint(2)\n```<<<2>>><|im_end|>"
    # The mark that a script printed is text; the only real ones close turns.
    assert ids.count(toy_tokenizer.eos_id) == 4


def test_every_demonstration_is_encoded_as_a_rollout_would(
    demonstrations: list[Demonstration], toy_tokenizer: Tokenizer
) -> None:
    rows = encoding.encode_all(demonstrations, toy_tokenizer, sequence_length=256)
    for demonstration, row in zip(demonstrations, rows, strict=True):
        ids = row.tokens_T.tolist()
        prompt = chat.prompt_ids(toy_tokenizer, demonstration.prompt)
        assert ids[: len(prompt)] == prompt
        assert not row.sampled_T[: len(prompt)].any()
        assert ids[-1] == toy_tokenizer.eos_id and row.sampled_T[-1]
        learnt = toy_tokenizer.decode(row.tokens_T[row.sampled_T].tolist())
        own = "".join(segment.text for segment in demonstration.segments if segment.sampled)
        assert learnt == own + "<|im_end|>"


def test_long_output_is_clipped_as_in_a_rollout(toy_tokenizer: Tokenizer) -> None:
    shown = "\nCode Execution Results:\n" + "12345 " * 50 + "\n"
    demonstration = Demonstration(
        example_id="e",
        task="t",
        agent="code_agent",
        kind="code",
        prompt="q",
        segments=(observed(shown), written("<<<1>>>")),
        correct=True,
    )
    whole = encoding.encode(demonstration, toy_tokenizer)
    clipped = encoding.encode(demonstration, toy_tokenizer, observation_tokens=64)
    assert len(whole.tokens_T) - len(clipped.tokens_T) == len(toy_tokenizer.encode(shown)) - 64
    assert protocol.CLIP_MARK in toy_tokenizer.decode(clipped.tokens_T.tolist())


def test_a_too_long_demonstration_is_named(toy_tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"demonstration of e has \d+ tokens, more than .* = 20"):
        encoding.encode_all([_steered()], toy_tokenizer, sequence_length=20)


@pytest.mark.parametrize("taken", [0, 1, 3, 5])
def test_a_resumed_iterator_equals_an_uninterrupted_one(taken: int) -> None:
    def make() -> pipeline.Batches[list[str]]:
        return pipeline.prompt_batches([f"q{i}" for i in range(10)], 4, seed=1)

    going, fresh = make(), make()
    for _ in range(taken):
        next(going)
    state = going.get_state()
    assert isinstance(state, bytes)
    fresh.set_state(state)
    for _ in range(3):
        assert next(fresh) == next(going)
    assert fresh.get_state() == going.get_state()


def test_prompt_batches_are_full_and_fair() -> None:
    batches = pipeline.prompt_batches(range(10), 4, seed=7)
    assert batches.steps is None
    stream = [row for _ in range(15) for row in next(batches)]
    for epoch in range(6):
        assert sorted(stream[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert len({tuple(stream[i : i + 10]) for i in range(0, 60, 10)}) == 6
    assert collections.Counter(stream) == dict.fromkeys(range(10), 6)
    with pytest.raises(UserError, match="no question to train on"):
        pipeline.prompt_batches([], 4, seed=0)
