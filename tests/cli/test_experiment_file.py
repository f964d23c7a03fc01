"""Experiment files and overrides."""

import sys
from pathlib import Path

import pytest

import experiments as experiments_package
from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.errors import UserError

FILE = '''
"""A tiny experiment."""
from experiments import base_for_test

VARIANTS = ("smoke",)

def get_config(variant=""):
    return base_for_test.make("tiny" + variant)
'''
BASE = """
from r1ci_jax.config import Experiment, DatasetConfig

def make(name):
    return Experiment(name=name, dataset=DatasetConfig(tasks=("toy_gcd_lcm", "toy_sorting")))
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "tiny.py").write_text(FILE)
    (folder / "base_for_test.py").write_text(BASE)
    (folder / "table_other.py").write_text("def build(runs): ...\n")
    monkeypatch.chdir(tmp_path)
    # Loading puts the folder of the file here; each test has another folder.
    monkeypatch.setattr(experiments_package, "__path__", experiments_package.__path__)
    monkeypatch.delitem(sys.modules, "experiments.base_for_test", raising=False)
    return "experiments/tiny.py"


def test_file_variant_and_overrides(spec: str) -> None:
    assert experiments.load(spec).name == "tiny"
    assert experiments.load(f"{spec}:smoke").name == "tinysmoke"
    loaded = experiments.load(
        spec,
        [
            "--config.sft.lr=1e-3",
            "--config.sandbox.limits.cpu_seconds",
            "2.5",
            "--config.grpo.steps_per_stage=1,2,3,4",
            "--config.dataset.tasks",
            "toy_letters",
            "toy_search",
            "--config.seed=-3",
            "--config.grpo.warmup-steps=4",
        ],
    )
    assert loaded.sft.lr == 1e-3
    assert loaded.sandbox.limits.cpu_seconds == 2.5
    assert loaded.grpo.steps_per_stage == (1, 2, 3, 4)
    assert loaded.dataset.tasks == ("toy_letters", "toy_search")
    assert loaded.seed == -3 and loaded.grpo.warmup_steps == 4
    assert loaded.model == experiments.load_default(spec).model


def test_no_overrides_is_the_default_itself(spec: str) -> None:
    assert experiments.load(spec) == experiments.load_default(spec)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--config.sft.lrr=1"], "did you mean --config.sft.lr?"),
        (["--config.grpo.epochs=2"], "did you mean --config.sft.epochs?"),
        (["--config.lr=2"], r"did you mean --config\.(sft|grpo)\.lr\?"),
        (["--sft.lr=2"], "did you mean --config.sft.lr?"),
        (["--config.sft=1"], "is a group, set one of its fields: --config.sft.epochs"),
        (["--config.sft.lr=fast"], "could not convert string to float: 'fast'"),
        (["--config.grpo.steps_per_stage=1,2"], "needs 4 entries"),
        (["--config.dataset.tasks="], "name at least one task"),
        (["extra"], "unexpected argument 'extra'"),
    ],
)
def test_wrong_overrides_are_one_line(spec: str, words: list[str], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        experiments.load(spec, words)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.match(expected.replace("?", r"\?") if "\\" not in expected else expected)


def test_unknown_files_and_variants_list_what_exists(spec: str) -> None:
    with pytest.raises(UserError, match=r"did you mean experiments/tiny\.py\?.*there are: "):
        experiments.load("experiments/tinny.py")
    with pytest.raises(
        UserError, match=r"no variant 'huge'; its variants: experiments/tiny.py:smoke"
    ):
        experiments.load(f"{spec}:huge")
    with pytest.raises(UserError, match="no get_config"):
        experiments.load("experiments/table_other.py")


def test_experiments_are_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiments.find_file("experiments/table_main.py") is not None


def test_changes_and_description(spec: str) -> None:
    default = experiments.load_default(spec)
    changed = experiments.apply_overrides(default, ["--config.sft.lr=0.5", "--config.seed=0"])
    assert experiments.find_changes(default, changed) == {"sft.lr": (1e-5, 0.5)}
    text = experiments.describe(spec, changed, experiments.find_changes(default, changed))
    assert "* sft.lr = 0.5   (file: 1e-05)" in text
    assert "  seed = 0" in text


def test_every_knob_is_listed_with_its_docstring() -> None:
    shown = Experiment(name="shown", dataset=DatasetConfig(tasks=("toy_gcd_lcm",)))
    text = " ".join(experiments.format_knobs(shown).replace("│", " ").split())
    for key in experiments._leaf_fields(Experiment):
        assert f"--config.{key} " in text
    assert "Decode steps between two looks by the host." in text
    assert "(default: shown)" in text
