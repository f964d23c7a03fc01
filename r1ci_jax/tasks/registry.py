"""All tasks by name. A task's module is imported when the task is first asked for."""

import difflib
import functools
import importlib

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Task

_SUITES: dict[str, dict[str, str]] = {
    "toy": {
        "toy_arithmetic": "r1ci_jax.tasks.toy.arithmetic:Arithmetic",
        "toy_letters": "r1ci_jax.tasks.toy.letters:Letters",
        "toy_sorting": "r1ci_jax.tasks.toy.sorting:Sorting",
        "toy_gcd_lcm": "r1ci_jax.tasks.toy.gcd_lcm:GcdLcm",
        "toy_base_conversion": "r1ci_jax.tasks.toy.base_conversion:BaseConversion",
        "toy_search": "r1ci_jax.tasks.toy.search:Search",
    },
}


def suites() -> tuple[str, ...]:
    """Names of the suites."""
    return tuple(_SUITES)


def names(*, suite: str | None = None) -> tuple[str, ...]:
    """Names of all tasks, or of one suite's, in the order of the registry."""
    if suite is not None and suite not in _SUITES:
        raise UserError(f"unknown suite {suite!r}; there are: {', '.join(_SUITES)}")
    chosen = _SUITES.values() if suite is None else [_SUITES[suite]]
    return tuple(name for tasks in chosen for name in tasks)


@functools.cache
def get(name: str) -> Task:
    """The task of that name."""
    for tasks in _SUITES.values():
        if name in tasks:
            module, _, attribute = tasks[name].partition(":")
            task = getattr(importlib.import_module(module), attribute)()
            assert isinstance(task, Task) and task.name == name
            return task
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else "see r1ci tasks list"
    raise UserError(f"unknown task {name!r}; {hint}")
