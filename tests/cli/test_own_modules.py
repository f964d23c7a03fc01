"""An experiment's folder is importable from it, and a mistake there is one line with its place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1ci_jax.cli import experiment_file as experiments
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.runtime import user_modules
from r1ci_jax.tasks import registry
from tests.load import PATIENCE

ROOT = Path(__file__).parents[2]

MODULE = """
from r1ci_jax.rollout import agents
from r1ci_jax.tasks.toy.letter_counting import Letters

class Speaker(agents.CodeAgent):
    name = "speaker"
    hint = "{hint}"

class Named(Letters):
    name = "{task}"
"""
FILE = """
from r1ci_jax.config import DatasetConfig, EvalConfig, Experiment
from r1ci_jax.tasks import registry
import own_part

registry.register("{task}", "own_part:Named", suite="mine")

def get_config(variant=""):
    return Experiment(
        name=own_part.Speaker.hint,
        dataset=DatasetConfig(
            tasks=("{task}", "toy_letters"), difficulties=(1,),
            sft_per_task=2, grpo_per_task=2, eval_per_task=2,
        ),
        eval=EvalConfig(agents=("own_part:Speaker",)),
    )
"""


def write(folder: Path, *, hint: str, task: str) -> str:
    folder.mkdir()
    (folder / "own_part.py").write_text(MODULE.format(hint=hint, task=task))
    (folder / "exp.py").write_text(FILE.format(task=task))
    return str(folder / "exp.py")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch):
    yield
    experiments.load_default(str(ROOT / "experiments" / "toy.py"))


def test_two_experiments_have_their_own_modules_agents_and_tasks(tmp_path: Path) -> None:
    first = write(tmp_path / "one", hint="first", task="mine_one")
    other = write(tmp_path / "two", hint="other", task="mine_two")
    toy = str(ROOT / "experiments" / "toy.py")
    experiments.load(toy)  # whatever folder another test has chosen is forgotten
    path, registered = [*sys.path], set(registry.registered())
    for spec, name, task in ((first, "first", "mine_one"), (other, "other", "mine_two")):
        for _ in range(2):  # the same file again registers its task again
            assert experiments.load(spec).name == name
            assert agents.get("own_part:Speaker").hint == name
            assert registry.get(task).name == task
            assert set(registry.registered()) == registered | {task}
    with pytest.raises(UserError, match="unknown task 'mine_one'"):
        registry.get("mine_one")
    experiments.load(toy)
    assert "own_part" not in sys.modules and set(registry.registered()) == registered
    assert not {str(tmp_path / "one"), str(tmp_path / "two")} & set(sys.path)
    assert sys.path == path
    with pytest.raises(UserError, match="there is no module own_part for the agent"):
        agents.get("own_part:Speaker")


def test_neighbors_of_two_experiments_are_told_apart(tmp_path: Path) -> None:
    source = "from experiments import neighbor_part\nimport experiments.grpo_presets\n" + (
        FILE.replace("own_part.Speaker.hint", "neighbor_part.NAME")
    ).partition("registry.register")[0].replace("import own_part\n", "")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "neighbor_part.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / "exp.py").write_text(
            source
            + "def get_config():\n"
            + "    return Experiment(name=neighbor_part.NAME, "
            + "dataset=DatasetConfig(tasks=('toy_letters',)))\n"
        )
    for name in ("one", "two", "one"):
        assert experiments.load(str(tmp_path / name / "exp.py")).name == name


def test_no_file_of_a_user_replaces_a_module_that_is_installed(tmp_path: Path) -> None:
    spec = write(tmp_path / "one", hint="first", task="mine_one")
    (tmp_path / "one" / "colorsys.py").write_text("raise SystemExit('the wrong one')\n")
    sys.modules.pop("colorsys", None)
    experiments.load(spec)
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 1) == (2 / 3, 1, 1)


def test_a_folder_of_the_users_path_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kept_part.py").write_text("")
    user_modules.search(tmp_path)
    import kept_part  # pyright: ignore[reportMissingImports]

    user_modules.search(ROOT)
    assert str(tmp_path) in sys.path and sys.modules["kept_part"] is kept_part


def test_question_workers_import_what_lies_beside_the_experiment(tmp_path: Path) -> None:
    spec = write(tmp_path / "one", hint="first", task="mine_one")
    command = "import sys; from r1ci_jax.cli.main import main; sys.exit(main())"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = ["data", "build", spec, "--questions-only", "--jobs", "2", "--workdir", "out"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", command, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [*tmp_path.glob("out/**/mine_one*")] != []


BROKEN = {
    "syntax": ("def get_config(:\n    pass\n", "exp.py:1: SyntaxError: "),
    "import": ("import json\nimport no_such_part\n", "exp.py:2: ModuleNotFoundError: No module"),
    "exception": ("\n\nx = 1 / 0\n", "exp.py:3: ZeroDivisionError: division by zero"),
    "exit": ("import sys\nsys.exit(3)\n", "exp.py:2: SystemExit: 3"),
    "neighbor": ("import broken_part\n", "broken_part.py:2: NameError: name 'y' is not defined"),
    "neighbor's syntax": ("import bad_part\n", "bad_part.py:1: SyntaxError: "),
    "get_config": (
        "import json\ndef get_config():\n    return json.loads('no')\n",
        "exp.py:3: JSONDecodeError: Expecting value",
    ),
    "lines": ("raise ValueError('one\\ntwo')\n", "exp.py:1: ValueError: one two; correct"),
    "a wrong setting": (
        "from r1ci_jax.config import *\n"
        "def get_config():\n    return Experiment(name='x', dataset=DatasetConfig(tasks=()))\n",
        "dataset.tasks must be one or more values",
    ),
    "a wrong call": (
        "from r1ci_jax.config import *\ndef get_config():\n    return Experiment(nam='x')\n",
        "exp.py:3: TypeError: ",
    ),
    "a wrong agent": (
        "from r1ci_jax.config import GrpoConfig\nGrpoConfig(agent='code_agnet')\n",
        "grpo.agent must be one of code_agent, all_text, all_code, codesteer, or "
        "package.module:Class (did you mean code_agent?), not 'code_agnet'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_mistake_is_one_line_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    source, expected = BROKEN[case]
    monkeypatch.chdir(tmp_path)
    Path("exp.py").write_text(source)
    Path("broken_part.py").write_text("x = 1\nprint(y)\n")
    Path("bad_part.py").write_text("def (\n")
    with pytest.raises(UserError) as caught:
        experiments.load("exp.py")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_task_with_a_mistake_is_one_line(tmp_path: Path) -> None:
    spec = write(tmp_path / "one", hint="first", task="mine_one")
    experiments.load(spec)
    (tmp_path / "one" / "later_part.py").write_text("\nimport no_such_part\n")
    registry.register("mine_later", "later_part:Later", suite="mine")
    registry.register("mine_other", "own_part:Named", suite="mine")
    try:
        with pytest.raises(UserError, match=r"later_part\.py:2: ModuleNotFoundError: "):
            registry.get("mine_later")
        with pytest.raises(UserError, match="own_part:Named is no task of the name 'mine_other'"):
            registry.get("mine_other")
    finally:
        registry.unregister("mine_later")
        registry.unregister("mine_other")


def test_the_command_says_the_line_and_exits_as_for_any_wrong_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from r1ci_jax.cli.main import main

    monkeypatch.chdir(tmp_path)
    Path("exp.py").write_text("import json\n\n1 / 0\n")
    assert main(["run", "exp.py"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and said.startswith("r1ci: exp.py:3: ZeroDivisionError: ")
    assert not Path("runs").exists()
    spec = write(tmp_path / "one", hint="first", task="mine_one")
    words = ["run", spec, "--workdir", "w", "--config.grpo.agent=own_part:Speeker"]
    assert main(words) == 2
    said = capfd.readouterr().err
    assert "did you mean own_part:Speaker?" in said.splitlines()[-1] and not Path("w").exists()


def test_the_experiment_of_contributing_names_its_agent(own_modules: Path) -> None:
    experiment = experiments.load(str(own_modules / "my_experiment.py"))
    assert {experiment.grpo_of(arm).agent for arm in experiment.arms} == {"my_agent:Counter"}
    assert experiment.eval.agents == ("code_agent", "my_agent:Counter")
    assert "counter" in [agent.name for agent in agents.get_all(experiment.agents)]
