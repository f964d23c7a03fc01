"""`r1ci serve MODEL` answers chat completions of OpenAI's protocol, with the interpreter live."""

import argparse
import concurrent.futures
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from r1ci_jax.cli import sampling_options
from r1ci_jax.cli.talk import model_options
from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.text import prompts

_WAITING_PER_SLOT = 16
"""Answers that may wait for a slot, per slot; more are turned away."""


def add_commands(subparsers: Any) -> None:
    """Register `serve`."""
    parser = subparsers.add_parser(
        "serve",
        help="an OpenAI-compatible endpoint, with the interpreter live",
        description="Serve a model at /v1/chat/completions, as OpenAI's clients ask. Its scripts "
        "are run in the jail, and it reads what they print. docs/serving.md describes requests.",
    )
    model_options.add(parser)
    parser.add_argument("--name", help="the model's name in requests (default: that of MODEL)")
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0: any free one")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="clients must send this token; needed for other hosts (or R1CI_SERVE_TOKEN)",
    )
    parser.add_argument("--slots", type=int, default=8, help="answers at a time (default 8)")
    parser.add_argument("--workers", type=int, default=2, help="scripts at a time (default 2)")
    parser.add_argument(
        "--outputs",
        choices=("separate", "inline"),
        default="separate",
        help="inline: outputs of scripts stand in the content, for clients that show nothing else",
    )
    parser.add_argument(
        "--grace", type=float, default=10.0, help="seconds for open answers to end (default 10)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    model_options.check(args, "slots", "workers")
    if not 0 <= args.grace < float("inf"):
        raise UserError(f"--grace must be at least 0, not {args.grace}")
    try:
        importlib.import_module("uvicorn")
        importlib.import_module("starlette")
    except ImportError as error:
        raise UserError(
            f"serving needs the package {error.name}: {install_extra('serve')}"
        ) from None
    from r1ci_jax.tools.serve import access, web_server

    sampling_options.chosen(args)  # mistakes end it before anything is loaded
    token = access.read_token(args.token_file)
    access.require_token(args.host, token)
    run = model_options.find_run(args)
    with web_server.listen(args.host, args.port) as listening:
        with concurrent.futures.ThreadPoolExecutor(1) as background:
            # The fork server, a process of its own, starts as long as JAX takes to be imported.
            background.submit(importlib.import_module, "r1ci_jax.tools.chat.chat_model")
            opened = Sandbox(model_options.sandbox_config(run, args.workers))
        with opened as sandbox:
            _serve(args, run, sandbox, listening, token)
    return 0


def _serve(
    args: argparse.Namespace,
    run: RunDir | None,
    sandbox: Sandbox,
    listening: Any,
    token: str | None,
) -> None:
    from r1ci_jax.runtime import compilation_cache
    from r1ci_jax.tools.chat import chat_model
    from r1ci_jax.tools.serve import web_server
    from r1ci_jax.tools.serve.answer_service import AnswerService
    from r1ci_jax.tools.serve.web_app import ServeSettings

    compilation_cache.enable()
    print(f"r1ci: loading {args.path}", file=sys.stderr)
    served = model_options.load(args, run)
    print("r1ci: compiling", file=sys.stderr)
    runner = chat_model.make_runner(served, sandbox, slots=args.slots)
    settings = ServeSettings(
        model=args.name or served.name,
        sampling=served.sampling,
        system=served.system,
        instructions=prompts.instructions_of("code_agent", served.instructions),
        max_tokens=served.limits.max_new_tokens,
        outputs=args.outputs,
        host=args.host,
        token=token,
    )
    url = web_server.base_url(listening)
    server = web_server.WebServer(
        AnswerService(runner, max_open=args.slots * (1 + _WAITING_PER_SLOT)),
        settings,
        grace=args.grace,
        on_started=lambda: print(
            f"r1ci: serving {settings.model} at {url} (process {os.getpid()}; Ctrl-C ends it)",
            file=sys.stderr,
            flush=True,
        ),
    )
    server.run_until_ended(listening)
    print("r1ci: ended", file=sys.stderr)
