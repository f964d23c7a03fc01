"""Tables as CSV and LaTeX: what a reader of each gets back."""

import csv
import io
from pathlib import Path

from r1ci_jax.evaluate import table_formats
from r1ci_jax.evaluate.tables import Table

TABLE = Table(
    title="Ours & theirs, 100 %",
    columns=("model", "mean", "difference"),
    rows=(("a_b, c", "50.0 ± 1.2", "-3.5"), ('say "x"\nand y', "7", "-")),
    records=(),
    note="Of $5 #1 {x} ~^\\",
)


def test_csv_is_read_back_cell_by_cell() -> None:
    text = table_formats.render(TABLE, "csv")
    assert list(csv.reader(io.StringIO(text))) == [list(TABLE.columns), *map(list, TABLE.rows)]


def test_latex_escapes_what_would_be_a_command() -> None:
    lines = table_formats.render(TABLE, "latex").splitlines()
    assert r"\caption{Ours \& theirs, 100 \%}" in lines
    assert r"\begin{tabular}{lrr}" in lines
    assert r"a\_b, c & 50.0 $\pm$ 1.2 & -3.5 \\" in lines
    assert 'say "x" and y & 7 & - \\\\' in lines
    note = r"Of \$5 \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert rf"\par\smallskip\footnotesize {note}" in lines
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]


def test_each_format_has_its_file(tmp_path: Path) -> None:
    for form, name in (("markdown", "x.md"), ("csv", "x.csv"), ("latex", "x.tex")):
        path = table_formats.write(TABLE, tmp_path / "tables", "x", form)
        assert path.name == name and path.read_text() == table_formats.render(TABLE, form)
