"""pass@k: the chance that at least one of k answers to a question is right.

Of n answers to a question c are right. Among the C(n, k) choices of k of them, C(n - c, k) hold no
right one, so

    pass@k = 1 - C(n - c, k) / C(n, k)

is estimated without bias (Chen et al., arXiv 2107.03374); 1 - (1 - c/n)^k is not. With k = 1 it is
c / n: the mean of that over questions and tasks is avg@n, the accuracy of all tables.
"""

import math
import statistics
from collections.abc import Collection, Sequence

from r1ci_jax.evaluate.intervals import Counts


def pass_at_k(question: Counts, k: int) -> float:
    """Estimate pass@k of a question with at least k answers.

    >>> pass_at_k(Counts(n=4, correct=1), 2)
    0.5
    """
    n, correct = question
    assert 1 <= k <= n, f"pass@{k} of {n} answers"
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def mean_over_tasks(tasks: Sequence[Collection[Counts]], k: int) -> float | None:
    """Average pass@k over the questions of each task, then over tasks.

    A question whose interpreter failed may have fewer than k answers: it does not count. None: no
    question has as many.
    """
    means = [
        statistics.fmean(pass_at_k(each, k) for each in counted)
        for task in tasks
        if (counted := [each for each in task if each.n >= k])
    ]
    return statistics.fmean(means) if means else None


def chosen_ks(samples: int) -> tuple[int, ...]:
    """Return the k that tables show of `samples` answers: powers of two above 1, and all.

    >>> chosen_ks(1), chosen_ks(6)
    ((), (2, 4, 6))
    """
    powers = [2**i for i in range(1, samples.bit_length()) if 2**i < samples]
    return (*powers, samples) if samples > 1 else ()
