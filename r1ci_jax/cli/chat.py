"""`r1ci chat MODEL` starts a conversation with a model and a live interpreter."""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import importlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1ci_jax.config import SamplingParams, TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.ranges import OutOfRange
from r1ci_jax.rollout import agents
from r1ci_jax.runtime import terminal, user_modules
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig
from r1ci_jax.text import prompts

if TYPE_CHECKING:  # both import JAX
    from r1ci_jax.tools.chat.conversation import Conversation
    from r1ci_jax.tools.chat.view import View

PROMPT = "> "
HELP = """\
/reset          begin a new conversation
/system TEXT    begin a new one with these instructions; without TEXT, with none
/quit           leave (Ctrl-D does too)
Ctrl-C          stop the answer"""
_CONTEXT, _OBSERVATION, _ANSWER = 4096, 512, 1024
"""Default limits (conversation, script output, answer) for models without a run."""


def add_commands(subparsers: Any) -> None:
    """Register `chat`."""
    parser = subparsers.add_parser(
        "chat",
        help="talk to a model, with the interpreter live",
        description="Talk to a model. Its scripts are run in the jail as soon as they are closed, "
        "and it reads what they print. Messages are lines of standard input.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "path",
        metavar="MODEL",
        help="a run, a Hugging Face directory or hub id, a GGUF file, or a preset (qwen2.5-...)",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="of a run: sft, grpo_curriculum, ... (default: the newest)"
    )
    parser.add_argument(
        "--agent",
        default="code_agent",
        metavar="NAME",
        help=f"{', '.join(prompts.AGENT_NAMES)} (default code_agent), or one of your own, "
        "package.module:Class; its module lies in the working directory or is installed",
    )
    parser.add_argument("--temperature", type=float, default=0.6, help="default 0.6")
    parser.add_argument("--top-k", type=int, default=0, help="keep the K likeliest tokens; 0: all")
    parser.add_argument("--top-p", type=float, default=1.0, help="keep this much probability")
    parser.add_argument("--min-p", type=float, default=0.0, help="against the likeliest token")
    parser.add_argument("--greedy", action="store_true", help="always the likeliest token")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-tokens", type=int, metavar="N", help="of one answer")
    parser.add_argument("--context", type=int, metavar="N", help="tokens of one conversation")
    parser.add_argument("--system", default="", metavar="TEXT", help="instructions before all")
    parser.add_argument(
        "--bare", action="store_true", help="do not tell a published model how to use scripts"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--json", action="store_true", help="print events, one JSON object per line"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        sampling = SamplingParams(
            temperature=0.0 if args.greedy else args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            min_p=args.min_p,
        )
    except OutOfRange as error:
        raise UserError(f"--{error.field.replace('_', '-')} {error.reason}") from None
    path = Path(args.path)
    if ":" in args.agent:
        user_modules.search(Path.cwd())
    agent = agents.get(args.agent)
    run = RunDir.view(path) if RunDir.is_at(path) else None
    if run is None and args.model is not None:
        raise UserError(f"--model names one of a run's models, but {args.path} is no run")
    experiment = {} if run is None else run.config["experiment"]
    with terminal.reading_stdin():
        pass  # a closed one is reported before anything is loaded
    with concurrent.futures.ThreadPoolExecutor(1) as background:
        # The fork server, a process of its own, starts as long as JAX takes to be imported.
        background.submit(_import_model_code)
        opened = Sandbox(_sandbox_config(experiment))
    with opened as sandbox:
        conversation, view = _open(args, run, sandbox, sampling, agent)
        conversation.reset(args.system)
        return _talk(conversation, view, is_json=args.json)


def _import_model_code() -> None:
    for name in ("tools.chat.conversation", "tools.chat.view", "train.load_model"):
        importlib.import_module(f"r1ci_jax.{name}")


def _sandbox_config(experiment: dict[str, Any]) -> SandboxConfig:
    """Return the run's settings with one worker: scripts come one at a time."""
    saved = experiment.get("sandbox", {})
    limits = Limits(**saved.get("limits", {}))
    return SandboxConfig(**{**saved, "limits": limits, "workers": 1})


def _open(
    args: argparse.Namespace,
    run: RunDir | None,
    sandbox: Sandbox,
    sampling: SamplingParams,
    agent: agents.Agent,
) -> tuple["Conversation", "View"]:
    """Load the model; by default answers may be as long as in its training."""
    from r1ci_jax.runtime import compilation_cache
    from r1ci_jax.tools.chat import conversation as chat
    from r1ci_jax.tools.chat import view as chat_view
    from r1ci_jax.train import load_model

    compilation_cache.enable()
    print(f"r1ci: loading {args.path}", file=sys.stderr)
    if run is None:
        model = load_model.load_published(args.path, args.dtype)
        chosen = prompts.NO_INSTRUCTIONS if args.bare else prompts.INSTRUCTIONS
        context = min(_CONTEXT, model.config.max_positions)
        limits = TurnLimits(max_new_tokens=_ANSWER, max_observation_tokens=_OBSERVATION)
    else:
        model = load_model.load_sampler_from_run(run, args.model, args.dtype)
        experiment = run.config["experiment"]
        choice = "none" if args.bare else experiment["model"].get("prompts", "auto")
        is_pretrained = bool(experiment["model"]["checkpoint"])
        chosen = prompts.choose(choice, is_pretrained=is_pretrained)
        context = experiment["sampler"]["cache_length"]
        limits = TurnLimits(
            max_code_calls=experiment["limits"]["max_code_calls"],
            max_new_tokens=experiment["limits"]["max_new_tokens"],
            max_observation_tokens=experiment["limits"]["max_observation_tokens"],
            observation_rule=experiment["limits"].get("observation_rule", "clip"),
        )
    if args.context is not None:
        if not 0 < args.context <= model.config.max_positions:
            raise UserError(f"--context {args.context}: 1 to {model.config.max_positions} tokens")
        context = args.context
    if args.max_tokens is not None:
        limits = dataclasses.replace(limits, max_new_tokens=args.max_tokens)
    print("r1ci: compiling; /help lists the commands", file=sys.stderr)
    runner = chat.make_runner(model, sandbox, limits, context=context, seed=args.seed)
    if args.json:
        view: View = chat_view.JsonView(sys.stdout, model.tokenizer)
    else:
        view = chat_view.TextView(sys.stdout, model.tokenizer, use_color=sys.stdout.isatty())
    instructions = prompts.instructions_of(agent.name, chosen)
    asking = chat.Conversation(runner, sampling, view, instructions=instructions, agent=agent)
    return asking, view


def _talk(conversation: "Conversation", view: "View", *, is_json: bool) -> int:
    """Answer each message; return 1 if one failed and no person saw the reason."""
    assert sys.stdin is not None, "a closed standard input was not reported"
    is_person = sys.stdin.isatty() and not is_json
    failed = False
    for message in _typed() if is_person else _piped():
        command, _, rest = message.partition(" ")
        match command:
            case "/quit":
                break
            case "/reset":
                conversation.reset()
            case "/system":
                conversation.reset(rest.strip())
            case "/help":
                print(HELP, file=sys.stderr)
            case _ if command.startswith("/"):
                view.problem(f"there is no command {command}; /help lists them")
                failed = True
            case _:
                failed |= not _answer(conversation, view, message)
    return int(failed and not is_person)


def _answer(conversation: "Conversation", view: "View", message: str) -> bool:
    """Answer one message; return False if that is not possible."""
    try:
        with _ctrl_c() as is_stopped:
            if not conversation.ask(message, is_stopped):
                view.interrupted()
    except UserError as error:
        view.problem(str(error))
        return False
    return True


def _typed() -> Iterator[str]:
    """Yield the typed lines; Ctrl-C drops the line and Ctrl-D ends."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # input() uses it, for history and editing
    while True:
        try:
            with terminal.reading_stdin():
                line = input(PROMPT).strip()
        except KeyboardInterrupt:
            print()
        except EOFError:
            print()
            return
        else:
            if line:
                yield line


def _piped() -> Iterator[str]:
    while True:
        with terminal.reading_stdin() as stdin:
            line = stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


@contextlib.contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C only set the yielded function to true; no computation is interrupted."""
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
