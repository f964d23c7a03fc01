"""The pages of the slots: nobody's page is another's, and nothing is lost."""

import random

import numpy as np
import pytest

from r1ci_jax.sampling.page_table import PageCopy, PageTable

WIDTH = 4


def make(slots: int = 4, shards: int = 1, pages: int = 8, row: int = 4) -> PageTable:
    return PageTable(
        slots=slots, shards=shards, pages_per_shard=pages, pages_per_row=row, page_length=WIDTH
    )


def pages_of(table: PageTable, slot: int) -> list[int]:
    return [int(page) for page in table.table[slot] if page < table.num_pages]


def test_a_prompt_is_shared_by_full_pages_and_its_last_page_is_copied() -> None:
    table, prompt = make(), tuple(range(6))
    assert table.start(0, 9, prompt) == []
    table.keep_prompt(0, prompt)
    first, second, third = pages_of(table, 0)
    assert table.start(1, 8, prompt) == [PageCopy(second, pages_of(table, 1)[1], 2)]
    assert pages_of(table, 1)[0] == first and len({*pages_of(table, 1), second, third}) == 4
    table.unpin()


def test_a_prompt_that_ends_with_a_page_is_shared_without_a_copy() -> None:
    table, prompt = make(), tuple(range(8))
    table.start(0, 9, prompt)
    table.keep_prompt(0, prompt)
    assert table.start(1, 9, prompt) == []
    assert pages_of(table, 1)[:2] == pages_of(table, 0)[:2]
    assert pages_of(table, 1)[2] != pages_of(table, 0)[2]


def test_another_shard_copies_the_whole_prompt_from_the_first() -> None:
    table, prompt = make(shards=2), tuple(range(6))
    table.start(0, 8, prompt)
    table.keep_prompt(0, prompt)
    copies = table.start(2, 8, prompt)
    pairs = zip(pages_of(table, 0), pages_of(table, 2), (4, 2), strict=True)
    assert copies == [PageCopy(*pair) for pair in pairs]
    assert min(pages_of(table, 2)) >= 8


def test_ended_rows_go_first_and_then_prompts_the_oldest_first() -> None:
    table = make(pages=6)
    for slot, prompt in enumerate(((1,) * 4, (2,) * 4)):
        table.start(slot, 8, prompt)
        table.keep_prompt(slot, prompt)
    table.retire([0])
    assert table.start(2, 12, (3,) * 4) == []  # takes the ended row's second page
    assert table.has_prompt((1,) * 4) and table.num_used == 6
    assert table.start(3, 4, (4,) * 3) == []
    assert not table.has_prompt((1,) * 4) and table.has_prompt((2,) * 4)
    assert table.start(0, 4, ()) is None and pages_of(table, 0) == []


def test_what_is_yet_to_be_copied_is_not_given_away() -> None:
    table, prompt = make(pages=4), tuple(range(6))
    table.start(0, 8, prompt)
    table.keep_prompt(0, prompt)
    (copy,) = table.start(1, 8, prompt) or []
    table.release(0)
    table.forget_prompts()
    assert table.start(2, 4, ()) == [] and copy.source not in pages_of(table, 2)
    assert table.start(3, 4, ()) is None
    table.unpin()
    assert table.start(3, 4, ()) == [] and pages_of(table, 3) == [copy.source]


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_pages_are_one_owners_or_a_prompts(seed: int, shards: int) -> None:
    rng, table = random.Random(seed), make(slots=6, shards=shards, pages=9)
    prompts = [(number,) * rng.randint(1, 11) for number in range(3)]
    held = [()] * 6
    for _ in range(400):
        slot = rng.randrange(6)
        match rng.randrange(5):
            case 0 | 1:
                prompt = rng.choice(prompts)
                size = rng.randint(len(prompt) + 1, 16)
                started = table.start(slot, size, prompt, spare=rng.randrange(2))
                if started is not None:
                    assert all(each.target in pages_of(table, slot) for each in started)
                    table.keep_prompt(slot, prompt)
                held[slot] = prompt if started is not None else ()
            case 2:
                before = pages_of(table, slot)
                if before and table.grow(slot, rng.randint(1, 16)):
                    assert pages_of(table, slot)[: len(before)] == before
            case 3:
                table.retire([slot])
            case _:
                table.release(slot)
                held[slot] = ()
        if rng.random() < 0.3:
            table.unpin()
        rows = [pages_of(table, slot) for slot in range(6)]
        held = [prompt if row else () for prompt, row in zip(held, rows, strict=True)]
        for one in range(6):
            low = table.shard_of(one) * 9
            assert all(low <= page < low + 9 for page in rows[one])
            for other in range(one):
                common = set(rows[one]) & set(rows[other])
                full = len(held[one]) // WIDTH
                assert common <= set(rows[one][:full]), "only full pages of a prompt are shared"
                assert not common or held[one] == held[other]
    table.unpin()
    table.forget_prompts()
    for slot in range(6):
        table.release(slot)
    assert table.num_used == 0
    assert (np.asarray(table.table) == table.num_pages).all()
