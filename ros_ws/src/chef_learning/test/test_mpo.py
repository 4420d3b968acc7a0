# SPDX-License-Identifier: Apache-2.0
"""MPO's losses against plain NumPy in float64, and their gradients against finite differences."""

import numpy as np
import pytest
import torch

from chef_learning.config import MPOConfig
from chef_learning.distributions import Noise, PolicyParameters, sample
from chef_learning.mpo import Duals, mpo_loss as loss_of, positive

K, B, N, A = 3, 4, 6, 5
BOTH = MPOConfig(gripper_step='both')


def mpo_loss(policy, target, actions, q, duals, config):
    """With the values of both classes of the gripper where `q` holds them too."""
    return loss_of(policy, target, actions, q[..., :N], duals, config, q[..., N:] if q.shape[-1] == N + 2 else None)


def softplus(x):
    return np.logaddexp(x, 0.0)


def log_softmax(x):
    return x - np.logaddexp.reduce(x, -1, keepdims=True)


def reference(policy, target, actions, q, duals, config):
    """One task at a time, in the words of the papers. Returns (policy loss, dual loss) of each task."""
    losses, dual = [], []
    q, gripper_values = q[..., :N], q[..., N:]
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

        gaussians = policy['mean'].shape[-1]

        def log_probability(m, s):
            d = (actions[k][..., :gaussians] - m[k][:, None]) / s[k][:, None]
            return np.sum(-0.5 * d**2 - np.log(s[k])[:, None] - 0.5 * np.log(2 * np.pi), -1)
        likelihood = (log_probability(policy['mean'], target['std'])
                      + log_probability(target['mean'], policy['std']))
        p = 0.0
        if 'logits' in policy:
            for b in range(B):
                for n in range(N if not gripper_values.size else 0):
                    chosen = 1 if actions[k, b, n, -1] > 0 else 0
                    likelihood[b, n] += log_softmax(policy['logits'][k, b])[chosen]
            if gripper_values.size:
                eta = softplus(duals['log_gripper_temperature'][k]) + 1e-8
                prior, terms = np.exp(log_softmax(target['logits'][k])), []
                for b in range(B):
                    e = prior[b] * np.exp(gripper_values[k, b] / eta)
                    terms.append(np.log(e.sum()))
                    p -= np.sum(e / e.sum() * log_softmax(policy['logits'][k, b])) / B
                loss += eta * (config.epsilon_gripper_step + np.mean(terms))
            was, now = log_softmax(target['logits'][k]), log_softmax(policy['logits'][k])
            kl = np.mean(np.sum(np.exp(was) * (was - now), -1))
            alpha = softplus(duals['log_alpha_gripper'][k]) + 1e-8
            p += alpha * kl
            loss += alpha * (config.epsilon_gripper - kl)
        p -= np.mean(np.sum(weights * likelihood, 1))
        for d in range(gaussians):
            kl_mean = np.mean((policy['mean'][k, :, d] - target['mean'][k, :, d]) ** 2
                              / (2 * target['std'][k, :, d] ** 2))
            r = target['std'][k, :, d] / policy['std'][k, :, d]
            kl_std = np.mean(np.log(1 / r) + 0.5 * r**2 - 0.5)
            for kl, name, epsilon in ((kl_mean, 'log_alpha_mean', config.epsilon_mean),
                                      (kl_std, 'log_alpha_std', config.epsilon_std)):
                alpha = softplus(duals[name][k, d]) + 1e-8
                p += alpha * kl
                loss += alpha * (epsilon - kl)
        losses.append(p)
        dual.append(loss)
    return np.mean(losses), np.mean(dual)


@pytest.fixture(params=['gaussian', 'hybrid', 'both'])
def kind(request):
    return request.param


@pytest.fixture
def hybrid(kind):
    return kind != 'gaussian'


@pytest.fixture
def config(kind):
    return BOTH if kind == 'both' else MPOConfig()


@pytest.fixture
def inputs(rng, hybrid, kind):
    """Policy, target, actions and their values, NumPy float64."""
    size = A - hybrid
    target = {'mean': rng.uniform(-0.9, 0.9, (K, B, size)), 'std': rng.uniform(0.2, 0.8, (K, B, size))}
    policy = {'mean': target['mean'] + rng.normal(0, 0.1, (K, B, size)),
              'std': target['std'] * rng.uniform(0.8, 1.2, (K, B, size))}
    noise = rng.normal(size=(K, B, N, size))
    actions = target['mean'][:, :, None] + target['std'][:, :, None] * noise
    if hybrid:
        target['logits'] = rng.normal(size=(K, B, 2))
        policy['logits'] = target['logits'] + rng.normal(0, 0.3, (K, B, 2))
        actions = np.concatenate([actions, rng.choice([-1.0, 1.0], (K, B, N, 1))], -1)
    return policy, target, actions, rng.uniform(0, 10, (K, B, N + 2 * (kind == 'both')))


@pytest.fixture
def duals(rng, hybrid, config):
    out = Duals(config, K, A - hybrid, hybrid).double()
    with torch.no_grad():
        for p in out.parameters():
            p.copy_(torch.tensor(rng.uniform(-1, 3, p.shape)))
    return out


def tensors(inputs, grad=False):
    policy, target, actions, q = inputs
    return (PolicyParameters(**{k: torch.tensor(v, requires_grad=grad) for k, v in policy.items()}),
            PolicyParameters(**{k: torch.tensor(v) for k, v in target.items()}), torch.tensor(actions),
            torch.tensor(q, requires_grad=grad))


def test_equals_the_reference(inputs, duals, config):
    policy, dual, _ = mpo_loss(*tensors(inputs), duals, config)
    values = {n: p.detach().numpy() for n, p in duals.named_parameters()}
    np.testing.assert_allclose((policy.item(), dual.item()), reference(*inputs, values, config), rtol=1e-9)


def test_gradients_are_those_of_finite_differences(inputs, duals, config):
    policy, target, actions, q = tensors(inputs, grad=True)
    parameters = [p for p in policy if p is not None]
    assert torch.autograd.gradcheck(
        lambda *p: mpo_loss(PolicyParameters(*p), target, actions, q, duals, config)[0], parameters)
    names = [n for n, _ in duals.named_parameters()]

    def dual(*values):
        for name, value in zip(names, values):
            delattr(duals, name)
            setattr(duals, name, value)
        return mpo_loss(policy.detach(), target, actions, q, duals, config)[1]

    assert torch.autograd.gradcheck(dual, [p.detach().clone().requires_grad_() for p in duals.parameters()])


def test_losses_train_what_they_should(inputs, duals, config):
    policy, target, actions, q = tensors(inputs, grad=True)
    loss, dual, _ = mpo_loss(policy, target, actions, q, duals, config)
    loss.backward(retain_graph=True)
    assert all(p.grad is None for p in duals.parameters())
    assert q.grad is None
    before = [p.grad.clone() for p in policy if p is not None]
    dual.backward()
    assert all(p.grad is not None for p in duals.parameters())
    assert all(torch.equal(a, p.grad) for a, p in zip(before, (p for p in policy if p is not None)))


def test_improves_towards_the_better_actions(rng, hybrid, kind):
    """With Q falling with the distance from a point the policy moves there, under its KL limits."""
    torch.manual_seed(0)
    size = A - hybrid
    config = MPOConfig(epsilon_mean=1e-2, epsilon_std=1e-4, epsilon_gripper=1e-2,
                       gripper_step='both' if kind == 'both' else 'sampled')
    goal = torch.tensor([0.5, -0.5, 0.0, 0.3, -0.2])
    mean, log_std = torch.zeros(1, 1, size, requires_grad=True), torch.zeros(1, 1, size, requires_grad=True)
    logits = torch.zeros(1, 1, 2, requires_grad=True) if hybrid else None
    duals = Duals(config, 1, size, hybrid)
    parameters = [p for p in (mean, log_std, logits) if p is not None]
    policy_step, dual_step = torch.optim.Adam(parameters, 1e-2), torch.optim.Adam(duals.parameters(), 1e-1)
    for i in range(600):
        policy = PolicyParameters(mean, log_std.exp() * 0.5, logits)
        if i % 10 == 0:
            target = PolicyParameters(*(None if p is None else p.clone() for p in policy.detach()))
        actions = sample(target, Noise(torch.randn(1, 1, 32, size), torch.rand(1, 1, 32)))
        q = -10 * (actions - goal).abs().sum(-1)
        gripper = -10 * (torch.tensor([-1.0, 1.0]) - goal[-1]).abs().expand(1, 1, 2) if kind == 'both' else None
        losses = loss_of(policy, target, actions, q, duals, config, gripper)
        for optimizer, loss in ((policy_step, losses[0]), (dual_step, losses[1])):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        duals.clamp()
    assert (mean[0, 0] - goal[:size]).abs().max() < 0.15
    if hybrid:      # opening, -1, is nearer to the goal
        assert torch.softmax(logits[0, 0], -1)[0] > 0.9


def test_duals_stay_positive_and_are_clamped():
    duals = Duals(MPOConfig(initial_log_temperature=-100.0), 2, A)
    assert (positive(duals.log_temperature) > 0).all()
    duals.clamp()
    assert duals.log_temperature.min().item() == -18.0
