"""Ablations of the demonstrations: wrong ones among the right ones, learned observations."""

import collections

import pytest

from r1ci_jax.config import DemonstrationConfig
from r1ci_jax.data import encoding, scripted_teacher
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.external.selection import Selection
from r1ci_jax.data.scripted import strategies
from r1ci_jax.data.scripted.scripted_teachers import ScriptedTeachers
from r1ci_jax.data.scripted_teacher import Interpreter
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import protocol, tokenizer

MIX = DemonstrationConfig(code_agent=1, all_text=0, all_code=0, codesteer=0, wrong=0.25)


def examples(task: str, count: int) -> list[Example]:
    return [registry.get(task).generate(index, 5, 1) for index in range(count)]


def is_right(made: Demonstration, asked: list[Example]) -> bool:
    [example] = [each for each in asked if each.id == made.example_id]
    answer = protocol.final_answer(made.segments[-1].text)
    assert answer is not None
    return registry.get(made.task).score(example, answer).correct


def test_a_quarter_of_the_toy_demonstrations_is_wrong_and_learned(interpreter: Interpreter) -> None:
    asked = examples("toy_letters", 40)
    made = scripted_teacher.write_demonstrations(asked, interpreter, seed=1, mix=MIX)
    assert collections.Counter(each.kind == "wrong" for each in made) == {True: 10, False: 30}
    for each in made:
        assert is_right(each, asked) == each.correct == (each.kind != "wrong")
        assert each.segments[-1].sampled


def test_scripted_teachers_are_wrong_by_a_wrong_script_or_a_guess(interpreter: Interpreter) -> None:
    by_shape: collections.Counter[int] = collections.Counter()
    for task in ("letters", "number_multiply"):
        asked = examples(task, 24)
        source = ScriptedTeachers(sandbox=interpreter, seed=1, mix=MIX)
        made = source.teach(asked, Selection(70)).demonstrations
        wrong = [each for each in made if each.kind == "wrong"]
        assert 4 <= len(wrong) <= 6
        for each in made:
            assert is_right(each, asked) == each.correct == (each.kind != "wrong")
        assert all(s.sampled for each in wrong for s in each.segments if s.role == "assistant")
        by_shape.update(len(each.segments) for each in wrong)
    assert set(by_shape) <= {1, 3}


def test_no_wrong_ones_leave_the_shares_as_they_are() -> None:
    table = strategies.weights(DemonstrationConfig())
    assert table["code_agent", "wrong"] == 0
    halved = strategies.weights(DemonstrationConfig(wrong=0.5))
    assert halved["code_agent", "code"] == pytest.approx(table["code_agent", "code"] / 2)
    assert halved["all_text", "direct"] == pytest.approx(table["all_text", "direct"])
    assert halved["code_agent", "wrong"] == pytest.approx(0.35)  # half of 0.7


def test_observations_become_targets_and_nothing_else(
    demonstrations: list[Demonstration],
) -> None:
    ours = tokenizer.train_byte_bpe(encoding.iterate_texts(demonstrations), 400)
    [steered, *_] = [each for each in demonstrations if each.kind == "steered_wrong"]
    masked = encoding.encode(steered, ours)
    learned = encoding.encode(steered, ours, learn_observations=True)
    assert masked.tokens_T.tolist() == learned.tokens_T.tolist()
    more = learned.tokens_T[learned.sampled_T & ~masked.sampled_T].tolist()
    shown = [segment.text for segment in steered.segments if segment.role == "observation"]
    assert ours.decode(more) == "".join(shown)
    assert (learned.sampled_T >= masked.sampled_T).all()
