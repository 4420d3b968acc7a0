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


def test_a_force_that_cannot_be_measured_is_no_limit():
    with pytest.raises(ValueError, match='force_range_n must exceed force_n'):
        Limits(force_n=1000.0)


def test_tightened_limits_are_tighter():
    limits = Limits()
    tight = limits.tightened(12.5, 0.5)
    assert tight.force_n == 12.5 and tight.joint_velocity_rad_s[0] == limits.joint_velocity_rad_s[0] / 2
    assert tight.is_tighter_than(limits) and not limits.is_tighter_than(tight)
    assert limits.tightened(20.0, 1.0) == limits and limits.is_tighter_than(limits)


@pytest.mark.parametrize('force_n, speed_scale', [
    (20.1, 1.0), (0.0, 1.0), (-1.0, 1.0), (float('nan'), 1.0), (20.0, 1.1), (20.0, 0.0), (20.0, float('nan'))])
def test_looser_is_refused(force_n, speed_scale):
    with pytest.raises(ValueError, match='can only be lowered'):
        Limits().tightened(force_n, speed_scale)


@pytest.mark.parametrize('looser', [
    {'force_n': 21}, {'command_age_s': 0.2}, {'policy_deadline_s': 0.05}, {'wrist_range_rad': 2.0},
    {'joint_velocity_scale': 0.96}, {'joint_margin_rad': 0.0}, {'joint_overrun_rad': 0.1}, {'joint_overspeed': 2.0},
    {'force_range_n': 2000.0}, {'torque_range_nm': 200.0}, {'sensor_range': {'objects.position': 4.0}},
    {'sensor_age_s': {'wrench': 0.2}},
    {'joint_velocity_rad_s': [2.0, 1.328, 1.957, 1.957, 3.485, 3.485, 4.545]},
    {'workspace_size_m': [0.26, 0.25, 0.2]}, {'workspace_centre_m': [0.61, 0.0, 0.1698]},
    {'reset_size_m': [0.28, 0.34, 0.5]}])
def test_tighter_means_in_every_respect(looser):
    assert not Limits.from_dict(looser).is_tighter_than(Limits())


def test_a_smaller_box_inside_is_tighter():
    assert Limits(workspace_size_m=(0.2, 0.2, 0.1), workspace_centre_m=(0.62, 0.0, 0.15)).is_tighter_than(Limits())
