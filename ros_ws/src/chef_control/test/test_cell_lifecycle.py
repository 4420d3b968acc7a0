# SPDX-License-Identifier: Apache-2.0
"""Bringing nodes up and down: order, lost answers, refusals, deadlines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.cell_lifecycle import ACTIVE, CellLifecycle, Phase

NODES = ('gripper', 'arm', 'safety')
AFTER = {'configure': ('unconfigured', 'inactive'), 'activate': ('inactive', 'active'),
         'deactivate': ('active', 'inactive')}


class Cell:
    """Nodes with a lifecycle, and a clock. absent, deaf, refusing: nodes that are not there, never answer, refuse."""

    def __init__(self, absent=(), deaf=(), refusing=(), lose=lambda: False):
        self.states = dict.fromkeys(NODES, 'unconfigured')
        self.absent, self.deaf, self.refusing, self.lose = set(absent), set(deaf), set(refusing), lose
        self.done: list[tuple[str, str]] = []
        self.answers: list = []
        self.now = 0.0
        self.lifecycle = CellLifecycle(NODES, self.ask, configure_s=20.0, activate_s=5.0, deactivate_s=0.5)

    def ask(self, node, what):
        if node in self.absent:
            return False
        if node in self.deaf:
            return True
        if what == 'get_state':
            answer = (self.lifecycle.on_state, node, self.states[node])
        else:
            source, goal = AFTER[what]
            assert self.states[node] == source, f'{what} of a node that is {self.states[node]}'
            success = node not in self.refusing
            if success:
                self.states[node] = goal
                self.done.append((what, node))
            answer = (self.lifecycle.on_changed, node, what, success)
        if not self.lose():
            self.answers.append(answer)
        return True

    def until(self, *phases, limit_s=100.0):
        while self.lifecycle.phase not in phases:
            assert self.now < limit_s, (self.lifecycle.phase, self.states)
            answers, self.answers = self.answers, []
            for callback, *arguments in answers:
                callback(*arguments)
            self.lifecycle.poll(self.now)
            self.now += 0.02

    def up(self, *phases):
        self.lifecycle.start(self.now)
        self.until(*(phases or (Phase.UP,)))

    def down(self):
        self.lifecycle.finish(self.now)
        self.until(Phase.DOWN)


def test_all_are_configured_then_activated_in_order_and_deactivated_in_reverse():
    cell = Cell()
    cell.up()
    assert cell.now < 1.0
    assert {what for what, _ in cell.done[:3]} == {'configure'}
    assert cell.done[3:] == [('activate', n) for n in NODES]
    cell.down()
    assert cell.done[6:] == [('deactivate', n) for n in reversed(NODES)]
    assert cell.lifecycle.late == []


def test_nothing_is_activated_before_all_are_configured():
    cell = Cell(absent=['safety'])
    cell.lifecycle.start(0.0)
    for _ in range(100):
        for callback, *arguments in cell.answers:
            callback(*arguments)
        cell.answers = []
        cell.lifecycle.poll(cell.now)
        cell.now += 0.02
    assert cell.states == {'gripper': 'inactive', 'arm': 'inactive', 'safety': 'unconfigured'}
    cell.absent.clear()
    cell.until(Phase.UP)


@pytest.mark.parametrize('trouble, error', [
    ({'absent': ['arm']}, 'arm did not configure within 20 s'),
    ({'deaf': ['arm', 'safety']}, 'arm, safety did not configure within 20 s'),
    ({'refusing': ['safety']}, 'safety refused to configure, see its log'),
])
def test_a_node_that_does_not_come_up_is_named_and_no_other_is_activated(trouble, error):
    cell = Cell(**trouble)
    cell.up(Phase.FAILED)
    assert cell.lifecycle.error == error
    assert ACTIVE not in cell.states.values()


def test_a_node_that_falls_silent_before_it_is_active():
    cell = Cell()
    cell.up(Phase.ACTIVATING)
    cell.deaf.add('safety')
    cell.until(Phase.FAILED)
    assert cell.lifecycle.error == 'safety did not activate within 5 s'
    cell.down()
    assert ACTIVE not in cell.states.values()


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_answers_may_be_lost(data):
    cell = Cell(lose=lambda: data.draw(st.booleans()) and cell.now < 3.0)   # a node has 5 s
    cell.up()
    assert set(cell.states.values()) == {'active'}
    assert len(cell.done) == 6      # none was asked for twice


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_node_that_was_asked_twice_may_refuse_the_second_time(data):
    """Nodes that do what they are asked for, but late, each request by itself, so that they are asked again."""
    cell, waiting = Cell(), []

    def late(node, what):
        waiting.append((cell.now + data.draw(st.floats(0.0, 1.6)), node, what))
        return True

    def answer():
        for due in sorted(w for w in waiting if w[0] <= cell.now):
            waiting.remove(due)
            _, node, what = due
            if what == 'get_state':
                cell.answers.append((cell.lifecycle.on_state, node, cell.states[node]))
                continue
            source, goal = AFTER[what]
            success = cell.states[node] == source
            if success:
                cell.states[node] = goal
            if data.draw(st.booleans()) or what == 'deactivate':
                cell.answers.append((cell.lifecycle.on_changed, node, what, success))
    cell.ask = late
    cell.lifecycle = CellLifecycle(NODES, late, configure_s=60.0, activate_s=60.0)
    cell.lifecycle.start(0.0)
    while cell.lifecycle.phase is not Phase.UP:
        assert cell.now < 100.0 and cell.lifecycle.phase is not Phase.FAILED, cell.lifecycle.error
        answer()
        for callback, *arguments in cell.answers:
            callback(*arguments)
        cell.answers = []
        cell.lifecycle.poll(cell.now)
        cell.now += 0.02
    assert set(cell.states.values()) == {'active'}


def test_nodes_that_are_up_already_are_taken_as_they_are():
    cell = Cell()
    cell.states.update(gripper='active', arm='inactive')
    cell.up()
    assert cell.done == [('configure', 'safety'), ('activate', 'arm'), ('activate', 'safety')]


def test_down_does_not_wait_for_those_that_are_gone():
    cell = Cell()
    cell.up()
    cell.absent.add('arm')
    before = cell.now
    cell.down()
    assert cell.lifecycle.late == ['arm'] and cell.now - before < 1.0
    assert cell.states['gripper'] == 'inactive'


def test_down_before_anything_was_up_is_at_once():
    cell = Cell(absent=NODES)
    cell.lifecycle.start(0.0)
    cell.lifecycle.poll(0.0)
    cell.down()
    assert cell.done == []
