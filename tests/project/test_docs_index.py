"""docs/README.md leads to every page, and no link of a page leads nowhere."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    ROOT / "sandboxes/README.md",
    ROOT / "experiments/README.md",
]


def links(page: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of the repository that a page links to."""
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text())
    return [
        (page.parent / target).resolve() for target in targets if not re.match(r"[a-z]+:", target)
    ]


def test_the_index_leads_to_every_page() -> None:
    linked = set(links(ROOT / "docs/README.md"))
    pages = {page.resolve() for page in (ROOT / "docs").glob("*.md")} - {
        (ROOT / "docs/README.md").resolve()
    }
    assert pages - linked == set()


def test_no_link_leads_nowhere() -> None:
    assert len(PAGES) > 30
    broken = [(page.name, str(to)) for page in PAGES for to in links(page) if not to.exists()]
    assert broken == []
