# SPDX-License-Identifier: Apache-2.0
"""The simulated cell in one process against the running graph in lockstep: the same bits."""

from __future__ import annotations

import numpy as np
from harness import ROOT

from chef_control.simulated_cell import SimulatedCell
from chef_task.bag import Episode
from chef_task.cell import CellConfig
from chef_task.records import Reason


class Playback:
    """Takes the actions that a bag holds."""

    def __init__(self, episode: Episode):
        self._actions = [(s.action, s.task) for s in episode.steps()]
        self.version = episode.record.policy_version

    def start(self):
        self._index = -1

    def act(self, features):
        self._index += 1
        return self._actions[self._index]

    def reward(self, value):
        pass


def test_a_simulated_cell_repeats_what_the_graph_recorded(collected):
    """All episodes of a run, one after the other from the first reset on: features and rewards, bit for bit."""
    assert collected.code == 0, collected.text
    cell = SimulatedCell(CellConfig.load(ROOT / 'config' / 'cells' / 'sim.yaml'), physics='fast', reset='move', seed=0)
    for number, bag in enumerate(collected.bags):
        episode, steps = Episode.open(bag), []
        record = episode.record
        cell.reset(record.triplet, record.seed, renew=number == 0)
        out = cell.run('again', 60, Playback(episode), lambda step, features: steps.append((step, features)))
        if Reason.of(record.termination_reason) is Reason.FORCE_LIMIT:
            break   # the graph's gate may end an episode between two ticks, and what follows starts elsewhere
        assert (out.reason, out.steps, out.success) == (record.termination_reason, record.steps, record.success)
        assert out.peak_force_n == record.peak_force_n or np.float32(out.peak_force_n) == np.float32(record.peak_force_n)
        for (recorded, seen), (step, features) in zip(episode.features(), steps, strict=True):
            assert (step.stamp, step.index, step.last, step.discount) == (recorded.stamp, recorded.index, recorded.last,
                                                                          recorded.discount)
            assert step.stamps == recorded.stamps
            np.testing.assert_array_equal(step.rewards, recorded.rewards)
            assert set(features) == set(seen)
            for key in seen:
                np.testing.assert_array_equal(features[key], seen[key], err_msg=f'episode {number}, {step.index}: {key}')
    assert number >= 1, 'the first episode met the force limit: nothing was compared beyond it'
