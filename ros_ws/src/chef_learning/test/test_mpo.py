# SPDX-License-Identifier: Apache-2.0
"""MPO's losses against plain NumPy in float64, and their gradients against finite differences."""

import numpy as np
import pytest
import torch

from chef_learning.config import MPOConfig
from chef_learning.mpo import Duals, gaussian_kl, mpo_loss, positive, sample_actions

K, B, N, A = 3, 4, 6, 5


def softplus(x):
    return np.logaddexp(x, 0.0)


def reference(mean, std, target_mean, target_std, actions, q, duals, config):
    """One task at a time, in the words of the papers. Returns (policy loss, dual loss) of each task."""
    policy, dual = [], []
    for k in range(K):
        weights, loss = np.zeros((B, N)), 0.0
        cost = np.linalg.norm(actions[k] - np.clip(actions[k], -1, 1), axis=-1)
        for values, log_eta, epsilon in ((q[k], duals['log_temperature'][k], config.epsilon),
                                         (-cost, duals['log_penalty_temperature'][k],
                                          config.epsilon_penalty)):
            eta = softplus(log_eta) + 1e-8
            e = np.exp(values / eta - (values / eta).max(-1, keepdims=True))
            weights += e / e.sum(-1, keepdims=True)
            loss += eta * (epsilon + np.mean(np.log(np.exp(values / eta).mean(-1))))

        def log_probability(m, s):
            d = (actions[k] - m[k][:, None]) / s[k][:, None]
            return np.sum(-0.5 * d**2 - np.log(s[k])[:, None] - 0.5 * np.log(2 * np.pi), -1)
        likelihood = log_probability(mean, target_std) + log_probability(target_mean, std)
        p = -np.mean(np.sum(weights * likelihood, 1))
        for d in range(A):
            kl_mean = np.mean((mean[k, :, d] - target_mean[k, :, d]) ** 2 / (2 * target_std[k, :, d] ** 2))
            r = target_std[k, :, d] / std[k, :, d]
            kl_std = np.mean(np.log(1 / r) + 0.5 * r**2 - 0.5)
            for kl, name, epsilon in ((kl_mean, 'log_alpha_mean', config.epsilon_mean),
                                      (kl_std, 'log_alpha_std', config.epsilon_std)):
                alpha = softplus(duals[name][k, d]) + 1e-8
                p += alpha * kl
                loss += alpha * (epsilon - kl)
        policy.append(p)
        dual.append(loss)
    return np.mean(policy), np.mean(dual)


@pytest.fixture
def inputs(rng):
    target_mean, target_std = rng.uniform(-0.9, 0.9, (K, B, A)), rng.uniform(0.2, 0.8, (K, B, A))
    return {
        'mean': target_mean + rng.normal(0, 0.1, (K, B, A)),
        'std': target_std * rng.uniform(0.8, 1.2, (K, B, A)),
        'target_mean': target_mean, 'target_std': target_std,
        'actions': target_mean[:, :, None] + target_std[:, :, None] * rng.normal(size=(K, B, N, A)),
        'q_values': rng.uniform(0, 10, (K, B, N)),
    }


@pytest.fixture
def duals(rng):
    out = Duals(MPOConfig(), K, A).double()
    with torch.no_grad():
        for p in out.parameters():
            p.copy_(torch.tensor(rng.uniform(-1, 3, p.shape)))
    return out


def test_equals_the_reference(inputs, duals):
    config = MPOConfig()
    policy, dual, _ = mpo_loss(**{k: torch.tensor(v) for k, v in inputs.items()}, duals=duals, config=config)
    values = {n: p.detach().numpy() for n, p in duals.named_parameters()}
    names = ('mean', 'std', 'target_mean', 'target_std', 'actions', 'q_values')
    expected = reference(*(inputs[n] for n in names), values, config)
    np.testing.assert_allclose((policy.item(), dual.item()), expected, rtol=1e-9)


def test_gradients_are_those_of_finite_differences(inputs, duals):
    t = {k: torch.tensor(v) for k, v in inputs.items()}
    mean, std = t['mean'].requires_grad_(), t['std'].requires_grad_()

    def policy(m, s):
        return mpo_loss(m, s, t['target_mean'], t['target_std'], t['actions'], t['q_values'], duals,
                        MPOConfig())[0]

    assert torch.autograd.gradcheck(policy, (mean, std))
    names = [n for n, _ in duals.named_parameters()]

    def dual(*values):
        for name, value in zip(names, values):
            delattr(duals, name)
            setattr(duals, name, value)
        return mpo_loss(mean.detach(), std.detach(), t['target_mean'], t['target_std'], t['actions'],
                        t['q_values'], duals, MPOConfig())[1]

    parameters = [p.detach().clone().requires_grad_() for p in duals.parameters()]
    assert torch.autograd.gradcheck(dual, parameters)


def test_losses_train_what_they_should(inputs, duals):
    t = {k: torch.tensor(v, requires_grad=True) for k, v in inputs.items()}
    policy, dual, _ = mpo_loss(**t, duals=duals, config=MPOConfig())
    policy.backward(retain_graph=True)
    assert all(p.grad is None for p in duals.parameters())
    assert t['q_values'].grad is None
    before = t['mean'].grad.clone()
    dual.backward()
    assert all(p.grad is not None for p in duals.parameters())
    assert torch.equal(before, t['mean'].grad)


def test_kl_equals_torchs(rng):
    def normal():
        return torch.tensor(rng.normal(size=(2, 3))), torch.tensor(rng.uniform(0.1, 2, (2, 3)))
    p, q = normal(), normal()
    normal_of = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal_of(*p), normal_of(*q))
    torch.testing.assert_close(gaussian_kl(*p, *q), expected)


def test_improves_towards_the_better_actions():
    """With Q falling with the distance from a point the mean moves there, under its KL limit."""
    torch.manual_seed(0)
    config = MPOConfig(epsilon_mean=1e-2, epsilon_std=1e-4)
    goal = torch.tensor([0.5, -0.5, 0.0, 0.3, -0.2])
    mean, log_std = torch.zeros(1, 1, A, requires_grad=True), torch.zeros(1, 1, A, requires_grad=True)
    duals = Duals(config, 1, A)
    policy, dual = torch.optim.Adam([mean, log_std], 1e-2), torch.optim.Adam(duals.parameters(), 1e-1)
    for i in range(600):
        if i % 10 == 0:
            target_mean, target_std = mean.detach().clone(), log_std.detach().exp() * 0.5
        actions = sample_actions(target_mean, target_std, 32)
        q = -10 * (actions - goal).abs().sum(-1)
        losses = mpo_loss(mean, log_std.exp() * 0.5, target_mean, target_std, actions, q, duals, config)
        for optimizer, loss in ((policy, losses[0]), (dual, losses[1])):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        duals.clamp()
    assert (mean[0, 0] - goal).abs().max() < 0.15


def test_duals_stay_positive_and_are_clamped():
    duals = Duals(MPOConfig(initial_log_temperature=-100.0), 2, A)
    assert (positive(duals.log_temperature) > 0).all()
    duals.clamp()
    assert duals.log_temperature.min().item() == -18.0
