"""Questions that several tests of one task look at are drawn once."""

from collections.abc import Callable

import pytest

from r1ci_jax.tasks.base import Example, Task

type Drawn = Callable[[Task, int, int], list[Example]]


@pytest.fixture(scope="session")
def drawn() -> Drawn:
    """The first questions of a task at a level: `drawn(task, level, count)`, of seed 0."""
    known: dict[tuple[str, int], list[Example]] = {}

    def first(task: Task, level: int, count: int) -> list[Example]:
        found = known.setdefault((task.name, level), [])
        found += [task.generate(index, 0, level) for index in range(len(found), count)]
        return found[:count]

    return first
