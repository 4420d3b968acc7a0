# SPDX-License-Identifier: Apache-2.0
"""A batch in one piece of memory is the batch."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from chef_learning.packed import ALIGN, Place, assemble, pack, parts, views
from chef_learning.replay import Batch

KINDS = st.sampled_from(['uint8', 'float32', 'float64', 'int64'])
ARRAYS = st.tuples(KINDS, st.lists(st.integers(0, 5), min_size=1, max_size=3)).map(
    lambda of: np.random.default_rng(0).integers(0, 200, of[1]).astype(of[0]))


@given(st.dictionaries(st.sampled_from(['a', 'b_c', 'd']), ARRAYS, min_size=1), ARRAYS, ARRAYS)
def test_what_is_packed_is_seen_again(features, action, returns):
    batch = Batch(features, action, returns, action[:1], features)
    whole, layout = pack(batch)
    assert all(offset % ALIGN == 0 for offset, _, _ in layout.values())
    for path, tensor in parts(views(torch.from_numpy(whole), layout)).items():
        expected = parts(batch)[path]
        assert tensor.numpy().dtype == expected.dtype
        np.testing.assert_array_equal(tensor.numpy(), expected)
    again = assemble(parts(batch))
    assert list(again.observation) == list(features) and again.action is action


def test_what_lies_there_already_is_not_copied():
    place = Place(np.zeros(1024, np.uint8))
    inside, outside = place.empty((3, 2), np.float32), np.arange(4.0)
    layout = place.describe({'inside': inside, 'outside': outside, 'turned': inside.T})
    assert layout['inside'] == (0, '<f4', (3, 2)) and layout['outside'][0] == ALIGN
    assert place.used == 3 * ALIGN      # a view that is not contiguous is copied as well
