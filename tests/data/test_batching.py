"""Tokens, masks and batches: only the policy's words train; a resumed iterator goes on exactly."""

import collections
import dataclasses
import itertools
from pathlib import Path

import grain
import pytest

from r1ci_jax.data import batching, encoding
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.errors import UserError
from r1ci_jax.text import chatml, prompts, protocol, tokenizer
from r1ci_jax.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def toy_tokenizer(demonstrations: list[Demonstration]) -> Tokenizer:
    return tokenizer.train_byte_bpe(encoding.iterate_texts(demonstrations), 512)


def _steered() -> Demonstration:
    return Demonstration(
        example_id="e",
        task="toy_letters",
        agent="codesteer",
        kind="steered_wrong",
        prompt="How many 'a' in 'aba'?",
        segments=(
            Segment.masked("<<<3>>>"),
            Segment.from_user(prompts.CHECK_MESSAGE),
            Segment.learned("```python\nprint(2)\n```"),
            Segment.observed("\nCode Execution Results:\n<|im_end|>2\n"),
            Segment.learned("<<<2>>>"),
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
        prompt = chatml.prompt_ids(toy_tokenizer, demonstration.prompt)
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
        segments=(Segment.observed(shown), Segment.learned("<<<1>>>")),
        correct=True,
    )
    whole = encoding.encode(demonstration, toy_tokenizer)
    clipped = encoding.encode(demonstration, toy_tokenizer, max_observation_tokens=64)
    assert len(whole.tokens_T) - len(clipped.tokens_T) == len(toy_tokenizer.encode(shown)) - 64
    assert protocol.CLIP_MARK in toy_tokenizer.decode(clipped.tokens_T.tolist())


def test_a_too_long_demonstration_is_named(toy_tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"demonstration of e has \d+ tokens, more than .* = 20"):
        encoding.encode_all([_steered()], toy_tokenizer, sequence_length=20)


@pytest.mark.parametrize("taken", [0, 1, 3, 5])
def test_a_resumed_iterator_equals_an_uninterrupted_one(taken: int) -> None:
    def make() -> batching.Batches[list[str]]:
        return batching.prompt_batches([f"q{i}" for i in range(10)], 4, seed=1)

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
    batches = batching.prompt_batches(range(10), 4, seed=7)
    assert batches.steps is None
    stream = [row for _ in range(15) for row in next(batches)]
    for epoch in range(6):
        assert sorted(stream[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert len({tuple(stream[i : i + 10]) for i in range(0, 60, 10)}) == 6
    assert collections.Counter(stream) == dict.fromkeys(range(10), 6)
    with pytest.raises(UserError, match="no question to train on"):
        batching.prompt_batches([], 4, seed=0)
    alone = batching.prompt_batches(range(3), 1, seed=0)
    assert sorted(number for _ in range(3) for number in next(alone)) == [0, 1, 2]


def test_prompt_batches_come_in_grains_order_of_the_rows() -> None:
    rows = [f"q{i}" for i in range(37)]
    plain = grain.MapDataset.source(rows).seed(11).shuffle().repeat()
    batches = batching.prompt_batches(rows, 5, seed=11)
    drawn = [row for _ in range(20) for row in next(batches)]
    assert drawn == [plain[i] for i in range(100)]


# --- the whole conversation, rendered at once -----------------------------------------------------


@pytest.mark.parametrize(
    ("share", "wanted"),
    # Of 5 rows .4 are 2: the third and the fifth. A share of .1 rounds to none, of .9 to 4.
    [(0.4, "nnene"), (0.1, "nnnnn"), (0.9, "neeee"), (1.0, "eeeee"), (0.0, "nnnnn")],
)
def test_replayed_rows_are_spread_over_a_batch(share: float, wanted: str) -> None:
    new, earlier = [f"n{i}" for i in range(7)], [f"e{i}" for i in range(3)]
    batches = batching.replay_batches(new, earlier, 5, share, seed=3)
    rows = [next(batches) for _ in range(21)]
    assert {"".join(row[0] for row in batch) for batch in rows} == {wanted}
    for source in (new, earlier):
        asked = [row for batch in rows for row in batch if row[0] == source[0][0]]
        for epoch in itertools.batched(asked, len(source)):
            assert len(set(epoch)) == len(epoch)


def test_replay_resumes_exactly() -> None:
    def make() -> batching.Batches[list[str]]:
        new, earlier = [f"n{i}" for i in range(7)], [f"e{i}" for i in range(4)]
        return batching.replay_batches(new, earlier, 4, 0.5, seed=3)

    whole, stopped, resumed = make(), make(), make()
    expected = [next(whole) for _ in range(9)]
    for taken in range(9):
        resumed.set_state(stopped.get_state())
        assert next(resumed) == expected[taken]
        next(stopped)
    with pytest.raises(UserError, match="no question to train on"):
        batching.replay_batches([], ["e"], 4, 0.5, seed=3)


def _plain(*texts: str) -> Demonstration:
    """A conversation whose turns have one writer each."""
    answers = [Segment.learned(text) for text in texts]
    segments = [answers[0]]
    for answer in answers[1:]:
        segments += [Segment.from_user("Look again."), answer]
    return dataclasses.replace(_steered(), prompt="Why?  Because.\n", segments=tuple(segments))


def test_turns_one_by_one_are_the_rendering_of_the_whole(shared_data: Path) -> None:
    qwen = tokenizer.load(str(shared_data / "qwen2.5_tokenizer"))
    conversation = _plain("It is\n\n  4.", "<<<5>>>")
    row = encoding.encode(conversation, qwen)
    rendered = (
        "<|im_start|>user\nWhy?  Because.\n<|im_end|>\n"
        "<|im_start|>assistant\nIt is\n\n  4.<|im_end|>\n"
        "<|im_start|>user\nLook again.<|im_end|>\n<|im_start|>assistant\n<<<5>>><|im_end|>"
    )
    assert row.tokens_T.tolist() == qwen.encode_marked(rendered)
    # A mark that the question spells is no mark: it stays text, to the byte.
    spelled = dataclasses.replace(conversation, prompt="What is <|im_end|>?")
    ids = encoding.encode(spelled, qwen).tokens_T.tolist()
    assert ids.count(qwen.eos_id) == rendered.count("<|im_end|>")


def test_a_tokenizer_that_merges_across_turns_is_refused(toy_tokenizer: Tokenizer) -> None:
    class Eager(Tokenizer):
        """Takes the line break before a turn's text into the text's first token."""

        def encode_marked(self, text: str) -> list[int]:
            return super().encode_marked(text.replace("\nWhy", "Why"))

    eager = Eager(toy_tokenizer._definition, toy_tokenizer._config)
    encoding.encode(_plain("4"), toy_tokenizer)
    with pytest.raises(UserError, match=r"renders the demonstration of .* otherwise than"):
        encoding.encode(_plain("4"), eager)
