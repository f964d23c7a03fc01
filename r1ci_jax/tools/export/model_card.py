"""The model card of an exported model: README.md, as the Hugging Face hub shows it."""

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from r1ci_jax.evaluate import results
from r1ci_jax.evaluate.results import Result
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.text import prompts

FILE: Final = "README.md"
CLOSED: Final = (
    r"```[ \t]*py(?:thon)?[0-9.]*(?:[ \t\r{:,][^`<>\n]*)?\n(?P<code>.*?)^ {0,3}```"
    r"|<<<(?!<)(?!\s*answer\s*>>>)(?P<answer>(?:(?!<<<).)*?)>>>"
)
"""A closed code block or a closed answer: `protocol`'s rule for blocks that are not indented."""

_FRONT_MATTER: Final = re.compile(r"\A---\n(.*?)^---$", re.DOTALL | re.MULTILINE)
_LICENSE_KEYS: Final = re.compile(r"^license(?:_name|_link)?: *\S.*$", re.MULTILINE)
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def render(run: RunDir, trained: str, instructions: str, checkpoint: Path | None) -> str:
    """Describe a model that a run has trained; `checkpoint` is the directory of its base model."""
    experiment = run.config["experiment"]
    license_lines = _license_lines(checkpoint)
    base = _base_name(experiment, checkpoint)
    title = f"{experiment.get('name', run.path.name)}, {results.model_name(trained)}"
    sections = [
        _front_matter(experiment, license_lines),
        f"# {title}",
        "A language model that reasons step by step while it writes Python: it pauses on a closed "
        "code block, an interpreter runs the script, and it goes on with the output. Trained with "
        "r1ci_jax, R1-Code-Interpreter (arXiv 2505.21668) in JAX.",
        _training(run, trained, base),
        "\n".join(["## Results", "", *_results(run, trained)]),
        _prompt(instructions),
        _stop_rule(experiment),
        _usage(instructions),
        _license(license_lines, base),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(experiment: Mapping[str, Any], license_lines: Sequence[str]) -> str:
    checkpoint = experiment["model"]["checkpoint"]
    is_hub_id = _HUB_ID.fullmatch(checkpoint) and not Path(checkpoint).exists()
    lines = [
        *([f"base_model: {checkpoint}"] if is_hub_id else []),
        *license_lines,
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [r1-code-interpreter, r1ci_jax]",
    ]
    return "\n".join(["---", *lines, "---"])


def _base_name(experiment: Mapping[str, Any], checkpoint: Path | None) -> str:
    """Name the base model; of a directory its last part alone, for the rest is a machine's."""
    name = experiment["model"]["checkpoint"]
    if checkpoint is None:
        preset = experiment["model"].get("preset", "")
        return f"none: random weights of the architecture `{preset}`"
    return f"`{Path(name).name if Path(name).exists() else name}`"


def _license_lines(checkpoint: Path | None) -> list[str]:
    """Take the license from the front matter of the base model's own card, if it has one."""
    card = None if checkpoint is None else checkpoint / FILE
    if card is None or not card.is_file():
        return []
    found = _FRONT_MATTER.search(card.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n"))
    return _LICENSE_KEYS.findall(found[1]) if found else []


def _license(lines: Sequence[str], base: str) -> str:
    if base.startswith("none"):
        text = (
            "These weights have no base model. The code that trained them is under Apache-2.0; "
            "the license of the weights is the choice of whoever trained them."
        )
    elif lines:
        text = f"That of the base model ({'; '.join(lines)})."
    else:
        text = f"That of the base model, {base}: its files here do not name it, so look it up."
    return f"## License\n\n{text}"


def _training(run: RunDir, trained: str, base: str) -> str:
    config, experiment = run.config, run.config["experiment"]
    revision = config.get("git_revision") or "not recorded"
    created = config.get("created")
    dataset = experiment.get("dataset", {})
    rows = {
        "base model": base,
        "experiment": f"`{experiment.get('name', run.path.name)}`",
        "model of the run": f"`{trained}` ({results.model_name(trained)})",
        "seed": str(experiment.get("seed", 0)),
        "seed of the questions": str(experiment.get("data_seed", 0)),
        "tasks": str(len(dataset.get("tasks", ()))),
        "code": revision + (" with changes" if config.get("git_changes") else ""),
        "begun": "not recorded" if created is None else _date(created),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["## Training", "", "| | |", "|---|---|", *lines])


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")


def _results(run: RunDir, trained: str) -> Iterator[str]:
    """Tabulate the run's evaluation of the model, with intervals over questions."""
    path = run.results_path
    records = metrics.read(path) if path.exists() else []
    if not any(record.get("model") == trained and record.get("n") for record in records):
        yield "The run has not evaluated this model."
        return
    found = results.read_run(run.path)
    own = [result for result in found.results if result.model == trained]
    yield "Mean accuracy over tasks in percent, on questions that were not trained on"
    yield ""
    yield "| agent | tasks | number | answers | accuracy | 95 % interval | constant answer |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for (_, agent, part), members in results.group_by_model_and_split(own).items():
        yield _row(agent, part, members)
    if found.note:
        yield from ("", found.note)


def _row(agent: str, part: str, members: Sequence[Result]) -> str:
    estimate, majority = results.mean_over_tasks(members), results.mean_majority(members)
    constant = "-" if majority is None else f"{majority:.1f}"
    answers = sum(result.n for result in members)
    return (
        f"| {agent} | {part} | {len(members)} | {answers} | {estimate.mean:.1f} | "
        f"{estimate.interval} | {constant} |"
    )


def _prompt(instructions: str) -> str:
    lines = [
        "## Prompt",
        "",
        "`apply_chat_template` of transformers, and so vLLM, renders the prompt of the training. "
        "There was no system message.",
    ]
    if not instructions:
        lines += ["The first message is the question alone: no instructions were trained."]
    else:
        lines += [
            "The template puts these instructions before the first user message; pass "
            '`instructions=""` to the template to leave them out:',
            "",
            "~~~~text",
            instructions.rstrip("\n"),
            "~~~~",
        ]
    return "\n".join(lines)


def _stop_rule(experiment: Mapping[str, Any]) -> str:
    limits = experiment.get("limits", {})
    numbers = [
        f"{limits[key]} {words}"
        for key, words in (
            ("max_code_calls", "scripts"),
            ("max_new_tokens", "sampled tokens"),
            ("max_observation_tokens", "tokens of an output"),
        )
        if key in limits
    ]
    limit = f" The limits of the training: {', '.join(numbers)}." if numbers else ""
    return f"""\
## Stop rule, and what follows

Stop as soon as a code block or an answer is closed; this expression finds both (flags: ignore
case, dot matches all, multi-line, ASCII):

~~~~text
{CLOSED}
~~~~

A block opens with ```` ```python ```` and closes with ```` ``` ```` at the start of a line. Run it
in a fresh process, and append to the same assistant message, directly behind the closing fence, a
line feed, the line `Code Execution Results:`, what the script printed, and a line feed:

~~~~text
```python
print(6 * 7)
```
Code Execution Results:
42
~~~~

Of an error the policy reads the last line (`ZeroDivisionError: division by zero`) behind what was
printed; nothing printed reads `(no output)`. Then it samples on. In the chat template an output is
a message of the role `tool` between two of the assistant; its content begins and ends with a line
feed. The final answer stands between `<<<` and `>>>`; without one, the turn ends with
`<|im_end|>`.{limit}

The model writes code that nobody has read: run it only where it can do no harm."""


def _usage(instructions: str) -> str:
    bare = "" if instructions == prompts.INSTRUCTIONS["code_agent"] else " --bare"
    return f"""\
## Use

`r1ci chat DIR{bare}` and `r1ci serve DIR{bare}` run the scripts in a jail, as the training did.
With transformers alone:

```python
import re

from r1ci_jax.sandbox import Sandbox
from r1ci_jax.text.protocol import observation
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria

FLAGS = re.IGNORECASE | re.DOTALL | re.MULTILINE | re.ASCII
CLOSED = re.compile(
    r\"\"\"{CLOSED}\"\"\",
    FLAGS,
)


class Closed(StoppingCriteria):
    def __init__(self, tokenizer, start):
        self.tokenizer, self.start = tokenizer, start

    def __call__(self, input_ids, scores, **_):
        text = self.tokenizer.decode(input_ids[0, self.start :])
        return input_ids.new_tensor([CLOSED.search(text) is not None]).bool()


def answer(directory, question, turns=9, tokens=512):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    messages = [{{"role": "user", "content": question}}]
    with Sandbox() as sandbox:
        for _ in range(turns):
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            start = ids["input_ids"].shape[1]
            stop = [Closed(tokenizer, start)]
            out = model.generate(**ids, max_new_tokens=tokens, stopping_criteria=stop)
            text = tokenizer.decode(out[0, start:], skip_special_tokens=True)
            messages.append({{"role": "assistant", "content": text}})
            closed = CLOSED.search(text)
            if closed is None or closed["code"] is None:
                return closed and closed["answer"], messages
            output = observation(sandbox.run(closed["code"]))
            messages.append({{"role": "tool", "content": output}})
    return None, messages
```"""
