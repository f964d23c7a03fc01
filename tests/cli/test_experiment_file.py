"""Experiment files and overrides."""

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

import experiments as experiments_package
from r1ci_jax import renamed
from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.config import Arm, DatasetConfig, Experiment, GrpoConfig
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
            "--config.seed=3",
            "--config.grpo.warmup-steps=4",
        ],
    )
    assert loaded.sft.lr == 1e-3
    assert loaded.sandbox.limits.cpu_seconds == 2.5
    assert loaded.grpo.steps_per_stage == (1, 2, 3, 4)
    assert loaded.dataset.tasks == ("toy_letters", "toy_search")
    assert loaded.seed == 3 and loaded.grpo.warmup_steps == 4
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
        (["--config.sft.lr=fast"], "--config.sft.lr must be a finite number, at least 0, not fast"),
        (["--config.grpo.steps_per_stage=1,2"], "needs 4 entries"),
        (["--config.dataset.tasks="], "dataset.tasks must be one or more values"),
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
    with pytest.raises(UserError, match=r"did you mean experiments/tiny\.py\?$"):
        experiments.load("experiments/tinny.py")
    with pytest.raises(UserError, match=r"there are: experiments/tiny\.py, "):
        experiments.load("experiments/zzzz.py")
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
    text = experiments.describe(spec, experiments.find_changes(default, changed), "runs/x")
    assert text.splitlines() == [
        f"config of {spec}: 1 change; every setting: runs/x/config.json",
        "* sft.lr = 0.5   (file: 1e-05)",
    ]
    one = experiments.apply_overrides(default, ["--config.arms=grpo_curriculum"])
    text = experiments.describe(spec, experiments.find_changes(default, one), "runs/x")
    assert text.endswith("\n* arms = grpo_curriculum   (file: grpo_uniform, grpo_curriculum)")
    assert len(experiments.describe(spec, {}, "runs/x").splitlines()) == 1
    assert experiments.describe(spec, {}) == f"config of {spec}: as in the file"


def test_a_file_of_another_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = experiments.describe("experiments/toy.py:smoke", {})
    found = experiments.find_file("experiments/toy.py")
    assert text == f"config of experiments/toy.py:smoke ({found}): as in the file"


def _documented_fields(kind: type, prefix: str = "") -> dict[str, bool]:
    """Dotted name of every leaf setting, and whether a docstring follows its definition."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    (definition,) = tree.body
    assert isinstance(definition, ast.ClassDef)
    hints, found = typing.get_type_hints(kind), {}
    for statement, following in itertools.pairwise([*definition.body, ast.Pass()]):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name, value = statement.target.id, getattr(following, "value", None)
        if dataclasses.is_dataclass(hints[name]):
            found |= _documented_fields(hints[name], f"{prefix}{name}.")
        else:
            text = value.value if isinstance(value, ast.Constant) else None
            found[prefix + name] = isinstance(text, str) and len(text) > 10
    return found


@pytest.mark.parametrize("kind", [Experiment, Arm])
def test_every_setting_has_a_docstring(kind: type) -> None:
    documented = _documented_fields(kind)
    assert len(documented) > (2 if kind is Arm else 90)
    assert not [name for name, has_docstring in documented.items() if not has_docstring]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--config.grpo.passes=2", "write --config.grpo.num_iterations=2"),
        ("--config.questions.tasks=toy_letters", "write --config.dataset.tasks=toy_letters"),
        ("--config.teacher.demonstrations=f.jsonl", "write --config.demonstrations.path=f.jsonl"),
        ("--config.sampler.weights=full", "write --config.sampler.weight_quantization=none"),
        ("--config.grpo.behaviour=recomputed", "write --config.grpo.old_logprobs=recompute"),
    ],
)
def test_an_old_key_is_answered_with_the_new_one(spec: str, word: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        experiments.load(spec, [word])
    old = word.partition("=")[0]
    new = expected.partition(" ")[2].partition("=")[0]
    assert str(caught.value) == f"{old} was renamed to {new}: {expected}"


def test_renamed_keys_are_complete() -> None:
    today = set(experiments.leaf_fields(Experiment))
    for old, new in renamed.CONFIG_KEYS.items():
        assert new in today and old not in today, (old, new)
    assert not set(renamed.CONFIG_GROUPS) & {name.partition(".")[0] for name in today}
    assert set(renamed.CONFIG_VALUES) <= set(renamed.CONFIG_KEYS)
    documented = (experiments.ROOT / "docs" / "metrics.md").read_text()
    for old, new in renamed.METRICS.items():
        assert f"`{new}`" in documented and f"`{old}`" not in documented, (old, new)


def test_arms_are_chosen_by_name(spec: str) -> None:
    default = experiments.load(spec)
    assert [arm.name for arm in default.arms] == ["grpo_uniform", "grpo_curriculum"]
    chosen = experiments.load(spec, ["--config.arms=grpo_curriculum"])
    assert chosen.arms == (Arm(name="grpo_curriculum"),)
    assert chosen.models == ("untrained", "sft", "grpo_curriculum")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--config.arms=grpo_fast", r"names of arms \(grpo_uniform, .*\), not grpo_fast"),
        ("--config.arms=grpo_uniform,grpo_uniform", "arms has grpo_uniform more than once"),
    ],
)
def test_wrong_arms_are_one_line(spec: str, word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        experiments.load(spec, [word])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Arm(name="fast"), "arm 'fast': a name is grpo_"),
        (lambda: Arm(name="grpo_x", order="random"), "arm.order must be one of"),  # pyright: ignore[reportArgumentType]
        (
            lambda: Experiment(
                name="x",
                dataset=DatasetConfig(tasks=("toy_letters",)),
                arms=(Arm(name="grpo_x", grpo=GrpoConfig(steps_per_stage=(1, 2))),),
            ),
            "grpo.steps_per_stage of arm grpo_x needs 4 entries",
        ),
    ],
)
def test_unfit_arms_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_every_knob_is_listed_with_its_docstring() -> None:
    shown = Experiment(name="shown", dataset=DatasetConfig(tasks=("toy_gcd_lcm",)))
    text = " ".join(experiments.format_knobs(shown).replace("│", " ").split())
    for key in experiments.leaf_fields(Experiment):
        assert f"--config.{key} " in text
    assert "Decode steps per device call." in text
    assert "(default: shown)" in text
