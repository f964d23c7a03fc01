"""What the laws of the teachers share: a jail, the tokenizer of the bars, published questions."""

import os
from collections.abc import Iterator

import pytest

from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig
from r1ci_jax.text import tokenizer as tokenizers
from tests.conftest import SHARED_DATA

LIMITS = Limits(cpu_seconds=5.0)
"""A teacher's script needs less."""
BRIEF = Limits(cpu_seconds=1.5, memory_bytes=256 << 20)
"""For scripts with a changed datum, which may run forever."""


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(workers=2, limits=LIMITS)) as opened:
        yield opened


@pytest.fixture(scope="session")
def brief_sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(workers=1, limits=BRIEF)) as opened:
        yield opened


@pytest.fixture(scope="session")
def tokenizer() -> tokenizers.Tokenizer:
    """The tokenizer in whose tokens the lengths are limited."""
    path = SHARED_DATA / "qwen2.5_tokenizer"
    if not path.is_dir():
        pytest.skip("NOT TESTED: lengths in tokens; the Qwen2.5 tokenizer is absent")
    return tokenizers.load(str(path))


@pytest.fixture(autouse=True)
def published_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    if "R1CI_DATA" not in os.environ:
        monkeypatch.setenv("R1CI_DATA", str(SHARED_DATA))
