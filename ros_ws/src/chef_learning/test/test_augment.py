# SPDX-License-Identifier: Apache-2.0
"""Random shifts: as NumPy pads and cuts, in the learner only, and the same ones after a resumption."""

import numpy as np
import pytest
import torch
from conftest import SMALL, small_config
from hypothesis import given, settings
from hypothesis import strategies as st
from test_learner import random_batch

from chef_learning import checkpoint
from chef_learning.augment import draw_offsets, shift
from chef_learning.learner import Learner


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_equals_padding_and_cutting(height, width, pad, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, height, width, 2), np.uint8)
    offsets = rng.integers(0, 2 * pad + 1, (3, 2))
    out = shift(torch.from_numpy(images), torch.from_numpy(offsets), pad).numpy()
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), 'edge')
    for i, (y, x) in enumerate(offsets):
        assert np.array_equal(out[i], padded[i, y:y + height, x:x + width])
    assert out.dtype == np.uint8


def test_offsets_cover_all_shifts_for_every_image_and_camera():
    offsets = draw_offsets(3, 1000, 4, torch.Generator().manual_seed(0))
    assert offsets.shape == (3, 1000, 2)
    for camera in offsets:
        for axis in (0, 1):
            assert set(camera[:, axis].tolist()) == set(range(9))
    assert not torch.equal(offsets[0], offsets[1])


def test_two_halves_of_a_batch_are_shifted_as_the_whole():
    parts = [draw_offsets(2, 8, 4, torch.Generator().manual_seed(1), part) for part in (slice(0, 4), slice(4, 8))]
    assert torch.equal(torch.cat(parts, 1), draw_offsets(2, 8, 4, torch.Generator().manual_seed(1)))


def config_of(pixels):
    return small_config('pixels', network={**SMALL['network'], 'shift': pixels})


def test_the_learner_shifts_what_the_networks_see_and_no_more(rng, monkeypatch):
    learner, batch = Learner(config_of(4)), random_batch(rng, observation='pixels')
    seen = []
    learner.critic.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    learner.step(batch)
    for key, value in seen[0].items():
        same = np.array_equal(value.numpy(), batch.observation[key])
        assert same == (not key.startswith('image_')), key
    plain = Learner(config_of(0))
    plain.critic.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    plain.step(batch)
    assert all(np.array_equal(v.numpy(), batch.observation[k]) for k, v in seen[-1].items())


def test_acting_does_not_shift(rng):
    batch = random_batch(rng, observation='pixels')
    observation = {k: torch.from_numpy(v) for k, v in batch.observation.items()}
    a, b = (Learner(config_of(pixels)).actor(observation).mean for pixels in (0, 4))
    assert torch.equal(a, b)


def test_resumes_with_the_same_shifts(rng, tmp_path):
    a, b = Learner(config_of(4), seed=1), Learner(config_of(4), seed=2)
    batches = [random_batch(rng, observation='pixels') for _ in range(4)]
    a.step(batches[0])
    checkpoint.save(a, tmp_path)
    checkpoint.resume(b, tmp_path)
    for batch in batches[1:]:
        assert a.step(batch) == b.step(batch)


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_a_checkpoint_does_not_care_for_shifts_nor_for_settings_it_did_not_know(rng, tmp_path, observation):
    import json
    learner = Learner(small_config(observation))
    state = learner.state()
    values = json.loads(state['config'])
    del values['network']['shift']
    other = Learner(small_config(observation, network={**SMALL['network'], 'shift': 4}))
    other.restore({**state, 'config': json.dumps(values)})
    with pytest.raises(ValueError, match='another network'):
        Learner(small_config(observation, network={**SMALL['network'], 'torso': [5]})).restore(state)
