# SPDX-License-Identifier: Apache-2.0
"""Regression on the data's actions against plain NumPy in float64, and finite differences."""

import numpy as np
import pytest
import torch

from chef_learning.distributions import PolicyParameters
from chef_learning.regression import regression_loss, regression_weights

K, B, N, A = 2, 3, 4, 5


def test_weights_equal_the_reference(rng):
    q, own = rng.uniform(0, 10, (K, B)), rng.uniform(0, 10, (K, B, N))
    exponential = regression_weights(torch.tensor(q), torch.tensor(own), 'crr_exp', 2.0, 20.0)
    binary = regression_weights(torch.tensor(q), torch.tensor(own), 'crr_binary', 2.0, 20.0)
    for k in range(K):
        for b in range(B):
            advantage = q[k, b] - sum(own[k, b]) / N
            assert exponential[k, b].item() == pytest.approx(min(np.exp(advantage / 2.0), 20.0), rel=1e-12)
            assert binary[k, b].item() == (1.0 if advantage > 0 else 0.0)


@pytest.mark.parametrize('hybrid', [False, True])
def test_loss_equals_the_reference_and_its_gradient_finite_differences(rng, hybrid):
    size = A - hybrid
    mean, std = rng.normal(size=(K, B, size)), rng.uniform(0.2, 1.0, (K, B, size))
    logits, actions, weights = rng.normal(size=(K, B, 2)), rng.uniform(-1, 1, (B, A)), rng.uniform(0, 5, (K, B))
    expected = np.zeros(K)
    for k in range(K):
        for b in range(B):
            d = (actions[b, :size] - mean[k, b]) / std[k, b]
            log_p = np.sum(-0.5 * d**2 - np.log(std[k, b]) - 0.5 * np.log(2 * np.pi))
            if hybrid:
                log_p += logits[k, b, int(actions[b, -1] > 0)] - np.logaddexp(*logits[k, b])
            expected[k] -= weights[k, b] * log_p / B
    parameters = [torch.tensor(p, requires_grad=True) for p in (mean, std, *([logits] if hybrid else []))]

    def loss(*p):
        return regression_loss(PolicyParameters(*p), torch.tensor(actions), torch.tensor(weights))

    np.testing.assert_allclose(loss(*parameters).detach().numpy(), expected, rtol=1e-9)
    assert torch.autograd.gradcheck(loss, parameters)
