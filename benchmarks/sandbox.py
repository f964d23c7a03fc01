"""`python benchmarks/sandbox.py --json` equals `r1ci sandbox bench --json`."""

import sys

from r1ci_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["sandbox", "bench", *sys.argv[1:]]))
