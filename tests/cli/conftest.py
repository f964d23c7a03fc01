"""A checkpoint whose policy follows a script."""

from collections.abc import Callable
from typing import Any

import pytest

from r1ci_jax.model.hf import weights
from tests.rollout.conftest import World


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], str]:
    """Writes a checkpoint whose policy follows a script; returns its place."""
    world = World()

    def write(script: Any) -> str:
        place = tmp_path_factory.mktemp("hf") / "model"
        weights.save_pretrained(world.model(script), place)
        world.tokenizer.save(place)
        return str(place)

    return write
