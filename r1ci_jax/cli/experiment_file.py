"""`experiments/file.py[:variant]` and `--config.a.b=value` arguments give an Experiment.

An experiment file defines `get_config(variant: str = "") -> Experiment`, and names its variants in
`VARIANTS: tuple[str, ...]` when it has any.
"""

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro
from tyro import constructors

from r1ci_jax import bundled, renamed
from r1ci_jax.config import Arm, DatasetConfig, Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import run_dir

ROOT = bundled.ROOT
"""Folder that holds the project's own `experiments/`."""

PREFIX = "--config."


@dataclasses.dataclass(frozen=True)
class _Arguments:
    """tyro parses this single root, so every flag starts with --config."""

    config: Experiment


def load(spec: str, overrides: Sequence[str] = ()) -> Experiment:
    """Load the experiment of `experiments/file.py[:variant]`, with overrides.

    An override is `--config.a.b=value` or `--config.a.b value`; a tuple's entries are separated by
    commas or spaces.

    Raises:
        UserError: The file, variant or key is unknown or renamed, or a value does not fit.
    """
    return apply_overrides(load_default(spec), overrides)


def load_default(spec: str) -> Experiment:
    """Load the experiment as its file defines it, before any override."""
    name, _, variant = spec.partition(":")
    module = load_module(_find(name))
    get_config = getattr(module, "get_config", None)
    if get_config is None:
        raise UserError(
            f"{name} has no get_config(variant), so it is no experiment; {_describe_known()}"
        )
    variants = getattr(module, "VARIANTS", None)
    if variant and variants is not None and variant not in variants:
        listed = ", ".join(f"{name}:{known}" for known in variants if known) or "none"
        raise UserError(f"{name} has no variant {variant!r}; its variants: {listed}")
    experiment = get_config(variant) if variant else get_config()
    if not isinstance(experiment, Experiment):
        raise UserError(
            f"get_config of {name} returned a {type(experiment).__name__}, not an Experiment"
        )
    return experiment


def apply_overrides(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """Return a copy with the fields named on the command line replaced and type-checked."""
    if not overrides:
        return experiment
    arguments = _check_overrides(experiment, overrides)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown):
            return _parse(experiment, arguments)
    except SystemExit:
        raise UserError(_extract_reason(shown.getvalue())) from None


def find_changes(before: Experiment, after: Experiment) -> dict[str, tuple[Any, Any]]:
    """Find the dotted keys that differ, with the value before and after."""
    return run_dir.find_differences(run_dir.to_plain(before), run_dir.to_plain(after))


def describe(spec: str, experiment: Experiment, changed: Mapping[str, tuple[Any, Any]]) -> str:
    """Format the resolved config, one `a.b = value` per line, changed ones marked."""
    lines = [f"config of {spec}" + (" (* changed on the command line)" if changed else "")]
    for key, value in run_dir.flatten(run_dir.to_plain(experiment)).items():
        was = f"   (file: {changed[key][0]!r})" if key in changed else ""
        lines.append(f"{'*' if key in changed else ' '} {key} = {value!r}{was}")
    return "\n".join(lines)


def format_knobs(experiment: Experiment | None = None) -> str:
    """Format the help of every setting: its docstring and its default."""
    shown = experiment or Experiment(name="EXPERIMENT", dataset=DatasetConfig(tasks=("TASK",)))
    text = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
        _parse(shown, ["--help"])
    # The lines before are tyro's own usage line and -h.
    lines = text.getvalue().splitlines()
    first = next(index for index, line in enumerate(lines) if "config options" in line)
    return "\n".join(lines[first:])


def load_module(path: Path) -> types.ModuleType:
    """Import an experiment or table file. It may import its neighbors as `experiments.name`."""
    found = importlib.util.spec_from_file_location(f"r1ci_experiment_{path.stem}", path)
    assert found is not None and found.loader is not None, f"not a Python file: {path}"
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses of the file look their module up
    # Neighbors come first, then the project's own `experiments`.
    package = bundled.import_experiments()
    folder = str(path.resolve().parent)
    if folder not in package.__path__:
        package.__path__ = [folder, *package.__path__]
    found.loader.exec_module(module)
    return module


def find_file(name: str) -> Path | None:
    """Find a file below the working directory, else below the checkout or installed location."""
    return next((path for path in (Path(name), ROOT / name) if path.is_file()), None)


def _find(name: str) -> Path:
    path = find_file(name)
    if path is None or path.suffix != ".py":
        close = difflib.get_close_matches(name, _list_experiments(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"no experiment file {name!r}; {hint}{_describe_known()}")
    return path


def _list_experiments() -> list[str]:
    """List the experiment files that exist here, as a user would name them."""
    folders = {Path("experiments").resolve(): None, ROOT / "experiments": None}
    names = (
        f"experiments/{path.relative_to(folder)}"
        for folder in folders
        for path in (*sorted(folder.glob("*.py")), *sorted(folder.glob("*/*.py")))
        # A file whose get_config takes more than a variant is shared by others.
        if re.search(r"^def get_config\(.", path.read_text(encoding="utf-8"), re.MULTILINE)
    )
    return list(dict.fromkeys(names))


def _describe_known() -> str:
    names = _list_experiments()
    return "there are: " + ", ".join(names) if names else "there is no experiments/*.py here"


def _parse(experiment: Experiment, arguments: Sequence[str]) -> Experiment:
    return tyro.cli(
        _Arguments,
        default=_Arguments(experiment),
        args=list(arguments),
        prog="r1ci run EXP",
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
        registry=_choose_arms(experiment.arms),
        use_underscores=True,
    ).config


def _choose_arms(arms: Sequence[Arm]) -> constructors.ConstructorRegistry:
    """Let the command line choose from the experiment's arms by name."""
    by_name = {arm.name: arm for arm in arms}
    registry = constructors.ConstructorRegistry()

    @registry.primitive_rule
    def _(info: constructors.PrimitiveTypeInfo):
        if Arm not in typing.get_args(info.type):
            return None
        return constructors.PrimitiveConstructorSpec[tuple[Arm, ...]](
            nargs="*",
            metavar="[NAME [NAME ...]]",
            instance_from_str=lambda names: tuple(by_name[name] for name in names),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda chosen: [arm.name for arm in chosen],
            choices=tuple(by_name),
        )

    return registry


def _check_overrides(experiment: Experiment, overrides: Sequence[str]) -> list[str]:
    """Check each key, and split `a,b` of tuple-valued keys, which tyro takes as words."""
    fields = _leaf_fields(type(experiment))
    arguments: list[str] = []
    for word in overrides:
        if not word.startswith("-") or _is_number(word):
            if not arguments:
                raise UserError(
                    f"unexpected argument {word!r}; overrides look like --config.sft.lr=1e-3"
                )
            arguments.append(word)
            continue
        flag, equals, value = word.partition("=")
        key = flag.removeprefix(PREFIX).replace("-", "_")
        if not flag.startswith(PREFIX) or key not in fields:
            raise UserError(_explain_unknown(flag, key, value, fields))
        is_tuple = typing.get_origin(fields[key]) is tuple
        arguments.append(f"{PREFIX}{key}" if is_tuple or not equals else f"{PREFIX}{key}={value}")
        if is_tuple and value[:1] in ("(", "["):
            plain = value.strip("()[], ").replace(" ", "")
            raise UserError(f"{flag}={value} has brackets; write {flag}={plain}, without them")
        if is_tuple and equals:
            arguments += [part for part in value.split(",") if part]
    return arguments


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _explain_unknown(flag: str, key: str, value: str, fields: Mapping[str, Any]) -> str:
    inside = [name for name in fields if name.startswith(f"{key}.")]
    if inside:
        listed = ", ".join(PREFIX + name for name in inside)
        return f"{flag} is a group, set one of its fields: {listed}"
    wanted = key.lstrip("-").removeprefix("config.")
    if new := renamed.new_config_key(wanted):
        value = renamed.CONFIG_VALUES.get(wanted, {}).get(value, value or "...")
        is_group = new not in fields
        today = PREFIX + new if is_group else f"{PREFIX}{new}={value}"
        return renamed.explain(PREFIX + wanted, PREFIX + new, f"write {today}")
    leaf = wanted.rpartition(".")[2]
    # The right field in the wrong group is as common as a misspelled field.
    same_leaf = [name for name in fields if name.rpartition(".")[2] == leaf]
    close = difflib.get_close_matches(wanted, fields, n=1, cutoff=0.5)
    guesses = same_leaf[:1] or close
    hint = f"did you mean {PREFIX}{guesses[0]}? " if guesses else ""
    return f"unknown option {flag}; {hint}(r1ci run --help lists all)"


def _leaf_fields(kind: type, prefix: str = "") -> dict[str, Any]:
    """Return the dotted name and type of every leaf field."""
    hints = typing.get_type_hints(kind)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            found |= _leaf_fields(inner, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = inner
    return found


def _extract_reason(box: str) -> str:
    """Extract the first paragraph of the error that tyro prints, in a box or between rules."""
    lines = [line.strip("│╰╯ ") for line in box.splitlines() if line.strip()]
    if not box.lstrip().startswith("╭"):
        lines = ["", *lines[2:]]  # title and rule; a box has its title in its upper edge
    words: list[str] = []
    for line in lines[1:]:
        if not line.strip("─-"):
            break
        words.append(line)
    sentence, _, _ = " ".join(words).partition(" Got errors:")
    reason = sentence.removeprefix("Error parsing ") or "the overrides could not be parsed"
    return f"{reason.rstrip('.')}; see r1ci run --help"
