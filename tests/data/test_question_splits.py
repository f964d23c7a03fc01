"""Splits are disjoint across tasks, complete, and the same everywhere."""

import collections
import os
import subprocess
import sys

import pytest

from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import question_splits
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base, registry


def test_splits_have_their_counts_and_share_no_question(questions: DatasetConfig) -> None:
    owner: dict[str, str] = {}
    for name in questions.tasks:
        splits = question_splits.generate_splits(registry.get(name), questions, seed=0)
        assert {split: len(rows) for split, rows in splits.items()} == question_splits.split_sizes(
            questions
        )
        for split, rows in splits.items():
            levels = collections.Counter(example.difficulty for example in rows)
            assert max(levels.values()) - min(levels.values()) <= 1
            for example in rows:
                assert owner.setdefault(base.normalize_question(example.question), split) == split
            assert len({base.normalize_question(example.question) for example in rows}) == len(rows)


def test_the_split_depends_on_the_text_alone() -> None:
    counts = {"sft": 5, "grpo": 3, "eval": 2}
    texts = [f"What is {n}?" for n in range(3_000)]
    found = collections.Counter(question_splits.split_of(text, counts) for text in texts)
    assert {split: round(n / 300) for split, n in found.items()} == counts
    assert all(
        question_splits.split_of(text, counts)
        == question_splits.split_of(f"  {text.upper()} ", counts)
        for text in texts[:50]
    )


def test_another_seed_draws_other_questions(questions: DatasetConfig) -> None:
    task = registry.get("toy_letters")
    one, two = (
        question_splits.generate_splits(task, questions, seed=seed)["eval"] for seed in (0, 1)
    )
    assert {e.question for e in one}.isdisjoint(e.question for e in two)


def test_an_exhausted_task_is_reported() -> None:
    many = DatasetConfig(tasks=("toy_arithmetic",), difficulties=(1,), sft_per_task=3_000)
    with pytest.raises(
        UserError, match=r"toy_arithmetic at difficulty 1 has too few .*sft [0-9]+ of 3000"
    ):
        question_splits.generate_splits(registry.get("toy_arithmetic"), many, seed=0)
    with pytest.raises(UserError, match="has no difficulty 6"):
        question_splits.generate_splits(
            registry.get("toy_arithmetic"), DatasetConfig(tasks=("x",), difficulties=(6,)), seed=0
        )


_SCRIPT = """
from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import question_splits
from r1ci_jax.tasks import registry
wanted = DatasetConfig(tasks=("x",), sft_per_task=9, grpo_per_task=5, eval_per_task=4)
tasks = [registry.get(name) for name in registry.names(suite="toy")]
print([question_splits.generate_splits(task, wanted, seed=2) for task in tasks])
"""


def test_another_process_draws_the_same_splits() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "77")
    }
    assert len(outputs) == 1 and len(outputs.pop()) > 1_000


def test_a_question_with_half_a_surrogate_pair_has_a_split_and_a_key() -> None:
    counts = {"sft": 1, "eval": 1}
    assert question_splits.split_of("What is \ud800?", counts) in counts
    keys = {question_splits.question_key(text) for text in ("a\ud800", "a\udfff", "a?", "a\ufffd")}
    assert len(keys) == 4
