"""All scripted teachers by task: each module named `*_teachers` lists its own in `TEACHERS`."""

import functools
import hashlib
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from r1ci_jax import teachers
from r1ci_jax.teachers.teacher import Teacher


@functools.cache
def by_task() -> Mapping[str, Teacher[Any]]:
    """Return the teacher of every task that has one, in the order of their names."""
    found: dict[str, Teacher[Any]] = {}
    for module in pkgutil.walk_packages(teachers.__path__, f"{teachers.__name__}."):
        if not module.name.endswith("_teachers"):
            continue
        for teacher in importlib.import_module(module.name).TEACHERS:
            assert teacher.task not in found, f"two teachers of {teacher.task}"
            found[teacher.task] = teacher
    return MappingProxyType(dict(sorted(found.items())))


@functools.cache
def source_digest(root: Path = Path(teachers.__path__[0])) -> str:
    """Return a digest of the teachers' source: where it differs, they may write other things.

    `root` names another folder of source instead.
    """
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root)}\x1f".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:16]
