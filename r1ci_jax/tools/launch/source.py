"""The code that is shipped: what git knows of the checkout, and what stands against shipping it."""

import dataclasses
import subprocess
from pathlib import Path

from r1ci_jax.errors import UserError
from r1ci_jax.tools.launch.job import WORKER_SCRIPT

MAX_NAMED = 3
# `git stash create` makes a commit, for which git wants to know who.
_IDENTITY = ("-c", "user.name=r1ci", "-c", "user.email=r1ci@localhost")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A checkout and one commit of it."""

    root: Path
    commit: str
    revision: str
    """The commit that it was made from, with `+changes` behind it when it holds more."""
    problems: tuple[str, ...]
    """Why this should not be shipped; each a line that says what to do."""


def examine_source(experiment_file: Path, *, dirty: bool) -> Source:
    """What would be shipped from the checkout of the working directory.

    With `dirty` that is the working tree's tracked files, in a commit that no branch knows.
    """
    top = _git(Path.cwd(), "rev-parse", "--show-toplevel")
    head = _git(Path.cwd(), "rev-parse", "--verify", "HEAD") if top else None
    if top is None or head is None:
        problem = (
            "there is no git commit here: r1ci launch ships what git knows, so run it in a clone"
        )
        return Source(root=Path.cwd(), commit="HEAD", revision="HEAD", problems=(problem,))
    root = Path(top)
    changes = (_git(root, "status", "--porcelain", "--untracked-files=no") or "").splitlines()
    problems: list[str] = []
    commit, revision = head, head
    if changes and dirty:
        commit = _git(root, *_IDENTITY, "stash", "create") or head
        revision = f"{head}+changes"
    elif changes:
        problems.append(_uncommitted([line[3:] for line in changes]))
    for path in (relative(experiment_file, root), WORKER_SCRIPT):
        if _git(root, "cat-file", "-e", f"{commit}:{path}") is None:
            problems.append(
                f"{path} is not among the tracked files: git add it, then commit or use --dirty"
            )
    return Source(root=root, commit=commit, revision=revision, problems=tuple(problems))


def relative(path: Path, root: Path) -> str:
    """A file as it is called on a worker.

    Raises:
        UserError: it lies outside the checkout.
    """
    full = path.resolve()
    if not full.is_relative_to(root.resolve()):
        raise UserError(
            f"{path} lies outside the checkout {root}, so workers would not have it: "
            "put it into experiments/"
        )
    return full.relative_to(root.resolve()).as_posix()


def _uncommitted(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED])
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"there are uncommitted changes ({shown}{more}): commit them, or ship them with --dirty"


def _git(directory: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails or is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    # The first two characters of a status line may be blanks.
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
