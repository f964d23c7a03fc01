"""Both back ends give the same verdict and the same output, over a corpus of what models write.

A file of `corpus/` holds snippets, each under a line `#### name`, optionally followed by
` = status` (default ok) and `, limit=value` for limits below the corpus's own. The snippets
`honest-…` use what honest scripts use of the system, some two hundred small uses together: they
show that a stricter policy costs such scripts nothing.
"""

import concurrent.futures
import dataclasses
import functools
import pathlib
import re

import pytest

from r1ci_jax.sandbox import ExecResult, Limits, Sandbox, SandboxConfig, Status

CORPUS = pathlib.Path(__file__).with_name("corpus")
HEADER = re.compile(r"#### (?P<name>\S+)(?: = (?P<status>\w+))?(?P<limits>(?:, \w+=[\d.]+)*)")
LIMITS = Limits(cpu_seconds=10.0, wall_seconds=60.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snippet:
    name: str
    code: str
    status: Status
    limits: Limits


def read_corpus() -> dict[str, Snippet]:
    """All snippets by name."""
    snippets: dict[str, Snippet] = {}
    for path in sorted(CORPUS.glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("#### "), path
        for part in re.split(r"^(?=#### )", text, flags=re.MULTILINE)[1:]:
            header, _, code = part.partition("\n")
            found = HEADER.fullmatch(header)
            assert found, f"{path.name}: cannot read {header!r}"
            assert found["name"] not in snippets, f"two snippets are called {found['name']}"
            changes = dict(change.split("=") for change in found["limits"].split(", ")[1:])
            snippets[found["name"]] = Snippet(
                name=found["name"],
                code=code.strip("\n") + "\n",
                status=Status(found["status"] or "ok"),
                limits=dataclasses.replace(LIMITS, **{k: float(v) for k, v in changes.items()}),
            )
    return snippets


SNIPPETS = read_corpus()


def normalised(text: str, truncated: bool) -> str:
    """What may differ taken out: addresses, and how far a flood got beyond what is kept of it."""
    text = re.sub(r"0x[0-9a-f]{6,16}\b", "0xADDRESS", text)
    # The head is kept to the byte; how much was left out before the end came is chance.
    return re.split(r"\n?\.\.\. \[\d+ bytes left out\]", text)[0] if truncated else text


def outcome(result: ExecResult) -> dict[str, object]:
    """What must agree."""
    return {
        "status": result.status,
        "exit_code": result.exit_code,
        "signal": result.signal,
        "truncated": (result.stdout_truncated, result.stderr_truncated),
        "stdout": normalised(result.stdout, result.stdout_truncated),
        "stderr": normalised(result.stderr, result.stderr_truncated),
        "detail": result.detail,
    }


@functools.cache
def outcomes() -> dict[str, tuple[dict[str, object], dict[str, object]]]:
    """Every snippet on both back ends: (cold, fork_server)."""
    cold = Sandbox(SandboxConfig(backend="cold", workers=2))
    with cold, Sandbox(SandboxConfig(backend="zygote", workers=2)) as fork_server:
        futures: dict[str, list[concurrent.futures.Future[ExecResult]]] = {
            name: [box.submit(snippet.code, snippet.limits) for box in (cold, fork_server)]
            for name, snippet in SNIPPETS.items()
        }
        found = {
            name: (outcome(first.result()), outcome(second.result()))
            for name, (first, second) in futures.items()
        }
        for name, snippet in SNIPPETS.items():
            for factor in (10, 100):  # on a busy machine one may not have printed in time
                if snippet.status is not Status.TIMEOUT_WALL or found[name][0] == found[name][1]:
                    break
                seconds = factor * snippet.limits.wall_seconds
                limits = dataclasses.replace(snippet.limits, wall_seconds=seconds)
                first, second = (box.run(snippet.code, limits) for box in (cold, fork_server))
                found[name] = outcome(first), outcome(second)
        return found


def test_the_corpus_is_large_and_without_repetition() -> None:
    assert len(SNIPPETS) >= 200
    assert len({snippet.code for snippet in SNIPPETS.values()}) == len(SNIPPETS)
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 100_000
    assert {snippet.status for snippet in SNIPPETS.values()} >= {
        Status.OK, Status.EXCEPTION, Status.EXIT_NONZERO, Status.TIMEOUT_CPU, Status.TIMEOUT_WALL,
        Status.OUTPUT_LIMIT, Status.KILLED_SIGNAL,
    }  # fmt: skip


@pytest.mark.parametrize("name", SNIPPETS)
def test_u11_both_back_ends_agree(name: str) -> None:
    cold, fork_server = outcomes()[name]
    assert cold["status"] is SNIPPETS[name].status, cold
    assert fork_server == cold
