"""The code that is shipped: a commit of the checkout, and reasons against shipping it."""

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
    """The commit of the branch, then `+changes` if uncommitted changes are shipped too."""
    problems: tuple[str, ...]
    """Reasons against shipping this; each line says what to do."""


def examine_source(experiment_file: Path, *, dirty: bool) -> Source:
    """Find the commit to ship from the checkout of the working directory.

    With `dirty` it holds the tracked files of the working tree and is on no branch.
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
    """Return the path of a file relative to the checkout, as on a worker.

    Raises:
        UserError: the file is outside the checkout.
    """
    full = path.resolve()
    if not full.is_relative_to(root.resolve()):
        raise UserError(
            f"{path} is outside the checkout {root}, so workers would not have it: "
            "put it into experiments/"
        )
    return full.relative_to(root.resolve()).as_posix()


def _uncommitted(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED])
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"there are uncommitted changes ({shown}{more}): commit them, or ship them with --dirty"


def _git(directory: Path, *arguments: str) -> str | None:
    """Output of a git command; None if it fails or git is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # names of files are bytes
            check=False,
        )
    except OSError:
        return None
    # The first two characters of a status line may be blanks.
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
