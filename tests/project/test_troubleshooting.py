"""Every line of docs/troubleshooting.md is a line that the program can print."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
OF_OTHERS = {"RESOURCE_EXHAUSTED", "Killed"}
"""Words of XLA and of the kernel, not ours."""


def render(node: ast.AST) -> str | None:
    """Return a text with … for what is filled in, or None if the node is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(render(part) or "…" for part in node.values)
    return None


def messages() -> list[str]:
    """List every text in the package, and the shell scripts."""
    found = [
        " ".join(text.split())
        for path in (ROOT / "r1ci_jax").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (text := render(node))
    ]
    assert len(found) > 1000
    return [*found, *(path.read_text() for path in (ROOT / "scripts").glob("*.sh"))]


def quoted_lines() -> list[str]:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    return [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]


def test_every_quoted_line_is_in_the_code() -> None:
    known = messages()
    quoted = [line for line in quoted_lines() if line not in OF_OTHERS]
    assert len(quoted) > 25
    unknown = []
    for line in quoted:
        pieces = [re.escape(piece) for piece in line.split("…")]
        pattern = re.compile(".*?".join(pieces), re.DOTALL)
        if not any(pattern.search(text) for text in known):
            unknown.append(line)
    assert unknown == []
