"""Scorers in the jail: an answer that does all it can changes nothing but its own failure."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import ExecResult, Sandbox, SandboxConfig, Status
from r1ci_jax.sandbox.host import jail_policy
from r1ci_jax.tasks import jail_scoring
from r1ci_jax.tasks.jail_scoring import NO_CODE_FROM_TEXT, SCORING_JAIL, ScoringJail
from r1ci_jax.tasks.math import equality
from r1ci_jax.tasks.reasoning_gym.gym_scoring import JailScorer, Job
from tests.load import PATIENCE

MARK = pathlib.Path("/tmp/r1ci_jailed_was_here")
EVALUATE = "number = 1.0 if eval(request) == 42 else 0.0"
"""A scorer without any check of shape before it."""
OS = '__import__("os")'
HOSTILE = (
    f'{OS}.system("touch {MARK}")',
    f'open("{MARK}", "w").write("x")',
    f"[{OS}.fork() for _ in range(1000)]",
    f'__import__("subprocess").run(["touch", "{MARK}"])',
    f"[{OS}.kill(pid, 9) for pid in (1, -1)]",
    f"{OS}.abort()",
    f"{OS}._exit(0)",
    "exit(0)",
    "9**9**9**9",
    "[0] * 10**10",
    "(" * 100_000,
    "[" * 1000 + "]" * 1000,
    "-" * 100_000 + "1",
    "1" + "+1" * 5_000_000,
    "\x00",
    "\ud800",
    "",
    # A forged verdict: printed, written to every descriptor, or left behind for the next answer.
    'print("1.0")',
    'print("0" * 32 + " 1.0")',
    f'{OS}.write(1, b"0" * 32 + b" 1.0")',
    f'[{OS}.write(fd, b"0" * 32 + b" 1.0") for fd in (1, 2, 3)] and {OS}._exit(0)',
    f'{OS}.write(3, b"x" * 65536)',
    "__import__('builtins').__dict__.update(eval=lambda text: 42)",
    'open("/scratch/42", "w").write("42")',
)


def test_hostile_text_is_wrong_and_reaches_neither_the_host_nor_other_answers() -> None:
    mixed = [text for hostile in HOSTILE for text in ("42", hostile, "6 * 7", "41")]
    found = SCORING_JAIL.numbers(EVALUATE, mixed)
    assert found[0::4] == found[2::4] == [1.0] * len(HOSTILE)
    assert found[3::4] == [0.0] * len(HOSTILE)
    assert [text[:60] for text, number in zip(HOSTILE, found[1::4], strict=True) if number] == []
    assert not MARK.exists()


def test_two_seconds_are_the_most() -> None:
    limits = jail_policy.read(jail_scoring.POLICY).limits
    assert limits.cpu_seconds <= limits.wall_seconds < 2
    sleeper = "import time; time.sleep(600); number = 1.0"
    assert SCORING_JAIL.numbers(sleeper, [0], limits) == [None]


def test_the_shape_check_missing_a_scorer_still_gives_nothing_to_a_liar() -> None:
    """The package's evaluating scorers, given what no shape lets through."""
    entry = {
        "answer": "x**2/2 + C",
        "metadata": {"variable": "x", "integrand": "x", "expected_answer": "x**2/2 + C"},
    }
    texts = (entry["answer"], "x**2/2", *HOSTILE, entry["answer"])
    jobs = [
        Job(dataset="simple_integration", config="{}", entry=entry, answer=str(text))
        for text in texts
    ]
    found = JailScorer().scores(jobs)
    assert found[:2] == [1.0, 1.0] and found[-1] == 1.0
    assert 1.0 not in found[2:-1]
    assert not MARK.exists()


@pytest.mark.parametrize(
    "run",
    [
        "eval(request)",
        "exec(request)",
        "eval(compile(request, '', 'eval'))",
        "sympy.sympify(request)",
    ],
)
def test_no_text_becomes_code_after_the_prelude(run: str) -> None:
    program = f"import ast, sympy\n{{}}\nast.parse(request)\nvalue = {run}\nnumber = 1.0"
    assert SCORING_JAIL.numbers(program.format(""), ["6 * 7"]) == [1.0]
    assert SCORING_JAIL.numbers(program.format(NO_CODE_FROM_TEXT), ["6 * 7"]) == [None]


def test_the_scorers_run_after_the_prelude() -> None:
    """A scorer of the package that evaluates the answer finds even the right one wrong there."""
    entry = {"answer": "6*7", "metadata": {"numbers": [6, 7], "target": 42}}
    job = Job(dataset="countdown", config="{}", entry=entry, answer="6*7")
    assert JailScorer().scores([job])[0] != 1.0
    # The prelude stands before the comparison, which is done as before.
    assert NO_CODE_FROM_TEXT in equality.PROGRAM.partition("number =")[0]


def test_numbers_come_in_the_order_of_the_requests() -> None:
    requests = list(range(3 * jail_scoring.AHEAD))
    assert SCORING_JAIL.numbers("number = request / 1000", requests) == [n / 1000 for n in requests]


def test_what_the_program_prints_is_no_verdict_and_errors_are_none() -> None:
    assert SCORING_JAIL.numbers('print("1.0"); number = 0', [0]) == [0.0]
    assert SCORING_JAIL.numbers("number = request[5]", [[]]) == [None]
    assert SCORING_JAIL.numbers('number = float("nan")', [0]) == [None]
    assert SCORING_JAIL.numbers("number = -2.5e-07", [0]) == [-2.5e-07]


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("w 1.0", 1.0),
        ("w 0.01", 0.01),
        ("w 5e-324", 5e-324),
        ("w 1.0\n", None),
        ("w 1.0 w 1.0", None),
        ("w 0.0w 1.0", None),
        ("1.0", None),
        ("w", None),
        ("v 1.0", None),
        ("w nan", None),
        ("w inf", None),
        ("w 1_0", None),
        ("w \u0661", None),
        ("", None),
    ],
)
def test_a_report_is_read_strictly(said: str, number: float | None) -> None:
    assert jail_scoring.read(ExecResult(status=Status.OK, stdout=said), "w") == number
    assert jail_scoring.read(ExecResult(status=Status.EXIT_NONZERO, stdout=said), "w") is None


def test_a_fault_of_the_sandbox_is_no_verdict() -> None:
    for status in (Status.INFRA_ERROR, Status.SETUP_ERROR):
        with pytest.raises(UserError, match="no room") as error:
            jail_scoring.read(ExecResult(status=status, detail="no room"), "w")
        assert "\n" not in str(error.value)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(UserError, match=r"lacks no_such_module; install it"):
        SCORING_JAIL.require("no_such_module", "install it")


def test_nothing_is_opened_before_it_is_needed() -> None:
    fresh = ScoringJail()
    assert fresh.numbers("number = 1", []) == []
    assert fresh._sandbox is None
    fresh.close()


def test_threads_share_one() -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda n: SCORING_JAIL.numbers("number = request", [n] * 5), range(8))
    assert list(found) == [[float(n)] * 5 for n in range(8)]


_FORK = """
import os
from r1ci_jax.tasks.jail_scoring import SCORING_JAIL
SCORING_JAIL._workers = 1
assert SCORING_JAIL.numbers("number = request", [1]) == [1.0]
pid = os.fork()
if pid == 0:
    right = SCORING_JAIL.numbers("number = request", [2]) == [2.0]
    SCORING_JAIL.close()
    os._exit(0 if right else 1)
assert SCORING_JAIL.numbers("number = request", [3]) == [3.0]
assert os.waitpid(pid, 0)[1] == 0
print(SCORING_JAIL.numbers("number = request", [4]))
"""


def test_a_forked_process_opens_its_own_and_leaves_its_parents_alone() -> None:
    done = subprocess.run(
        # Python warns of any fork beside threads; a program may do it all the same.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORK],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[4.0]\n", "")


def test_scripts_do_not_find_the_scorers() -> None:
    code = (
        "import importlib.util as u\n"
        "print([u.find_spec(m) for m in ('reasoning_gym', 'math_verify', 'yaml', 'pycosat')])"
    )
    with Sandbox(SandboxConfig(workers=1)) as box:
        assert box.run(code).stdout == "[None, None, None, None]\n"


@pytest.mark.parametrize(
    ("expected", "given", "equal"),
    [
        ("\\sqrt{12}", "2\\sqrt{3}", True),
        ("\\sqrt{12}", "3\\sqrt{3}", False),
        ("\\pi", "3.14159", False),
        ("\\pi", "\\frac{\\pi^2}{\\pi}", True),
        ("\\pi", '__import__("os").abort()', False),
        ("\\pi", "((9^{999})^{999})^{999}", None),  # 10**9 digits; passes every rule of form
    ],
)
def test_expressions_are_compared(expected: str, given: str, equal: bool | None) -> None:
    assert equality.are_equal(expected, given) is equal
