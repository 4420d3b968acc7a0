# SPDX-License-Identifier: Apache-2.0
"""Updates as a CUDA graph are those without one. Needs a GPU."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import small_config
from test_learner import random_batch

from chef_learning.capture import PLAIN
from chef_learning.learner import Learner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')


def learner(**changes):
    return Learner(small_config(compile='never', **changes), device='cuda')


@pytest.mark.parametrize('algorithm', ['mpo', 'crr_exp', 'bc'])
def test_captured_updates_are_those_of_plain_ones(rng, algorithm):
    batches = [random_batch(rng) for _ in range(8)]
    plain, captured = learner(algorithm=algorithm, capture=False), learner(algorithm=algorithm)
    for batch in batches:
        expected, got = plain.step(batch), captured.step(batch)
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert captured._captured.recorded
    for a, b in zip(plain.actor.parameters(), captured.actor.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_captured_update_that_is_not_finite_changes_nothing(rng):
    subject, batch = learner(), random_batch(rng)
    for _ in range(PLAIN + 2):
        subject.step(batch)
    before = [p.detach().clone() for p in subject.critic.parameters()]
    bad = dataclasses.replace(batch, returns=np.full_like(batch.returns, np.nan))
    with pytest.raises(FloatingPointError, match='the critic loss is not finite'):
        subject.step(bad)
        subject.step(batch)     # begun before the other is known to be bad
    assert subject.updates == PLAIN + 2
    assert all(torch.equal(a, b) for a, b in zip(before, subject.critic.parameters()))
    assert np.isfinite(list(subject.step(batch).values())).all()


def test_a_restored_learner_goes_on_as_it_would_have(rng):
    batches = [random_batch(rng) for _ in range(PLAIN + 6)]
    first, other = learner(), learner()
    for batch in batches[:PLAIN + 3]:
        first.step(batch)
        other.step(batches[0])
    state = {k: v for k, v in first.state().items()}
    other.restore(_on_cpu(state))
    for batch in batches[PLAIN + 3:]:
        assert other.step(batch) == pytest.approx(first.step(batch), rel=1e-3, abs=1e-5)


def test_another_size_of_batch_is_recorded_anew(rng):
    subject, batch = learner(), random_batch(rng)
    half = _half(batch)
    for b in [batch] * (PLAIN + 2) + [half] * (PLAIN + 2) + [batch] * (PLAIN + 2):
        assert np.isfinite(list(subject.step(b).values())).all()
    assert subject._captured.recorded


def _half(value):
    if isinstance(value, dict):
        return {k: _half(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value[:len(value) // 2]
    return type(value)(*(_half(getattr(value, f.name)) for f in dataclasses.fields(value)))


def _on_cpu(value):
    if isinstance(value, dict):
        return {k: _on_cpu(v) for k, v in value.items()}
    return value.cpu().clone() if isinstance(value, torch.Tensor) else value
