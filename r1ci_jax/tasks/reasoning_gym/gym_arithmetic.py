"""The chosen data sets of the module arithmetic, see `choice`."""

from typing import Final

from r1ci_jax.tasks.reasoning_gym.choice import INTEGER, NUMBER, DatasetChoice, grow

CHOSEN: Final[dict[str, DatasetChoice]] = {
    "basic_arithmetic": DatasetChoice(
        kind="execution",
        why="one right integer; what is none is left out, for the package rounds it down",
        form="an integer",
        say=INTEGER,
        rule="numbers",
        ladder={**grow("terms", 3, 4, 5, 6, 8), **grow("digits", 2, 2, 3, 3, 4, low=1)},
    ),
    "bitwise_arithmetic": DatasetChoice(
        kind="execution",
        why="one right number",
        form="a hexadecimal number like -0x1f",
        rule="hexadecimal",
        shape="-?0x[0-9a-fA-F]+",
        ladder={"difficulty": (1, 2, 3, 4, 6)},
    ),
    "calendar_arithmetic": DatasetChoice(
        kind="execution",
        why="one right day or count; no ranges over the end of a year, which name one year",
        form="a weekday in full, Yes or No, or an integer",
        say="Answer with the weekday in full, with Yes or No, or with an integer.",
        rule="words",
        ladder={
            "tasks": (
                ["weekday_of_date", "weekday_offset"],
                ["weekday_of_date", "weekday_offset", "count_days"],
                ["weekday_offset", "count_days", "count_business_days"],
                ["count_days", "count_business_days", "weekday_of_date_from_first_date"],
                ["count_business_days", "recurring_event_day", "weekday_of_date_from_first_date"],
            ),
            "offset_upper_bound": (30, 60, 100, 250, 365),
            # Some questions of the upper levels name no year, so theirs is no leap year.
            "year": (2022, 2021, 2020, 2019, 2023),
        },
    ),
    "chain_sum": DatasetChoice(
        kind="execution",
        why="one right integer",
        form="an integer",
        say=INTEGER,
        rule="numbers",
        ladder={**grow("terms", 3, 4, 6, 9, 14), **grow("digits", 2, 3, 4, 5, 7)},
    ),
    "count_bits": DatasetChoice(
        kind="execution",
        why="one right count",
        form="an integer",
        say=INTEGER,
        rule="numbers",
        ladder={
            "min_n": (2**6, 2**10, 2**20, 2**30, 2**40),
            "max_n": (2**12, 2**20, 2**30, 2**40, 2**60),
        },
    ),
    "decimal_arithmetic": DatasetChoice(
        kind="execution",
        why="one right value of 12 digits; the package lets it be off by a thousandth, which is "
        "more than many of the values",
        form="a decimal number",
        rule="decimal",
        shape=r"-?[0-9]+(?:\.[0-9]+)?",
        ladder={
            **grow("terms", 2, 3, 4, 6, 8),
            "min_num_decimal_places": (1, 2, 2, 3, 3),
            "max_num_decimal_places": (2, 2, 3, 3, 3),
        },
        fixed={"precision": 12},
    ),
    "decimal_chain_sum": DatasetChoice(
        kind="execution",
        why="one right number",
        form="a decimal number",
        say=NUMBER,
        rule="numbers",
        ladder={
            **grow("terms", 2, 3, 4, 6, 9),
            **grow("digits", 2, 3, 4, 5, 6),
            **grow("decimal_places", 1, 2, 3, 4, 5, low=1),
        },
    ),
    "dice": DatasetChoice(
        kind="execution",
        why="one right fraction; 100 of 100 golds confirmed by counting",
        form="a reduced fraction like 1/60",
        rule="fraction",
        ladder={"num_dice": (3, 4, 5, 6, 8), "max_dice_size": (14, 18, 20, 25, 30)},
    ),
    "fraction_simplification": DatasetChoice(
        kind="execution",
        why="one right fraction",
        form="a fraction like 2/3, or in LaTeX",
        rule="package",
        shape=r"\$?(?:[0-9]+ ?/ ?[0-9]+|\\d?frac\{[0-9]+\}\{[0-9]+\})\$?",
        ladder={
            "max_value": (20, 100, 1000, 10_000, 100_000),
            "max_factor": (10, 20, 100, 1000, 10_000),
        },
    ),
    "gcd": DatasetChoice(
        kind="execution",
        why="one right integer; two numbers, for of more most are coprime",
        form="an integer",
        rule="numbers",
        ladder={"max_value": (100, 1000, 10_000, 1_000_000, 100_000_000)},
        constant=0.45,
    ),
    "gsm_symbolic": DatasetChoice(
        kind="reasoning",
        why="77 templates with random names and numbers, eight with wrong golds are left out; the "
        "package has one level",
        form="a number without unit",
        rule="numbers",
        chunk=100,
    ),
    "lcm": DatasetChoice(
        kind="execution",
        why="one right integer",
        form="an integer",
        say=INTEGER,
        rule="numbers",
        ladder={**grow("numbers", 2, 2, 2, 3, 4), "max_value": (40, 100, 300, 500, 1000)},
    ),
    "leg_counting": DatasetChoice(
        kind="execution",
        why="one right count, of animals whose legs are common knowledge",
        form="an integer",
        say=INTEGER,
        rule="numbers",
        ladder={**grow("animals", 3, 4, 6, 8, 12), "max_instances": (5, 10, 15, 50, 200)},
    ),
    "number_format": DatasetChoice(
        kind="execution",
        why="one right number, compared as the question shows it; the gold has a float's last "
        "digits, and the package allows 0.01, which other candidates may lie within",
        form="one of the numbers",
        rule="shown_number",
        ladder={
            **grow("num_candidates", 3, 5, 8, 12, 20),
            "max_delta": (1000.0, 100.0, 50.0, 20.0, 10.0),
        },
    ),
    "power_function": DatasetChoice(
        kind="execution",
        why="one right value of three figures",
        form="a number like 1.23e+4",
        say="The sign belongs to the base: -2^2 means (-2)^2.",
        rule="package",
        shape=r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?",
        ladder=grow("exponent", 2, 3, 4, 6, 8, low=2),
    ),
    "prime_factorization": DatasetChoice(
        kind="execution",
        why="one right multiset of factors",
        form="primes parted by \u00d7, like 2 \u00d7 2 \u00d7 3",
        rule="package",
        shape="[0-9]+(?: ?\u00d7 ?[0-9]+)*",
        ladder={
            "min_value": (20, 500, 2000, 10_000, 100_000),
            "max_value": (999, 5000, 20_000, 100_000, 1_000_000),
        },
    ),
    "products": DatasetChoice(
        kind="execution",
        why="one right integer",
        form="an integer",
        rule="numbers",
        ladder={**grow("terms", 2, 2, 2, 3, 3), **grow("digits", 2, 3, 4, 4, 6)},
    ),
    "time_intervals": DatasetChoice(
        kind="execution",
        why="one right duration, computed anew: the package cuts milliseconds and drops some times",
        form="a duration in the form that the question names",
        rule="duration",
        shape=r"[0-9]+ days?(?:, [0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)?"
        r"|[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?",
        ladder={
            "max_time_difference_seconds": (7200, 10_800, 32_400, 60_000, 86_400),
            "max_date_difference_days": (60, 100, 365, 1000, 5000),
        },
    ),
}
