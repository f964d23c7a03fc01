"""Checkpoints that survive a kill at any moment.

A step is one directory: the arrays as Orbax writes them, and `step.json`, written last, with what
is not an array, the shape of every leaf, and the size of every file. A step counts only when
`step.json` is there and agrees with the files, so a save, or a deletion, that was cut short leaves
nothing that could be mistaken for a step.

    runs/toy/checkpoints/
        120/    step.json  _CHECKPOINT_METADATA  state/...
        130/    step.json  _CHECKPOINT_METADATA  state/...
"""

import concurrent.futures
import errno
import glob
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from r1ci_jax.errors import UserError

PyTree = Any
Metadata = dict[str, Any]
"""JSON values only: rng seed, data-iterator state, curriculum state, offsets into metrics files."""

_MARKER = "step.json"
_ORBAX_SUFFIX = "orbax-checkpoint-tmp"
_SWEEPS = 40
"""Attempts to delete what a failed write left; the next save sweeps again."""
_log = logging.getLogger(__name__)
# Each writer thread of Orbax logs a traceback before the same error reaches us by `result()`.
logging.getLogger("absl").addFilter(
    lambda record: "_SignalingThread.run()" not in record.getMessage()
)


def abstract(tree: PyTree) -> PyTree:
    """Shapes, types and shardings of a tree of arrays: what `restore` is asked for.

    Before the arrays exist, `jax.eval_shape` gives the same without shardings.
    """
    return jax.tree.map(_placed, tree)


class Checkpoints:
    """The last `keep` steps of one training stage.

    Saving runs in the background: `save` returns once the arrays are copied, and their buffers may
    be donated at once. An error of a running save is raised by the next `save`, `wait` or `close`.

        with Checkpoints(run / "checkpoints") as checkpoints:
            step = checkpoints.latest()
            if step is not None:
                state, metadata = checkpoints.restore(step, abstract(state))
            ...
            checkpoints.save(step, state, {"seed": 0, "data": iterator.get_state()})
    """

    def __init__(self, directory: str | Path, keep: int = 2) -> None:
        assert keep >= 1, "a run without any checkpoint cannot resume"
        self._directory = Path(directory).resolve()
        self._keep = keep
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: concurrent.futures.Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Whole steps, ascending."""
        return [step for step in self._candidates() if _is_whole(self._path(step))]

    def latest(self) -> int | None:
        """The newest whole step. Newer ones that are not whole are named in a warning."""
        self.wait()
        for step in reversed(self._candidates()):
            if _is_whole(self._path(step)):
                return step
            _log.warning("checkpoint %s is incomplete and is skipped", self._path(step))
        return None

    def save(self, step: int, tree: PyTree, metadata: Metadata) -> None:
        """Save in the background. A step that is already whole is left as it is."""
        self.wait()
        if _is_whole(self._path(step)):
            return
        self._remove_leftovers()
        start = _start_write(self._path(step), tree, metadata)
        self._running = self._worker.submit(self._finish, start)

    def restore(self, step: int, abstract_tree: PyTree) -> tuple[PyTree, Metadata]:
        """Arrays of one step, in the shardings and types of `abstract_tree`, and its metadata."""
        self.wait()
        return _read(self._path(step), abstract_tree)

    def wait(self) -> None:
        """Return when nothing is being written; raise what went wrong."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Wait for a running save and let go of the background thread."""
        try:
            self.wait()
        finally:
            self._worker.shutdown()

    def _path(self, step: int) -> Path:
        return self._directory / str(step)

    def _candidates(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdigit())

    def _finish(self, start: "_Write") -> None:
        _finish_write(start)
        if jax.process_index() == 0:
            for step in self.steps()[: -self._keep]:
                _delete(self._path(step))

    def _remove_leftovers(self) -> None:
        """Delete what a killed process left. Only one that saves does: another may merely look."""
        if jax.process_index() != 0 or not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            name, _, suffix = path.name.partition(".")
            if name.isdigit() and (suffix.startswith(_ORBAX_SUFFIX) or not _is_whole(path)):
                _delete(path)


def save_params(directory: str | Path, params: PyTree, metadata: Metadata | None = None) -> None:
    """Write the final weights of a stage, in place of any that are there."""
    path = Path(directory).resolve()
    if jax.process_index() == 0:
        _clear(path)
    _finish_write(_start_write(path, params, metadata or {}))


def load_params(directory: str | Path, abstract_params: PyTree) -> tuple[PyTree, Metadata]:
    """Weights written by `save_params`, in the shardings and types of `abstract_params`."""
    return _read(Path(directory).resolve(), abstract_params)


# --- one directory -------------------------------------------------------------------------------

_Write = tuple[Path, Metadata, ocp.AsyncResponse[None]]


def _start_write(path: Path, tree: PyTree, metadata: Metadata) -> _Write:
    marker = {"metadata": metadata, "shapes": _shapes(tree)}
    lossless = json.loads(json.dumps(marker))["metadata"] == metadata
    assert lossless, f"checkpoint metadata must be plain JSON (lists, string keys): {metadata}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path, marker, ocp.save_async(str(path), tree)
    except (OSError, ValueError) as error:
        _clear(path)
        raise _write_error(path, error) from error


def _finish_write(write: _Write) -> None:
    path, marker, response = write
    try:
        response.result()
        if jax.process_index() == 0:
            marker = marker | {"files": _file_sizes(path)}
            unnamed = path / f"{_MARKER}.tmp"
            unnamed.write_text(json.dumps(marker))
            unnamed.rename(path / _MARKER)
    except (OSError, ValueError) as error:
        _clear(path)
        raise _write_error(path, error) from error


def _read(path: Path, abstract_tree: PyTree) -> tuple[PyTree, Metadata]:
    if not _is_whole(path):
        raise UserError(f"no complete checkpoint at {path}: run the stage that writes it again")
    marker = json.loads((path / _MARKER).read_text())
    # Orbax answers a wrong tree with pages of errors: compare first.
    saved, wanted = marker["shapes"], _shapes(abstract_tree)
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise UserError(
                f"checkpoint {path} is of another model: {name or 'the array'} is "
                f"{saved.get(name, 'missing')} there, {wanted.get(name, 'missing')} in this run; "
                "use another workdir"
            )
    try:
        return ocp.load(str(path), jax.tree.map(_placed, abstract_tree)), marker["metadata"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"checkpoint {path} cannot be read ({_brief(error)}): "
            "delete it to fall back to the one before"
        ) from error


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    """A leaf without sharding goes to this process's first device, never where the saver had it."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    sharding = getattr(leaf, "sharding", None) or here
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _shapes(tree: PyTree) -> dict[str, list[int]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): list(leaf.shape) for path, leaf in leaves}


def _file_sizes(path: Path) -> dict[str, int]:
    files = (
        file for file in path.rglob("*") if file.is_file() and not file.name.startswith(_MARKER)
    )
    return {str(file.relative_to(path)): file.stat().st_size for file in files}


def _is_whole(path: Path) -> bool:
    try:
        return json.loads((path / _MARKER).read_text())["files"] == _file_sizes(path)
    except (OSError, ValueError, KeyError):
        return False


def _delete(path: Path) -> None:
    """Delete a directory; cut short, it is left without the marker."""
    (path / _MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def _clear(path: Path) -> None:
    """Delete what a write left, finished or failed, with Orbax's temporary directory beside it."""
    if path.is_dir():
        _delete(path)
    for _ in range(_SWEEPS):
        leftovers = list(path.parent.glob(f"{glob.escape(path.name)}.{_ORBAX_SUFFIX}*"))
        if not leftovers:
            return
        for leftover in leftovers:
            shutil.rmtree(leftover, ignore_errors=True)
        # A writer thread that has not failed yet may have added a file meanwhile.
        time.sleep(0.05)


def _write_error(path: Path, error: Exception) -> Exception:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error) or "Disk quota" in str(error):
        return UserError(
            f"disk full while writing checkpoint {path}: free some space, then run again"
        )
    return UserError(f"checkpoint {path} cannot be written: {_brief(error)}")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
