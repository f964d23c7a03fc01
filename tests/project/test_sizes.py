import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[2] / "r1ci_jax"
FILE_LINES = 500
FUNCTION_LINES = 60
TRAINER_LINES = 80
# A training loop reads top to bottom in one function.
TRAINERS = {("train/sft.py", "train"), ("train/grpo.py", "train")}


def sources() -> list[pathlib.Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 15
    return found


def test_files_fit_in_one_sitting() -> None:
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in sources()
    }
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_fit_on_a_screen() -> None:
    too_long = {}
    for path in sources():
        name = str(path.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                limit = TRAINER_LINES if (name, node.name) in TRAINERS else FUNCTION_LINES
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                if lines > limit:
                    too_long[f"{name}:{node.lineno} {node.name}"] = lines
    assert too_long == {}


def test_rooms_hold_no_junk_drawer() -> None:
    junk = {"utils", "util", "helpers", "misc", "common", "manager"}
    assert [path for path in sources() if path.stem in junk] == []
