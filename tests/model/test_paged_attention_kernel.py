"""The TPU kernel, interpreted, against the loop over pages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from r1ci_jax.model import paged_attention, paged_attention_kernel


@pytest.mark.parametrize("pages_per_row", [3, 16])
def test_the_kernel_equals_the_loop(pages_per_row: int) -> None:
    rows, query_heads, kv_heads, width, page = 4, 8, 2, 128, 16
    num_pages = rows * pages_per_row
    keys = jax.random.split(jax.random.key(0), 3)
    q_RTNH = jax.random.normal(keys[0], (rows, 1, query_heads, width), jnp.bfloat16)
    (keys_KUWH,), (values_KUWH,) = pair = tuple(
        (jax.random.normal(key, (kv_heads, num_pages, page, width), jnp.bfloat16),)
        for key in keys[1:]
    )
    rng = np.random.default_rng(0)
    pages_RJ = rng.permutation(num_pages).reshape(rows, pages_per_row).astype(np.int32)
    capacity = pages_per_row * page
    positions_RT = np.array([[0], [page], [capacity - 1], [capacity]], np.int32)
    pages_RJ[0, 1:] = num_pages  # pages that the row does not own yet
    arguments = (q_RTNH, pair, jnp.asarray(positions_RT), jnp.asarray(pages_RJ))
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), (q_RTNH, pair))
    expected = paged_attention._attend(*exact, *arguments[2:])
    with pltpu.force_tpu_interpret_mode():
        found = paged_attention_kernel.attend(
            q_RTNH[:, 0], keys_KUWH, values_KUWH, arguments[2][:, 0], arguments[3]
        )
    assert found.dtype == jnp.bfloat16
    found_RNH = np.asarray(found.astype(jnp.float32))
    np.testing.assert_allclose(found_RNH[:3], expected[:3, 0], atol=0.01, rtol=0.01)
    assert np.isfinite(found_RNH).all()
