"""`experiments/file.py[:variant]` and `--config.a.b=value` arguments give an Experiment.

An experiment file defines `get_config(variant: str = "") -> Experiment`, and names its variants in
`VARIANTS: tuple[str, ...]` when it has any. It may import modules of its folder, and name them as
places of agents and tasks; this ends when a file of another folder is loaded, and the tasks that a
file registers are forgotten when the next one is loaded.
"""

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import itertools
import re
import shlex
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro
from tyro import constructors

from r1ci_jax import bundled, ranges, renamed
from r1ci_jax.cli.shell import suggestions
from r1ci_jax.config import Arm, DatasetConfig, Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import run_dir, user_modules
from r1ci_jax.tasks import registry

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


def load_changed(
    spec: str, overrides: Sequence[str]
) -> tuple[Experiment, dict[str, tuple[Any, Any]]]:
    """Load an experiment like `load`; also return its changes, as `find_changes` does."""
    default = load_default(spec)
    experiment = apply_overrides(default, overrides)
    return experiment, find_changes(default, experiment)


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
    with user_modules.explain(name), _noting_tasks():
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
    options = _split_overrides(experiment, overrides)
    changed = _try_parse(experiment, list(itertools.chain(*options)))
    if changed is None:
        raise UserError(_explain_value(experiment, options))
    return changed


def find_changes(before: Experiment, after: Experiment) -> dict[str, tuple[Any, Any]]:
    """Find the dotted keys that differ, with the value before and after."""
    return run_dir.find_differences(run_dir.to_plain(before), run_dir.to_plain(after))


def describe(spec: str, changed: Mapping[str, tuple[Any, Any]], place: str = "") -> str:
    """Format what differs from the experiment file, one `* a.b = value` per line.

    `place` is the run directory, whose config.json has every setting; empty where there is none.
    A file that is not where `spec` says, seen from the working directory, is named.
    """
    name = spec.partition(":")[0]
    elsewhere = "" if Path(name).is_file() else f" ({_find(name)})"
    count = {0: "as in the file", 1: "1 change"}.get(len(changed), f"{len(changed)} changes")
    where = f"; every setting: {place}/config.json" if place else ""
    lines = [f"config of {spec}{elsewhere}: {count}{where}"]
    for key, (before, now) in changed.items():
        lines.append(f"* {key} = {_format(now)}   (file: {_format(before)})")
    return "\n".join(lines)


def _format(value: Any) -> str:
    """Format a setting; of arms only the names."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(arm["name"] for arm in value)
    return repr(value)


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
    """Import an experiment or table file. It may import its neighbors as `experiments.name` too.

    Raises:
        UserError: The file, or a module that it imports, has a mistake.
    """
    found = importlib.util.spec_from_file_location(f"r1ci_experiment_{path.stem}", path)
    assert found is not None and found.loader is not None, f"not a Python file: {path}"
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses of the file look their module up
    _choose_neighbors(str(path.resolve().parent))
    user_modules.search(path.resolve().parent)
    _forget_tasks()
    with user_modules.explain(path), _noting_tasks():
        found.loader.exec_module(module)
    return module


_neighbor_folder: str | None = None
"""Folder whose files are imported as `experiments.name`; None: the installed ones alone are."""


def _choose_neighbors(folder: str) -> None:
    """Let `experiments.name` be a file of this folder, else one of the installed `experiments`."""
    global _neighbor_folder
    package = bundled.import_experiments()
    installed = [place for place in package.__path__ if place != _neighbor_folder]
    if _neighbor_folder not in (None, folder):
        _forget_neighbors(package, _neighbor_folder)
    _neighbor_folder = None if folder in installed else folder
    package.__path__ = [*filter(None, [_neighbor_folder]), *installed]


def _forget_neighbors(package: types.ModuleType, folder: str) -> None:
    """Drop what was imported as `experiments.name` from a folder."""
    neighbors = {
        name
        for name, value in vars(package).items()
        if isinstance(value, types.ModuleType)
        and (file := value.__file__) is not None
        and Path(file) in (Path(folder, f"{name}.py"), Path(folder, name, "__init__.py"))
    }
    for full_name in [*sys.modules]:
        package_name, _, rest = full_name.partition(".")
        if package_name == package.__name__ and rest.partition(".")[0] in neighbors:
            del sys.modules[full_name]
    for name in neighbors:
        delattr(package, name)


_tasks_of_file: set[str] = set()
"""Names of the tasks that the newest file has registered."""


@contextlib.contextmanager
def _noting_tasks() -> Iterator[None]:
    before = set(registry.registered())
    try:
        yield
    finally:
        _tasks_of_file.update(set(registry.registered()) - before)


def _forget_tasks() -> None:
    for name in _tasks_of_file & set(registry.registered()):
        registry.unregister(name)
    _tasks_of_file.clear()


def find_file(name: str) -> Path | None:
    """Find a file below the working directory, else below the checkout or installed location."""
    return next((path for path in (Path(name), ROOT / name) if path.is_file()), None)


def _find(name: str) -> Path:
    path = find_file(name)
    if path is None or path.suffix != ".py":
        if run_dir.RunDir.is_at(Path(name)):
            raise UserError(
                f"{name} is a run directory, not an experiment; {_explain_resume(name)}"
            )
        close = suggestions.find_file(name, _list_experiments())
        hint = f"did you mean {close}?" if close else _describe_known()
        raise UserError(f"no experiment file {name!r}; {hint}")
    return path


def _explain_resume(name: str) -> str:
    """Name the command that began the run in this directory, which resumes it too."""
    _, *words = run_dir.RunDir.view(Path(name)).config["command"]
    return f"the command that began it resumes it: {shlex.join(['r1ci', *words])}"


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


def _try_parse(experiment: Experiment, arguments: Sequence[str]) -> Experiment | None:
    """Parse; return None where tyro refuses a value, in place of the box that it prints."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return _parse(experiment, arguments)
    except SystemExit:
        return None


def _explain_value(experiment: Experiment, options: Sequence[Sequence[str]]) -> str:
    """Name the first option that cannot be parsed alone, and what it takes."""
    for flag, *values in options:
        try:
            if _try_parse(experiment, [flag, *values]) is not None:
                continue
        except UserError:
            continue  # the value can be read, and fits only together with another
        name, _, value = flag.partition("=")
        hint = leaf_fields(type(experiment))[name.removeprefix(PREFIX)]
        wanted = ranges.describe(hint)
        if name == f"{PREFIX}arms":
            wanted = f"names of arms ({', '.join(arm.name for arm in experiment.arms)})"
        given = ",".join(values) or value or "nothing"
        return f"{name} must be {wanted}, not {given}; see r1ci run --help"
    raise AssertionError(f"every option can be parsed alone: {options}")


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


def _split_overrides(experiment: Experiment, overrides: Sequence[str]) -> list[list[str]]:
    """Check each key, and split `a,b` of tuple-valued keys, which tyro takes as words.

    Returns the words of each option.
    """
    fields = leaf_fields(type(experiment))
    options: list[list[str]] = []
    for word in overrides:
        if not word.startswith("-") or _is_number(word):
            if not options:
                raise UserError(
                    f"unexpected argument {word!r}; overrides look like --config.sft.lr=1e-3"
                )
            options[-1].append(word)
            continue
        flag, equals, value = word.partition("=")
        key = flag.removeprefix(PREFIX).replace("-", "_")
        if not flag.startswith(PREFIX) or key not in fields:
            raise UserError(_explain_unknown(flag, key, value, fields))
        is_tuple = typing.get_origin(ranges.bare_type(fields[key])) is tuple
        options.append([f"{PREFIX}{key}" if is_tuple or not equals else f"{PREFIX}{key}={value}"])
        if is_tuple and value[:1] in ("(", "["):
            plain = value.strip("()[], ").replace(" ", "")
            raise UserError(f"{flag}={value} has brackets; write {flag}={plain}, without them")
        if is_tuple and equals:
            options[-1] += [part for part in value.split(",") if part]
    return options


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
    return f"unknown option {flag}; {hint}r1ci run EXP --help lists the settings"


def leaf_fields(kind: type, prefix: str = "") -> dict[str, Any]:
    """Return the dotted name and type, with its range, of every leaf field."""
    found: dict[str, Any] = {}
    for name, inner in ranges.field_types(kind).items():
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            found |= leaf_fields(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = inner
    return found
