"""Bytes cut anywhere lose the cut character and nothing else."""

from r1ci_jax import utf8

TEXT = "a\u00e9\u20ac\U0001f600z\u65e5"


def test_a_cut_takes_the_character_that_it_is_in() -> None:
    data = TEXT.encode()
    ends = [len(TEXT[:count].encode()) for count in range(len(TEXT) + 1)]
    for cut in range(len(data) + 1):
        assert utf8.drop_cut_end(data[:cut]) == data[: max(end for end in ends if end <= cut)]
        assert utf8.drop_cut_start(data[cut:]) == data[min(end for end in ends if end >= cut) :]


def test_bytes_that_are_no_characters_stay() -> None:
    assert utf8.drop_cut_start(b"\x80" * 9) == b"\x80" * 9
    assert utf8.drop_cut_end(b"\xff\xfe") == b"\xff\xfe"


def test_halves_of_surrogate_pairs_become_question_marks() -> None:
    assert utf8.well_formed("a\ud83db\U0001f600") == "a?b\U0001f600"
