"""Gates on names: one word for one thing, one letter for one axis, one name for one module."""

import ast
import collections
import functools
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "r1ci_jax"
MAX_FILES = 15
CROWDED_FOLDERS = {"tasks/symbench"}  # one file per task

# Words that the project has replaced (docs/glossary.md has those in use). A word counts when it is
# a part of a public name: `judge_threads`, `JudgePool`, `judge`.
RETIRED_WORDS = frozenset(
    (
        *("aged", "asked", "asks", "behaviour", "behaviours", "carried", "carry", "heed", "heeded"),
        *("judge", "judged", "judges", "lifeline", "mistaken", "objection", "referred", "refuse"),
        *("settle", "settled", "shares", "slope", "slopes", "stretch", "stretches", "tell", "told"),
        *("trouble", "untaught", "zygote"),
    )
)
RETIRED_NAMES = frozenset(
    (
        *("Carried", "Emitted", "Feed", "Gap", "Live", "Mirror", "Pause", "Say", "Scores", "Total"),
        *("RESUME_ME", "flat_fraction", "generation_turns", "is_own", "micro_batches", "passes"),
        *("relative_advantages", "score_again", "statistics", "trajectories_logged"),
    )
)


@functools.cache
def modules() -> list[tuple[str, ast.Module]]:
    """Parse every module; returns paths inside the package and syntax trees."""
    return [
        (path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text()))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def assigned_names(node: ast.stmt) -> list[str]:
    match node:
        case ast.Assign(targets=targets):
            return [name.id for name in targets if isinstance(name, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [each.arg for each in (*named, given.vararg, given.kwarg) if each is not None]


def public_names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Yield module-level names, methods and fields of classes, and parameters, with dots."""
    for node in body:
        for name in assigned_names(node):
            if not name.startswith("_"):
                yield prefix + name
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_") and node.name != "__init__":
            continue
        yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from public_names(node.body, f"{prefix}{node.name}.")
        else:
            for name in parameters(node):
                if not name.startswith("_"):
                    yield f"{prefix}{node.name}.{name}"


def words(name: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return {word.lower() for word in spaced.split("_") if word}


def test_public_names_have_no_retired_word() -> None:
    found = []
    for path, tree in modules():
        for dotted in public_names(tree.body):
            last = dotted.rpartition(".")[2]
            if last in RETIRED_NAMES or words(last) & RETIRED_WORDS:
                found.append(f"{path}: {dotted}")
    assert found == []


def test_a_retired_word_would_be_found() -> None:
    tree = ast.parse("class Pool:\n    def run(self, judge_threads): ...\n    age = 1\nTOLD = 2\n")
    names = list(public_names(tree.body))
    assert names == [
        "Pool",
        "Pool.run",
        "Pool.run.self",
        "Pool.run.judge_threads",
        "Pool.age",
        "TOLD",
    ]
    assert words("judge_threads") & RETIRED_WORDS and words("TOLD") & RETIRED_WORDS
    assert words("JudgePool") == {"judge", "pool"} and not words("retold") & RETIRED_WORDS


def test_the_glossary_is_sorted_and_has_no_retired_word() -> None:
    lines = (ROOT / "docs/glossary.md").read_text().splitlines()
    entries = [line.split("|")[1].strip().lower() for line in lines if line.startswith("| ")][1:]
    assert len(entries) > 80 and entries == sorted(set(entries))
    assert [entry for entry in entries if set(entry.split()) & RETIRED_WORDS] == []


# --- axis letters --------------------------------------------------------------------------------

SUFFIX = re.compile(r"^[a-z0-9_]+_([A-Zbh12]*[A-Z][A-Zbh12]*)$")


def legend() -> set[str]:
    """Read the letters of the table in the docstring of sharding/axes.py."""
    text = ast.get_docstring(ast.parse((PACKAGE / "sharding/axes.py").read_text()))
    assert text is not None
    listed = re.findall(r"(?:^|(?<=  ))([A-Za-z12]) (?= *\w)", text, re.MULTILINE)
    return {*listed, *re.findall(r"\b([a-z]) = ", text)}  # h = H/2


def all_names(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.keyword(arg=str(name)):
                found.add(name)
    return found


def test_axis_letters_are_those_of_the_legend() -> None:
    letters = legend() | {"1", "2"}
    assert {"B", "T", "V", "D", "K", "H", "S"} <= letters
    unknown: dict[str, str] = {}
    for path, tree in modules():
        for name in all_names(tree):
            suffix = SUFFIX.search(name)
            if suffix and not set(suffix[1]) <= letters:
                unknown[name] = path
    assert unknown == {}


# --- files ---------------------------------------------------------------------------------------


def test_module_names_are_unique() -> None:
    paths = collections.defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem not in ("__init__", "__main__"):
            paths[path.stem].append(path.relative_to(PACKAGE).as_posix())
    assert {name: same for name, same in paths.items() if len(same) > 1} == {}


def test_no_folder_is_crowded() -> None:
    sizes = collections.Counter(
        path.parent.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    )
    crowded = {name: size for name, size in sizes.items() if size > MAX_FILES}
    assert crowded.keys() <= CROWDED_FOLDERS, crowded


# --- settings and meshes -------------------------------------------------------------------------


def test_every_setting_has_a_docstring() -> None:
    classes = [
        node
        for name in (
            "config.py",
            "demonstration_config.py",
            "grpo_config.py",
            "sandbox/settings.py",
        )
        for node in ast.parse((PACKAGE / name).read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    groups = {node.name for node in classes}  # a field of such a type is documented by its class
    missing = []
    for node in classes:
        if ast.get_docstring(node) is None:
            missing.append(node.name)
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if not isinstance(field, ast.AnnAssign) or documented:
                continue
            if ast.unparse(field.annotation) not in groups:
                missing.append(f"{node.name}.{ast.unparse(field.target)}")
    assert missing == []


def test_a_mesh_is_always_set() -> None:
    # ADR 0003: a single device is a mesh of 1 x 1 x 1. Only sharding/ may look for an empty one.
    found = []
    for path, tree in modules():
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        found += [
            f"{path}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "empty" and id(node) not in called
            if not path.startswith("sharding/")
        ]
    assert found == []


def test_no_advice_installs_a_package_of_our_name() -> None:
    """Nobody owns that name on PyPI: whoever took it would run code on the reader's machine."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *PACKAGE.rglob("*.py")]
    bad = re.compile(r"pip install[^\n]*\br1ci[-_]jax\b")
    assert bad.search("run: pip install 'r1ci_jax[gcs]'") is not None
    assert [path.name for path in pages if bad.search(path.read_text())] == []
