# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chef_task.limits import Limits
from chef_task.spaces import STREAMS


def test_the_benchmark_values_hold_by_default():
    limits = Limits()
    assert limits.force_n == 20.0
    assert limits.workspace_size_m == (0.25, 0.25, 0.2)
    assert set(limits.sensor_age_s) == set(STREAMS)


def test_to_dict_and_back_through_json():
    limits = Limits.from_dict({'force_n': 15, 'sensor_age_s': {'wrench': 0.05}})
    assert limits.sensor_age_s['wrench'] == 0.05 and limits.sensor_age_s['joints'] == 0.1
    assert Limits.from_dict(json.loads(json.dumps(limits.to_dict()))) == limits


@pytest.mark.parametrize('values, word', [
    ({'force': 3}, 'force'),
    ({'force_n': 0}, 'force_n'),
    ({'force_n': float('nan')}, 'force_n'),
    ({'force_n': float('inf')}, 'force_n'),
    ({'force_n': '20'}, 'force_n'),
    ({'sensor_age_s': {'lidar': 1}}, 'lidar'),
    ({'sensor_age_s': {'wrench': -1}}, 'wrench'),
    ({'sensor_age_s': 0.1}, 'sensor_age_s'),
    ({'workspace_size_m': [1, 2]}, 'workspace_size_m'),
    ({'workspace_size_m': [1, 2, 0]}, 'workspace_size_m'),
    ({'joint_velocity_rad_s': 3}, 'joint_velocity_rad_s'),
    ({'joint_margin_rad': -0.1}, 'joint_margin_rad'),
])
def test_bad_values_are_refused_by_name(values, word):
    with pytest.raises(ValueError, match=word):
        Limits.from_dict(values)


@given(st.sampled_from(['force_n', 'command_age_s', 'policy_deadline_s', 'wrist_range_rad']),
       st.floats(max_value=0) | st.just(float('nan')) | st.none() | st.text(max_size=3))
def test_nothing_but_positive_numbers(name, value):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})
