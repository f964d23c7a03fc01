"""An exported model is prompted as it was trained, and its card says how and how good it is."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import pytest
import transformers
from flax import nnx

from r1ci_jax.cli.main import main
from r1ci_jax.config import SamplingParams
from r1ci_jax.model import presets, qwen2
from r1ci_jax.model.hf import weights
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.text import chat_template, chatml, prompts, protocol
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.tools.export import model_card
from r1ci_jax.tools.model_evaluation import checkpoint_defaults
from r1ci_jax.train import checkpoint as checkpoint_files

QWEN_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nYou are Qwen, created by "
    "Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + "
    "'<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
TEXTS = (
    *prompts.INSTRUCTIONS.values(),
    *prompts.PAPER_INSTRUCTIONS.values(),
    "user\nWrite 271 in base 8.",
    "assistant\n",
    "```python\nprint(6 * 7)\n```\nCode Execution Results:\n42\n<<<42>>>",
)
CONFIG = qwen2.Qwen2Config(
    vocab_size=700, width=16, layers=1, query_heads=2, kv_heads=1, head_dim=8, mlp_width=16,
    rope_theta=1e4,
)  # fmt: skip
SAMPLING = {"temperature": 0.4, "top_k": 0, "top_p": 0.9, "min_p": 0.0}
QUESTION = 'Write 271 in base 8, and say "why" \\ it\'s so.\n  Ünïcode {{ braces }} too.'
MACHINE = protocol.stop_machine()
WORDS, OUTPUT = "So:\n```python\nprint(6 * 7)\n```", "\nCode Execution Results:\n42\n"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizers.train_byte_bpe(TEXTS * 3, 690)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A checkpoint as Qwen's are: its own template, end token, sampling and card."""
    place = tmp_path_factory.mktemp("published") / "Qwen2.5-tiny"
    weights.save_pretrained(qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0)), place)
    tokenizer.save(place)
    described = json.loads((place / "tokenizer_config.json").read_text())
    described |= {"eos_token": tokenizers.PAD, "chat_template": QWEN_TEMPLATE}
    (place / "tokenizer_config.json").write_text(json.dumps(described))
    (place / "chat_template.jinja").write_text(QWEN_TEMPLATE)
    generation = {
        "eos_token_id": [tokenizer.pad_id],
        "bos_token_id": tokenizer.pad_id,
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 20,
        "repetition_penalty": 1.1,
    }
    (place / "generation_config.json").write_text(json.dumps(generation))
    (place / "README.md").write_text("---\nlanguage: en\nlicense: other\nlicense_name: qw\n---\nx")
    (place / "LICENSE").write_text("The license.")
    return place


def write_run(run: Path, model: Mapping[str, str], tokenizer: Tokenizer) -> Path:
    (run / "checkpoints").mkdir(parents=True)
    experiment = {
        "name": "probe",
        "seed": 5,
        "model": {"preset": "", "checkpoint": "", "architecture": "", "tokenizer": "", **model},
        "eval": {"sampling": SAMPLING},
        "limits": {"max_code_calls": 4, "max_new_tokens": 120, "max_observation_tokens": 40},
    }
    (run / "config.json").write_text(json.dumps({"experiment": experiment, "git_revision": "abc"}))
    if not model["checkpoint"]:
        tokenizer.save(run / "tokenizer")
    return run


@pytest.fixture(scope="module")
def of_base(tmp_path_factory: pytest.TempPathFactory, base: Path, tokenizer: Tokenizer) -> Path:
    """What `weights export` writes of a run that has trained the base model."""
    place = tmp_path_factory.mktemp("of_base")
    run = write_run(place / "run", {"checkpoint": str(base), "prompts": "auto"}, tokenizer)
    state = nnx.state(weights.load_pretrained(base))
    checkpoint_files.save_params(run / "checkpoints" / "grpo_uniform" / "final", state)
    tasks = {"one": [[1, 1], [1, 0], [1, 1], [1, 0]], "two": [[1, 1]] * 4}
    records = [
        {"model": model, "agent": "code_agent", "task": task, "suite": "toy", "split": "test",
         "n": 4, "correct": sum(right for _, right in counts) if model != "sft" else 0,
         "majority": 0.25, "questions": {str(n): pair if model != "sft" else [1, 0]
                                         for n, pair in enumerate(counts)}}
        for model in ("sft", "grpo_uniform") for task, counts in tasks.items()
    ]  # fmt: skip
    (run / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    assert main(["weights", "export", str(run), str(place / "out")]) == 0
    return place / "out"


@pytest.fixture(scope="module")
def of_scratch(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """What `weights export` writes of a run with its own tokenizer and random weights."""
    place = tmp_path_factory.mktemp("of_scratch")
    run = write_run(place / "run", {"preset": "toy", "checkpoint": ""}, tokenizer)
    config = presets.get("toy")
    params = nnx.state(nnx.jit(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(jax.random.key(0))))())
    checkpoint_files.save_params(run / "checkpoints" / "sft" / "final", params)
    assert main(["weights", "export", str(run), str(place / "out")]) == 0
    return place / "out"


@functools.cache
def load_theirs(place: Path):
    return transformers.AutoTokenizer.from_pretrained(place)


def rendered(place: Path, messages: Sequence[Mapping[str, str]], **options: object):
    """Text and ids that transformers makes of a conversation."""
    theirs = load_theirs(place)
    options = {"add_generation_prompt": True, **options}
    text = theirs.apply_chat_template(messages, tokenize=False, **options)
    ids = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
    return text, ids


@pytest.mark.parametrize("which", ["of_base", "of_scratch"])
def test_transformers_prompts_as_training_did(
    which: str, tokenizer: Tokenizer, request: pytest.FixtureRequest
) -> None:
    place: Path = request.getfixturevalue(which)
    head = prompts.INSTRUCTIONS["code_agent"] if which == "of_base" else ""
    user = {"role": "user", "content": QUESTION}
    _, ids = rendered(place, [user])
    assert ids == chatml.prompt_ids(tokenizer, head + QUESTION)
    _, ids = rendered(place, [user], instructions="Other head: ")
    assert ids == chatml.prompt_ids(tokenizer, f"Other head: {QUESTION}")
    _, ids = rendered(place, [{"role": "system", "content": "Be brief."}, user])
    assert ids == chatml.prompt_ids(tokenizer, head + QUESTION, system="Be brief.")
    # Several turns: the instructions stand before the first question alone.
    said = [{"role": "assistant", "content": "<<<417>>>"}, {"role": "user", "content": "Sure?"}]
    _, ids = rendered(place, [user, *said, *said])
    turn = [*tokenizer.encode("<<<417>>>"), *chatml.user_message_ids(tokenizer, "Sure?")]
    assert ids == [*chatml.prompt_ids(tokenizer, head + QUESTION), *turn, *turn]


@pytest.mark.parametrize("which", ["of_base", "of_scratch"])
def test_outputs_of_scripts_continue_the_message(
    which: str, tokenizer: Tokenizer, request: pytest.FixtureRequest
) -> None:
    """The same bytes as a trajectory's; in it an output begins a new token (ADR 0004)."""
    place: Path = request.getfixturevalue(which)
    head = prompts.INSTRUCTIONS["code_agent"] if which == "of_base" else ""
    assert protocol.observation(ExecResult(status=Status.OK, stdout="42\n")) == OUTPUT
    user = {"role": "user", "content": QUESTION}
    script = [
        {"role": "assistant", "content": WORDS},
        {"role": chat_template.OUTPUT_ROLE, "content": OUTPUT},
    ]
    answer = {"role": "assistant", "content": "<<<42>>>"}
    prompt = chatml.prompt_ids(tokenizer, head + QUESTION)
    one = [*tokenizer.encode(WORDS), *tokenizer.encode(OUTPUT)]
    end = [*tokenizer.encode("<<<42>>>")]
    again = chatml.user_message_ids(tokenizer, "Sure?")
    for messages, ours in (
        ([user, *script], [*prompt, *one]),
        ([user, *script, *script], [*prompt, *one, *one]),
        (
            [user, *script, answer, {"role": "user", "content": "Sure?"}, *script],
            [*prompt, *one, *end, *again, *one],
        ),
        (
            [user, *script, {"role": "user", "content": "Sure?"}],
            [*prompt, *one, *again],
        ),
    ):
        text, ids = rendered(place, messages)
        assert text == tokenizer.decode(ours)
        assert ids == tokenizer.encode_marked(text)
    # A finished conversation ends with its end mark, and the last message can be continued.
    done, _ = rendered(place, [user, *script, answer], add_generation_prompt=False)
    assert done == tokenizer.decode([*prompt, *one, *end]) + "<|im_end|>\n"
    text, _ = rendered(
        place, [user, *script, answer], add_generation_prompt=False, continue_final_message=True
    )
    assert text == tokenizer.decode([*prompt, *one, *end])


def test_the_first_turn_has_the_ids_of_training_up_to_the_output(
    of_base: Path, tokenizer: Tokenizer
) -> None:
    head = prompts.INSTRUCTIONS["code_agent"]
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": WORDS}]
    _, ids = rendered(
        of_base, messages, add_generation_prompt=False, continue_final_message=True
    )  # fmt: skip
    ours = [*chatml.prompt_ids(tokenizer, head + QUESTION), *tokenizer.encode(WORDS)]
    assert ids == ours


def test_a_role_that_was_never_trained_is_an_error(of_base: Path) -> None:
    with pytest.raises(Exception, match="roles are system, user, assistant and tool, not guide"):
        rendered(of_base, [{"role": "guide", "content": "x"}])


def test_generation_defaults_are_those_of_the_run(
    of_base: Path, of_scratch: Path, tokenizer: Tokenizer
) -> None:
    for place in (of_base, of_scratch):
        generation = transformers.GenerationConfig.from_pretrained(place)
        assert generation.eos_token_id == [tokenizer.eos_id, tokenizer.pad_id]
        assert (generation.do_sample, generation.temperature) == (True, 0.4)
        assert (generation.top_p, generation.top_k) == (0.9, 0)
        assert not generation.repetition_penalty or generation.repetition_penalty == 1.0
        # An evaluation of the exported directory samples as that of the run, and adds no system.
        found = checkpoint_defaults.read(place)
        assert found.sampling == SamplingParams(**SAMPLING)
        assert (found.system, found.deviations) == ("", ())
        assert load_theirs(place).eos_token == "<|im_end|>"
    raw = json.loads((of_base / "generation_config.json").read_text())
    assert raw["bos_token_id"] == tokenizer.pad_id and "repetition_penalty" not in raw


def test_the_card_says_what_the_run_knows(of_base: Path, of_scratch: Path) -> None:
    card = (of_base / "README.md").read_text()
    assert card.startswith("---\nlicense: other\nlicense_name: qw\nlibrary_name: transformers\n")
    assert "| base model | `Qwen2.5-tiny` |" in card and str(of_base.parent) not in card
    assert "| seed | 5 |" in card and "| code | abc |" in card
    # Accuracies of 50 and 100 %: 75 on average; the other model's zeros are not in it.
    (row,) = re.findall(r"^\| code_agent .*$", card, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["code_agent", "test", "2", "8", "75.0"] and cells[6] == "25.0"
    low, high = map(float, cells[5].split(" to "))
    assert 0 < low < 75 < high < 100
    assert prompts.INSTRUCTIONS["code_agent"].rstrip() in card
    assert "4 scripts, 120 sampled tokens, 40 tokens of an output" in card
    assert (of_base / "LICENSE").read_text() == "The license."
    card = (of_scratch / "README.md").read_text()
    assert "license:" not in card.split("---")[1] and "base_model" not in card
    assert "no instructions were trained" in card and "has not evaluated this model" in card


def test_the_code_of_the_card_is_code_and_shows_a_real_output(of_base: Path) -> None:
    card = (of_base / "README.md").read_text()
    (example,) = re.findall(r"^~~~~text\n(```python\nprint.*?)^~~~~", card, re.M | re.S)
    assert example == "```python\nprint(6 * 7)\n```" + OUTPUT
    (source,) = re.findall(r"^```python\n(import re\n.*?)^```$", card, re.M | re.S)
    compile(source, "card", "exec")
    assert model_card.CLOSED in source


@pytest.mark.parametrize(
    "text",
    [
        WORDS,
        "```python\nprint(1)",
        "```py\nx = 1\n   ```",
        "``` Python3\nprint('```')\n```",
        "```cpp\nint x;\n```",
        "<<<answer>>> then <<<4>>>",
        "<<<answer>>>",
        "<<<<5>>>",
        "a << b >> c",
        "<<<a<<<b>>>",
        "text\n```python {x}\nprint(1)\n```\n<<<2>>>",
    ],
)
def test_the_stop_rule_of_the_card_is_the_trained_one(text: str) -> None:
    flags = re.IGNORECASE | re.DOTALL | re.MULTILINE | re.ASCII
    stops = [
        protocol.Stop(int(MACHINE.stop_A[protocol.run(MACHINE, text[:end].encode())]))
        for end in range(len(text) + 1)
    ]
    end = next((end for end, stop in enumerate(stops) if stop is not protocol.Stop.NONE), None)
    found = re.compile(model_card.CLOSED, flags).search(text)
    assert (found and found.end()) == end
    if found is not None and end is not None:
        code, answer = found["code"], found["answer"]
        assert (code is not None) == (stops[end] is protocol.Stop.CODE)
        if code is None:
            assert answer == protocol.final_answer(text[:end])
        else:
            assert code == protocol.last_code(text[:end])


def test_an_imported_model_keeps_its_own_template(base: Path, tmp_path: Path) -> None:
    assert main(["weights", "import", str(base), str(tmp_path / "out")]) == 0
    for name in ("chat_template.jinja", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    assert not (tmp_path / "out" / "README.md").exists()
