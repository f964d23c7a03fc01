"""docs/environment.md names every variable that the code reads, and no other of ours."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PLACES = ("r1ci_jax", "scripts", "experiments", "benchmarks", "sandboxes")
NAME = re.compile(r"\bR1CI_[A-Z]+(?:_[A-Z]+)*\b")


def test_every_variable_of_ours_is_in_a_table() -> None:
    files = [path for place in PLACES for path in (ROOT / place).rglob("*") if path.is_file()]
    texts = [path.read_text() for path in files if path.suffix in (".py", ".sh", ".toml", ".cfg")]
    assert len(texts) > 100
    read = {name for text in texts for name in NAME.findall(text)}
    page = (ROOT / "docs/environment.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in NAME.findall(row)} == read


def test_other_programs_variables_are_read_where_the_page_says_so() -> None:
    page = (ROOT / "docs/environment.md").read_text()
    ours = "\n".join(
        path.read_text()
        for place in ("r1ci_jax", "scripts")
        for path in (ROOT / place).rglob("*")
        if path.suffix in (".py", ".sh")
    )
    for name in ("XDG_CACHE_HOME", "RAY_ADDRESS", "RAY_AUTH_TOKEN", "HF_HOME", "JAX_PLATFORMS"):
        assert f"`{name}`" in page and name in ours
