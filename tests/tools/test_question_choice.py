"""Words choose tasks; the held-out questions are those of the experiments."""

import pytest

from experiments import tasks
from r1ci_jax.data import question_splits
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import registry, train_test_split
from r1ci_jax.tools.model_evaluation import question_choice


def test_words_name_tasks_suites_splits_and_patterns() -> None:
    choose = question_choice.choose
    toy = registry.names(suite="toy")
    assert choose(["toy"]) == choose(["toy_*"]) == toy
    assert choose(["toy_search,game24", "toy_letters"]) == ("toy_letters", "toy_search", "game24")
    assert choose(["paper"]) == tasks.TASKS and choose(["offline"]) == tasks.OFFLINE
    assert sorted(choose(["test"])) == sorted(train_test_split.TEST)
    assert len(choose(["train"])) == 107 and not {*choose(["train"])} & {*toy}
    assert choose(["toy:train"]) == toy
    both = {*registry.names(suite="bbh")} & {*train_test_split.TEST}
    assert {*choose(["bbh:test"])} == both and 0 < len(both) < 30
    assert choose(["rg_*:test", "offline:symbench:test"]) == tuple(
        name
        for name in registry.names()
        if name in train_test_split.TEST and not name.startswith("bbh_")
    )


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("toy_sortin", "did you mean toy_sorting"),
        ("zzz", "see r1ci tasks list"),
        ("toy:test", "no task is in both"),
        ("toy:tset", "did you mean|names no task"),
        ("rg_*:", "names no task"),
    ],
)
def test_a_word_that_names_nothing_is_refused(word: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        question_choice.choose([word, "toy"])
    assert "\n" not in str(caught.value)


def test_questions_are_those_on_which_experiments_evaluate() -> None:
    names = ("toy_letters", "game24", "number_multiply")
    sizes = question_choice.default_questions(names)
    found = question_choice.generate(sizes, 7, seed=0, report=lambda _: None)
    assert [each.task for each in found] == list(names) * 7  # the tasks in turn
    assert sizes == type(sizes)(**{**vars(tasks.DATASET), "tasks": names})
    for name in names:
        whole = question_splits.generate_splits(registry.get(name), sizes, seed=0)
        mine = [each for each in found if each.task == name]
        assert mine == whole["eval"][:7]
        trained = {each.question for split in ("sft", "grpo") for each in whole[split]}
        assert not trained & {each.question for each in mine}


def test_no_more_questions_than_are_held_out() -> None:
    sizes = question_choice.default_questions(("toy_letters",))
    with pytest.raises(UserError, match="--questions 201: 200 of each task are held out"):
        question_choice.generate(sizes, 201, seed=0, report=lambda _: None)
