"""docs/teachers.md says what the teachers have now."""

from r1ci_jax.data.scripted import coverage
from r1ci_jax.tasks import registry
from r1ci_jax.teachers import teacher_catalogue
from tests.conftest import ROOT


def test_the_table_is_current() -> None:
    page = (ROOT / "docs/teachers.md").read_text(encoding="utf-8")
    stale = [task for task in teacher_catalogue.by_task() if coverage.row_head(task) not in page]
    assert stale == [], "run `r1ci synth` again, then `r1ci data stats RUN --teachers`"
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert set(rows) - {"task"} == set(teacher_catalogue.by_task())
    for suite in registry.PAPER_SUITES:
        assert coverage.missing_line(suite) in page
