# SPDX-License-Identifier: Apache-2.0
"""Actions, streams, triplets and reasons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chef_task.records import Reason
from chef_task.spaces import CAMERAS, STREAMS, check_action, streams_of
from chef_task.triplets import TRIPLETS, triplet


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=5, max_size=5))
def test_actions_are_clipped(values):
    action = check_action(values)
    assert action.dtype == np.float32 and np.all(np.abs(action) <= 1)
    inside = np.abs(np.float32(values)) <= 1
    np.testing.assert_array_equal(action[inside], np.float32(values)[inside])


@pytest.mark.parametrize('bad', [
    [0] * 4, [0] * 6, [[0] * 5], 0, [0, 0, 0, 0, float('nan')], [0, float('inf'), 0, 0, 0]])
def test_other_actions_are_refused(bad):
    with pytest.raises(ValueError, match='action'):
        check_action(bad)


def test_streams_of_an_observation():
    assert set(streams_of('pixels')) == set(STREAMS)
    assert set(streams_of('state')) == set(STREAMS) - set(CAMERAS)
    with pytest.raises(ValueError, match='both'):
        streams_of('both')


def test_triplets():
    assert sorted(TRIPLETS) == [1, 2, 3, 4, 5]
    for number in (0, 6, -1):
        with pytest.raises(ValueError, match=str(number)):
            triplet(number)


def test_reasons():
    assert Reason.of('stale_sensor:wrench') is Reason.STALE_SENSOR
    assert [r for r in Reason if r.terminates] == [Reason.FORCE_LIMIT]
    assert not Reason.TIME_LIMIT.is_fault and Reason.RECORDER_LOST.is_fault
    with pytest.raises(ValueError):
        Reason.of('boredom')
