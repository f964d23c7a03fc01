"""One sandbox for the whole session, with limits small enough to be hit in tests."""

from collections.abc import Iterator

import pytest

from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig

CONFIG = SandboxConfig(
    limits=Limits(
        cpu_seconds=2.0,
        wall_seconds=10.0,
        memory_bytes=512 << 20,
        output_bytes=16 << 10,
        processes=16,
        file_bytes=4 << 20,
    ),
    workers=2,
)


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    with Sandbox(CONFIG) as sandbox:
        yield sandbox
