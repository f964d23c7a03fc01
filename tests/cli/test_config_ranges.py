"""Every setting refuses what it cannot be, with its full name, the value and the range."""

import dataclasses
import math
import operator
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax import config, ranges
from r1ci_jax.cli.main import main
from r1ci_jax.config import Arm, DatasetConfig, Experiment
from r1ci_jax.errors import UserError

TASKS = DatasetConfig(tasks=("toy_letters",))
EXPERIMENT = Experiment(name="x", dataset=TASKS)
NUMBERS = (int, float)


def _settings(value: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Full name, owner and field name of every setting that is no group of settings."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from _settings(inner, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, field.name


SETTINGS = {name: (owner, field) for name, owner, field in _settings(EXPERIMENT)}


def _strip(hint: Any) -> Any:
    """The type of a number, or of the numbers of a tuple; `None` and ranges are dropped."""
    while not isinstance(hint, type):
        origin = typing.get_origin(hint)
        if origin is typing.Literal:
            return str
        (hint, *_) = (each for each in typing.get_args(hint) if each is not type(None))
    return hint


NUMERIC = {
    name: (owner, field)
    for name, (owner, field) in SETTINGS.items()
    if _strip(ranges.field_types(type(owner))[field]) in NUMBERS
}


def _refused(owner: Any, field: str, value: Any) -> str:
    with pytest.raises(UserError) as caught:
        dataclasses.replace(owner, **{field: value})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_walk_finds_every_group() -> None:
    assert len(NUMERIC) > 70
    groups = {name.rpartition(".")[0] for name in NUMERIC}
    assert groups >= {"", "eval.sampling", "sandbox.limits", "sft", "grpo", "potential", "mesh"}


@pytest.mark.parametrize("name", NUMERIC)
def test_every_number_has_a_range(name: str) -> None:
    owner, field = NUMERIC[name]
    is_tuple = isinstance(getattr(owner, field), tuple)
    # No setting may be as small as this; one without a range takes it.
    for wrong in (-(10**9), math.nan, math.inf, True, "1"):
        message = _refused(owner, field, (wrong,) if is_tuple else wrong)
        assert message.startswith(name + ("[0]" if is_tuple else "") + " must be "), message
        assert f"not {wrong!r}" in message


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_refuses_another_type(name: str) -> None:
    owner, field = SETTINGS[name]
    assert name in _refused(owner, field, object())


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "text"),
    [
        ({"at_least": 2}, (2, 3), (1,), "at least 2"),
        ({"above": 0, "at_most": 1}, (0.1, 1), (0, 1.1), "above 0 and at most 1"),
        ({"above": 0, "below": 1}, (0.5,), (0, 1), "above 0 and below 1"),
    ],
)
def test_bounds(bounds: Any, inside: Any, outside: Any, text: str) -> None:
    allowed = ranges.Range(**bounds)
    assert [allowed.problem(value) for value in inside] == [None] * len(inside)
    assert [allowed.problem(value) for value in outside] == [text] * len(outside)


# What a training cannot mean, one by one: the value and a part of the answer.
NONSENSE: dict[str, tuple[Callable[[], object], str]] = {
    "one rollout": (
        lambda: config.GrpoConfig(rollouts_per_prompt=1),
        "grpo.rollouts_per_prompt must be at least 2, not 1",
    ),
    "greedy rollouts": (
        lambda: config.GrpoConfig(temperature=0.0),
        "grpo.temperature must be above 0, not 0.0",
    ),
    "no step": (lambda: config.GrpoConfig(steps_per_stage=(0, 0)), "grpo.steps_per_stage"),
    "odd minibatches": (
        lambda: config.GrpoConfig(num_minibatches=3),
        "grpo.num_minibatches = 3 does not divide grpo.prompts_per_step = 128",
    ),
    "rising bounds": (
        lambda: config.PotentialConfig(lower_bounds=(0.3, 0.5)),
        r"potential.lower_bounds must be descending, no value twice, not \(0.3, 0.5\)",
    ),
    "equal bounds": (lambda: config.PotentialConfig(lower_bounds=(0.5, 0.5)), "descending"),
    "bound of one": (
        lambda: config.PotentialConfig(lower_bounds=(1.0,)),
        r"potential.lower_bounds\[0\] must be above 0 and below 1, not 1.0",
    ),
    "no temperature": (
        lambda: config.PotentialConfig(temperatures=()),
        "potential.temperatures must be one or more values",
    ),
    "a task twice": (
        lambda: DatasetConfig(tasks=("a", "a")),
        "dataset.tasks must be without repetition",
    ),
    "no task": (lambda: DatasetConfig(tasks=()), "dataset.tasks must be one or more values"),
    "a level twice": (
        lambda: DatasetConfig(tasks=("a",), difficulties=(1, 1)),
        "dataset.difficulties must be without repetition",
    ),
    "no weight": (
        lambda: config.DemonstrationConfig(code_agent=0, all_text=0, all_code=0, codesteer=0),
        "are all zero",
    ),
    "no weight of a kind": (
        lambda: config.DemonstrationConfig(code=0, repair=0, check=0, direct=0),
        "are all zero",
    ),
    "no room for a prompt": (
        lambda: Experiment(name="x", dataset=TASKS, limits=config.TurnLimits(max_new_tokens=256)),
        "sampler.cache_length = 256 has no room .* limits.max_new_tokens = 256",
    ),
    "short rows": (
        lambda: Experiment(
            name="x", dataset=TASKS, grpo=config.GrpoConfig(sequence_lengths=(128,))
        ),
        "grpo.sequence_lengths end at 128; the last must be at least sampler.cache_length = 256",
    ),
    "a name with a slash": (lambda: Experiment(name="../x", dataset=TASKS), "cannot be a dir"),
    "no name": (lambda: Experiment(name="", dataset=TASKS), "cannot be a dir"),
    "a name of dots": (lambda: Experiment(name="..", dataset=TASKS), "cannot be a dir"),
    "a surrogate": (lambda: Experiment(name="\udcff", dataset=TASKS), "cannot be a dir"),
    "a long name": (lambda: Experiment(name="é" * 101, dataset=TASKS), "cannot be a dir"),
    "an order": (
        lambda: Arm(name="grpo_x", order="random"),  # pyright: ignore[reportArgumentType]
        "arm.order must be one of curriculum, uniform, equal_groups, .*, not 'random'",
    ),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_refused(case: str) -> None:
    make, message = NONSENSE[case]
    with pytest.raises(UserError, match=message):
        make()


FILE = """
from r1ci_jax.config import *

def get_config(variant=""):
    return Experiment(name="micro", dataset=DatasetConfig(tasks=("toy_letters",)){more})
"""

WORDS = {
    "--config.sft.epochs=-1": "sft.epochs must be at least 1, not -1",
    "--config.sampler.cache_length=64": "longer than sampler.cache_length = 64",
    "--config.grpo.rollouts_per_prompt=0": "grpo.rollouts_per_prompt must be at least 2, not 0",
    "--config.potential.lower_bounds=(0.6,0.4,0.2)": "lower_bounds=0.6,0.4,0.2, without them",
    "--config.grpo.steps_per_stage=1,-1,1,1": "grpo.steps_per_stage[1] must be at least 0, not -1",
    "--config.potential.temperatures=-1.0": "potential.temperatures[0] must be above 0, not -1.0",
    "--config.sft.lr=high": "--config.sft.lr must be a finite number, at least 0, not high; see r",
    "--config.sft.epochs=1.5": "--config.sft.epochs must be an integer, at least 1, not 1.5",
    "--config.sft.packing=maybe": "--config.sft.packing must be True or False, not maybe",
    "--config.sft.schedule=x": "--config.sft.schedule must be one of cosine, constant, not x",
    "--config.limits.max_turns=x": "at least 1 and at most 2147483647 (or None), not x",
    "--config.dataset.difficulties=1,x": "values separated by commas, each an integer, at least 1",
    "--config.arms=nothing": "--config.arms must be names of arms (grpo_uniform, grpo_curriculum)",
    "--config.sft.lr": "--config.sft.lr must be a finite number, at least 0, not nothing",
    "--config.seed=x": "--config.seed must be an integer, at least 0 and at most 20000000, not x",
}


@pytest.mark.parametrize("word", WORDS)
def test_the_command_line_answers_in_one_line(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("micro.py").write_text(FILE.format(more=""))
    assert main(["run", "micro.py", word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("r1ci: ") and WORDS[word] in line
    assert "--" not in line.replace("--config", "").replace("--help", ""), "a rule of tyro's box"


def test_experiment_files_are_answered_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("micro.py").write_text(FILE.format(more=", sft=SftConfig(epochs=0)"))
    assert main(["run", "micro.py"]) == 2
    assert capsys.readouterr().err == "r1ci: sft.epochs must be at least 1, not 0\n"


def test_ranges_and_walk_see_a_setting_without_a_range() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Forgotten(ranges.Checked, section="new"):
        size: int = 3

    # The value that the walk tries is taken: the walk fails for such a field.
    assert operator.attrgetter("size")(Forgotten(size=-(10**9))) == -(10**9)
