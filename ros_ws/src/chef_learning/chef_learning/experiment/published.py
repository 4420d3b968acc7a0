# SPDX-License-Identifier: Apache-2.0
"""Published success rates on RGB stacking, %, to stand beside an experiment's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Triplets 1 to 5. The paper: Lampe et al. 2023 (CHEF), table I, on robots, 200 episodes each. The public simulation:
# Lee et al. 2021, 1000 episodes each.
STAGES = (
    ('public simulation: state-based MPO specialists, 1000 episodes each', (77.7, 47.4, 83.5, 79.9, 89.5)),
    ('paper (robot): after COLLECT', (6, 22, 27, 47, 29)),
    ('paper (robot): after the first offline stage', (92, 89, 93, 92, 97)),
    ('paper (robot): after FINE-TUNE', (96, 97, 95, 95, 98)),
)
# Candidate's name to what the paper says of the same change: section VII and table II, means over triplets unless said.
ABLATIONS = {
    'large-network': '92 % (table II B)',
    'small-network': '86 % (table II B, and C: multi-task); on triplet 2 with haptics 78 %, 5.6 % ended early (VII.A)',
    'without-haptics': '43 % on triplet 2, 30.2 % ended early (VII.A)',
    'single-task': '74 % (table II C)',
    'filtered-BC': '71 % (table II C)',
    'filtered-RL': '11 % (table II C)',
    'fine-tuned': '95 % (2M updates, table II D)',
    'from-scratch': '91 % (2M updates, table II D)',
    'from-scratch-x2': '94 % (4M updates, table II D)',
    'shared-torsos': 'learns all tasks (figure 4)',
    'separate-critic-torsos': 'learns to lift, not to stack (figure 4)',
    'separate-actor-torsos': 'much the same (figure 4)',
    'composite-reward': 'does not stack consistently (figure 4 b)',
    'composite-data': 'does not stack consistently (figure 4 b)',
}
# What the learner of a collect stage may differ in, and nothing else, to the name above.
_COLLECTED = (
    ({}, 'shared-torsos'),
    ({'network.share_critic_torso': False}, 'separate-critic-torsos'),
    ({'network.share_actor_torso': False}, 'separate-actor-torsos'),
    ({'tasks': 'composite'}, 'composite-reward'),
)


def of_collected(changes: Mapping[str, Any]) -> str:
    """What the paper says of a learner that collects with such changes, after that row's name; '-' if nothing."""
    return next((f'{name}: {ABLATIONS[name]}' for what, name in _COLLECTED if what == dict(changes)), '-')
