"""The tree in README.md is the tree that is there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
LEFT_OUT = {"__pycache__", "peers"}


def listed() -> set[str]:
    """Read the paths of the tree: names at the beginning of a line, indented below their folder."""
    text = (ROOT / "README.md").read_text()
    tree = next(block for block in text.split("```") if "r1ci_jax/\n" in block)
    found, parents = set(), {0: ""}
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        if not line.strip() or indent > 6:
            continue
        for name in re.findall(r"[\w]+/|[\w]+\.py", line.strip().split("   ")[0]):
            path = parents[indent] + name
            parents[indent + 2] = path
            found.add(path)
    return found


def there() -> set[str]:
    """List the folders of the repository and of the package, and the files at the package's top."""
    package = ROOT / "r1ci_jax"
    folders = [path for path in package.rglob("*") if path.is_dir()]
    top = ["experiments", "examples", "sandboxes", "tests", "benchmarks", "docs", "scripts"]
    return (
        {f"{name}/" for name in [*top, "requirements", "r1ci_jax"]}
        | {f"r1ci_jax/{path.name}" for path in package.glob("[a-z]*.py")}
        | {
            f"{path.relative_to(ROOT)}/"
            for path in folders
            if not LEFT_OUT & set(path.relative_to(ROOT).parts)
        }
    )


def test_the_tree_names_every_folder() -> None:
    assert listed() == there()


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 220
