"""The split of tasks: 107 of the paper's 144 are trained on, sampled once and fixed here.

The paper divides its 144 tasks at random into 107 and 37 and the names are not known. This list was
drawn by

    random.Random("r1ci_jax 107/37").sample(sorted(names of the three suites), 37)

and a test draws it again. Tasks of other suites, the toy ones and a user's own, are for training.
"""

from typing import Final

TEST: Final = (
    "bbh_hyperbaton",
    "bbh_logical_deduction_five_objects",
    "bbh_logical_deduction_three_objects",
    "bbh_penguins_in_a_table",
    "bbh_temporal_sequences",
    "combinatorial_calculation",
    "letter_logic_diagram",
    "logical_equation",
    "mahjong_pattern",
    "new_operator",
    "reversi",
    "rg_acre",
    "rg_advanced_geometry",
    "rg_base_conversion",
    "rg_color_cube_rotation",
    "rg_count_primes",
    "rg_countdown",
    "rg_course_schedule",
    "rg_emoji_mystery",
    "rg_family_relationships",
    "rg_futoshiki",
    "rg_gsm_symbolic",
    "rg_isomorphic_strings",
    "rg_lcm",
    "rg_letter_counting",
    "rg_list_functions",
    "rg_number_filtering",
    "rg_path_star",
    "rg_polynomial_equations",
    "rg_products",
    "rg_rectangle_count",
    "rg_simple_equations",
    "rg_string_manipulation",
    "rg_time_intervals",
    "rg_word_ladder",
    "string_insertion",
    "string_splitting",
)
"""The 37 tasks that only evaluation sees."""


def split_of_task(name: str) -> str:
    """`train` or `test`."""
    return "test" if name in TEST else "train"
