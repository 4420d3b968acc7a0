# SPDX-License-Identifier: Apache-2.0
"""The categorical projection and loss against plain NumPy in float64."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_learning.critic import critic_loss, project, support, target_distribution


def reference_projection(p, returns, discounts, z):
    """The textbook double loop."""
    out = np.zeros_like(p)
    step = z[1] - z[0]
    for k, b in np.ndindex(returns.shape):
        for j, value in enumerate(z):
            shifted = np.clip(returns[k, b] + discounts[b] * value, z[0], z[-1])
            for i, atom in enumerate(z):
                out[k, b, i] += p[k, b, j] * max(0.0, 1.0 - abs(shifted - atom) / step)
    return out


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.5, 200.0))
def test_projection_equals_the_reference(seed, atoms, top):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(atoms), (2, 3))
    returns, discounts = rng.uniform(0, top, (2, 3)), rng.choice([0.0, 0.95, 1.0], 3)
    z = np.linspace(0, top, atoms)
    out = project(*(torch.tensor(x) for x in (p, returns, discounts, z))).numpy()
    np.testing.assert_allclose(out, reference_projection(p, returns, discounts, z), atol=1e-12)
    np.testing.assert_allclose(out.sum(-1), 1.0, atol=1e-12)


def test_projection_keeps_the_mean_inside_the_support(rng):
    z = support(51, 100.0).double()
    p = torch.tensor(rng.dirichlet(np.ones(51), (6, 4)))
    returns, discounts = torch.tensor(rng.uniform(0, 1, (6, 4))), torch.full((4,), 0.99, dtype=torch.float64)
    mean = (project(p, returns, discounts, z) * z).sum(-1)
    np.testing.assert_allclose(mean, returns + 0.99 * (p * z).sum(-1), atol=1e-9)


def test_a_termination_leaves_the_rewards_only():
    z = support(11, 10.0)
    p = torch.full((1, 1, 11), 1 / 11)
    out = project(p, torch.tensor([[2.25]]), torch.zeros(1), z)
    expected = torch.zeros(11)
    expected[2], expected[3] = 0.75, 0.25
    torch.testing.assert_close(out[0, 0], expected)


def test_target_mixes_over_the_sampled_actions(rng):
    z = support(11, 10.0).double()
    p = rng.dirichlet(np.ones(11), (2, 3, 5))
    returns, discounts = rng.uniform(0, 2, (2, 3)), np.array([0.9, 0.0, 0.5])
    out = target_distribution(*(torch.tensor(x) for x in (p, returns, discounts)), z)
    expected = reference_projection(p.mean(2), returns, discounts, z.numpy())
    np.testing.assert_allclose(out, expected, atol=1e-12)


def test_loss_and_its_gradient(rng):
    logits = torch.tensor(rng.normal(size=(2, 3, 5)), requires_grad=True)
    target = torch.tensor(rng.dirichlet(np.ones(5), (2, 3)))
    x = logits.detach().numpy()
    log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
    expected = -(target.numpy() * log_p).sum(-1).mean(-1)
    np.testing.assert_allclose(critic_loss(logits, target).detach(), expected)
    assert torch.autograd.gradcheck(lambda v: critic_loss(v, target), (logits,))
