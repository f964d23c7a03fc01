"""Wrong input through the command line: exit 2, one line with the way out, nothing half done."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from flax import nnx

from r1ci_jax.cli.main import main
from r1ci_jax.model import qwen2
from r1ci_jax.model.hf import weights
from r1ci_jax.text import prompts
from r1ci_jax.text import tokenizer as tokenizers
from tests.load import PATIENCE

EXPERIMENT = """
from r1ci_jax.config import *

VARIANTS = ("", "other")

def get_config(variant=""):
    return Experiment(
        name="micro",
        dataset=DatasetConfig(
            tasks=("toy_letters",), difficulties=(1,),
            sft_per_task=4, grpo_per_task=2, eval_per_task=2,
        ),
        sampler=SamplerConfig(slots=4, cache_length=768, prefill_buckets=(64,), prefill_rows=4),
        limits=TurnLimits(max_observation_tokens=32),
        sft=SftConfig(epochs=2, batch_size=2, sequence_length=768, checkpoint_every=2),
        grpo=GrpoConfig(sequence_lengths=(768,)),
    )
"""
CONFIG = qwen2.Qwen2Config(
    vocab_size=420, width=32, layers=1, query_heads=2, kv_heads=1, head_dim=16, mlp_width=64
)


@pytest.fixture(scope="module")
def good_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen checkpoint with its tokenizer, in Hugging Face layout."""
    directory = tmp_path_factory.mktemp("hf") / "model"
    model = nnx.jit(lambda key: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(key)))(jax.random.key(0))
    weights.save_pretrained(model, directory)
    tokenizers.train_byte_bpe([prompts.INSTRUCTIONS["code_agent"]] * 3, 400).save(directory)
    return directory


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "micro.py").write_text(EXPERIMENT)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines on stderr, without the config that every run begins with."""
    return without_config(capsys.readouterr().err)


def without_config(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("config of", "  ", "* "))]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command ends."""
    assert main([*arguments]) == 2
    lines = said(capsys)
    assert len(lines) == 1 and lines[0].startswith("r1ci: "), lines
    return lines[0]


def stands_empty(run: Path) -> bool:
    """Nothing but the lock: a corrected run may take the directory."""
    return not [path for path in run.iterdir() if path.name != ".lock"]


def test_every_fault_of_a_checkpoint_until_it_is_repaired(
    good_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, run = Path("broken"), Path("runs/micro")
    command = ("sft", "micro.py", f"--config.model.checkpoint={broken}")

    assert "broken" in refused(capsys, *command) and stands_empty(run)

    shutil.copytree(good_checkpoint, broken)
    file = broken / "model.safetensors"
    content = file.read_bytes()
    file.unlink()
    assert "download the safetensors" in refused(capsys, *command) and stands_empty(run)

    file.write_bytes(content[: len(content) // 2])
    message = refused(capsys, *command)
    assert "is truncated" in message and "download it again" in message and stands_empty(run)
    file.write_bytes(content)

    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"intermediate_size": 65}))
    message = refused(capsys, *command)
    assert "has shape [32, 64], config.json asks for [32, 65]" in message and stands_empty(run)

    (broken / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    assert "gpt2" in refused(capsys, *command) and stands_empty(run)

    # Another tokenizer than the model's.
    (broken / "config.json").write_text(json.dumps(config))
    tokenizers.train_byte_bpe([prompts.INSTRUCTIONS["code_agent"]] * 3, 600).save(broken)
    assert "420 embeddings; choose" in refused(capsys, *command) and stands_empty(run)

    tokenizers.load(str(good_checkpoint)).save(broken)
    assert main(["sft", "micro.py", f"--config.model.checkpoint={broken}"]) == 0
    assert {"data", "sft"} == set(json.loads((run / "stages.json").read_text()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config.sft.learning_rate=1",), "unknown option --config.sft.learning_rate"),
        (("--config.sft.lr=high",), "--config.sft.lr"),
        (("--config.model.preset=huge",), "unknown model preset 'huge'; choose one of"),
        (("--config.model.tokenizer_vocab=513",), "the 512 embeddings of toy; lower it"),
        (("--config.dataset.tasks=toy_letters,bbh_snarks",), "(bbh_snarks is one): give dem"),
        (("--config.demonstrations.path=no.jsonl",), "no.jsonl cannot be read"),
        (("--config.sampler.cache_length=32",), "longer than sampler.cache_length"),
        (("--config.mesh.data=2", "--config.sft.batch_size=4"), "choose positive sizes that"),
        (("--config.dataset.tasks=toy_leters",), "toy_leters"),
    ],
)
def test_options(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["run", "micro.py", *arguments]) == 2
    assert message in said(capsys)[-1]
    # The corrected command is not refused because of the wrong one.
    assert not Path("runs/micro/config.json").exists()


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ("mikro.py", "no experiment file 'mikro.py'"),
        ("micro.py:none", "no variant 'none'; its variants: micro.py:other"),
    ],
)
def test_unknown_experiments(
    capsys: pytest.CaptureFixture[str], experiment: str, message: str
) -> None:
    assert message in refused(capsys, "run", experiment)
    assert not Path("runs").exists()


def test_no_nsjail_and_no_jail_python(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("R1CI_NSJAIL", str(tmp_path / "nsjail"))
    message = refused(capsys, "run", "micro.py")
    assert "R1CI_NSJAIL" in message and "correct or unset it" in message
    assert stands_empty(Path("runs/micro"))
    monkeypatch.delenv("R1CI_NSJAIL")
    monkeypatch.setenv("R1CI_JAIL_PREFIX", str(tmp_path / "prefix"))
    assert "run `make setup`" in refused(capsys, "run", "micro.py")
    assert stands_empty(Path("runs/micro"))


def test_a_prompt_longer_than_the_cache_is_told_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["sft", "micro.py", "--config.sft.epochs=1", "--config.sampler.prefill_buckets=16"]
    command += ["--config.limits.max_new_tokens=16"]
    assert main([*command, "--config.sampler.cache_length=20"]) == 2
    message = said(capsys)[-1]
    assert "does not fit into sampler.cache_length = 20; raise it" in message
    assert not Path("runs/micro/checkpoints").exists()
    # The data are whole, but made under another config: said, with the way out.
    assert "delete runs/micro" in refused(capsys, *command)
    shutil.rmtree("runs/micro")
    assert main(command) == 0


def test_a_run_with_another_config_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sft", "micro.py"]) == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in Path("runs").rglob("*"))
    capsys.readouterr()
    assert main(["sft", "micro.py", "--config.sft.lr=0.5"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1  # and no settings of a run that there is not
    assert "sft.lr (there 1e-05, now 0.5)" in message and "choose another --workdir" in message
    after = sorted((path, path.stat().st_mtime_ns) for path in Path("runs").rglob("*"))
    assert [row for row in after if row[0].name != ".lock"] == [
        row for row in before if row[0].name != ".lock"
    ]


# --- a full disk ---------------------------------------------------------------------------------

# In a mount namespace of its own: the small disk vanishes with the process.
DISK = """
mkdir disk && mount -t tmpfs -o size={size} tmpfs disk || exit 99
{r1ci} sft micro.py --config.model.preset=toy --workdir disk/run; echo "status $?" >&2
find disk/run -name '*tmp*' -o -name '*.part' -o -name 'incomplete*' | sed 's/^/LEFT /' >&2
mount -o remount,size=200m disk && {r1ci} sft micro.py --config.model.preset=toy --workdir disk/run
echo "again $?" >&2
"""


@pytest.mark.parametrize("size", ["48k", "2m"])
def test_a_full_disk(size: str) -> None:
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
    script = DISK.format(size=size, r1ci=f"{sys.executable} -m r1ci_jax")
    done = subprocess.run(
        [*unshare, "sh", "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    if done.returncode == 99 or "unshare" in done.stderr[:10]:
        pytest.skip(f"NO SMALL DISK can be mounted here: {done.stderr.strip()}")
    lines = without_config(done.stderr)
    end = lines.index("status 2")
    assert "disk full" in lines[end - 1] and lines[end - 1].startswith("r1ci: "), lines
    assert not [line for line in lines if line.startswith(("LEFT", "Traceback"))], lines
    assert lines[-1] == "again 0", lines
