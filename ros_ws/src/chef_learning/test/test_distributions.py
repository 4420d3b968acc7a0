# SPDX-License-Identifier: Apache-2.0
"""The policy's distribution against torch's own."""

import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from chef_learning.distributions import (PolicyParameters, categorical_kl, draw, gaussian_kl, log_prob, sample)

K, B, N, C = 2, 3, 7, 4


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return PolicyParameters(torch.randn(K, B, C), torch.rand(K, B, C) + 0.1, torch.randn(K, B, 2))


def noise(samples=N, seed=0):
    return draw(K, B, samples, C, torch.Generator().manual_seed(seed))


def test_kl_equals_torchs():
    torch.manual_seed(0)
    p, q = ((torch.randn(2, 3), torch.rand(2, 3) + 0.1) for _ in range(2))
    torch.testing.assert_close(gaussian_kl(*p, *q), kl_divergence(Normal(*p), Normal(*q)))
    a, b = torch.randn(5, 2), torch.randn(5, 2)
    expected = kl_divergence(Categorical(logits=a), Categorical(logits=b))
    torch.testing.assert_close(categorical_kl(a, b), expected)


@pytest.mark.parametrize('hybrid', [False, True])
def test_log_probability_equals_torchs(policy, hybrid):
    if not hybrid:
        policy = policy._replace(logits=None)
    actions = sample(policy, noise())
    assert actions.shape == (K, B, N, C + hybrid)
    expected = Independent(Normal(policy.mean[:, :, None], policy.std[:, :, None]), 1).log_prob(actions[..., :C])
    if hybrid:
        expected = expected + Categorical(logits=policy.logits[:, :, None]).log_prob((actions[..., -1] > 0).long())
    torch.testing.assert_close(log_prob(actions, policy), expected)


def test_samples_have_the_policys_moments(policy):
    actions = sample(policy, noise(20_000))
    torch.testing.assert_close(actions[..., :C].mean(2), policy.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(actions[..., :C].std(2), policy.std, atol=0.05, rtol=0)
    assert set(actions[..., -1].unique().tolist()) == {-1.0, 1.0}
    closing = torch.softmax(policy.logits, -1)[..., 1]
    torch.testing.assert_close((actions[..., -1] > 0).float().mean(2), closing, atol=0.02, rtol=0)


def test_parts_of_a_batch_get_the_noise_of_the_whole(policy):
    whole = noise()
    part = draw(K, B, N, C, torch.Generator().manual_seed(0), slice(1, 3))
    assert torch.equal(whole.normal[:, 1:3], part.normal) and torch.equal(whole.uniform[:, 1:3], part.uniform)
