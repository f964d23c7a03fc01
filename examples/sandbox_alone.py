"""The interpreter jail alone: scripts of a stranger are run, and nothing of them stays.

    python examples/sandbox_alone.py

No JAX is imported. sandboxes/README.md says what the jail covers and what it does not.
"""

from r1ci_jax.sandbox import Limits, Sandbox


def main() -> None:
    """Run a script, stop an endless one, keep variables, take a file back."""
    with Sandbox() as box:
        print("isolation:", box.tier)

        found = box.run("print(sum(range(101)))")
        print(found.status, found.stdout.strip())

        endless = box.run("while True: pass", Limits(cpu_seconds=1.0))
        print(endless.status, f"after {endless.cpu_seconds:.0f} s of CPU time")

        failed = box.run("open('/etc/shadow').read()")
        print(failed.status, failed.stderr.strip().splitlines()[-1])

        with box.session() as session:  # variables stay from cell to cell
            session.run("from sympy import factorint; n = 2**64 + 1")
            print(session.run("factorint(n)").stdout.strip())

        table = "open('squares.csv', 'w').write('\\n'.join(f'{i},{i * i}' for i in range(4)))"
        print(box.run(table, collect=["squares.csv"]).files)

        waiting = [box.submit(f"print({number} ** 2)") for number in range(5)]
        print([each.result().stdout.strip() for each in waiting])


if __name__ == "__main__":
    main()
