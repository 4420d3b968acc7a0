# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from chef_task import geometry
from chef_task.bag import Episode
from chef_task.observation import FIELDS, History, features, fields_of, stacked_indices


@pytest.fixture(scope='module', params=['pixels', 'state'])
def steps(request, pixel_bag, state_bag):
    """(observation, features of every step) of an episode."""
    episode = Episode.open(pixel_bag if request.param == 'pixels' else state_bag)
    return request.param, [f for _, f in episode.features()]


def test_features_have_the_declared_shapes(steps):
    observation, episode = steps
    for step in episode:
        for key, field in fields_of(observation).items():
            assert step[key].shape == field.shape and step[key].dtype == field.dtype, key
        assert np.all(np.isfinite(np.concatenate([v.ravel() for k, v in step.items() if 'image' not in k])))


@pytest.mark.parametrize('haptics', [True, False])
def test_history_stacks_what_stacked_indices_stacks(steps, haptics):
    """The policy stacks as it goes, replay stacks at sampling: the bits must be the same."""
    observation, episode = steps
    history = History(observation, haptics)
    for _ in range(2):                      # the second time after a reset
        history.reset()
        live = [history.push(step) for step in episode]
        assert set(live[0]) == set(fields_of(observation, haptics))
        for key, field in fields_of(observation, haptics).items():
            stored = np.stack([step[key] for step in episode])
            sampled = stored[stacked_indices(len(episode), field.history)]
            if field.group == 'images':
                sampled = sampled[:, 0]
            np.testing.assert_array_equal(np.stack([x[key] for x in live]), sampled, err_msg=key)
            assert live[0][key].dtype == sampled.dtype


def test_stacked_indices_by_hand():
    np.testing.assert_array_equal(stacked_indices(4, 3), [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]])
    np.testing.assert_array_equal(stacked_indices(2, 1), [[0], [1]])


def test_groups():
    assert not any(f.group == 'objects' for f in fields_of('pixels').values())
    assert not any(f.group == 'images' for f in fields_of('state').values())
    assert set(fields_of('state')) - set(fields_of('state', haptics=False)) == {
        'joint_torque', 'wrist_force', 'wrist_torque'}
    with pytest.raises(ValueError, match='sound'):
        fields_of('sound')


def test_every_feature_has_its_source(pixel_bag):
    episode = Episode.open(pixel_bag)
    step, samples = list(episode.iterate())[7]
    f = features(samples, step.last_action)
    assert set(f) == set(FIELDS)
    np.testing.assert_array_equal(f['joint_angle'], np.float32(samples['joints']['position']))
    np.testing.assert_array_equal(f['wrist_force'], np.float32(samples['wrench']['force']))
    np.testing.assert_array_equal(f['last_action'], step.last_action)
    np.testing.assert_array_equal(f['gripper_position'], np.float32(samples['gripper']['position'] / 255))
    assert f['image_basket_front_left'] is samples['basket_front_left']['image']
    np.testing.assert_array_equal(f['green_pose'], np.float32(samples['objects']['poses'][1]))


def test_rewards_see_the_pinch_point():
    from chef_task.observation import PINCH_FROM_TCP, reward_inputs

    tcp = np.array([0.6, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0])
    x = reward_inputs({
        'objects': {'poses': np.tile(geometry.IDENTITY_POSE, (3, 1))}, 'tcp_pose': {'pose': tcp},
        'gripper': {'position': np.array([3.0]), 'grasp': np.array([1.0])}})
    np.testing.assert_allclose(x.pinch, geometry.compose(tcp, PINCH_FROM_TCP)[:3])
    assert x.gripper == 3.0 and x.grasp == 1.0
