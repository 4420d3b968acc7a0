# SPDX-License-Identifier: Apache-2.0
"""The witnesses themselves: that they see what they are to see, without a graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import witness
from campaign import batches, plan
from cell import Cell
from kind import GRAPH
from kinds import KINDS
from relay import Spoiler, remap
from verdict import TooLate, Verdict, judge, judge_loss

from chef_bringup.graphs.collect import graph
from chef_task.bag.synthetic import write_synthetic_episode

MS = 1_000_000


def motion(tmp_path, *changes: tuple[int, bool]) -> witness.Motion:
    (tmp_path / 'logs').mkdir(exist_ok=True)
    lines = [json.dumps({'stamp': s * MS, 'moving': m}) for s, m in changes]
    (tmp_path / 'logs' / 'world_motion.jsonl').write_text('\n'.join([*lines, '{"stam']))
    return witness.Motion.read(tmp_path)


def test_motion_tells_when_the_arm_stopped_and_whether_it_moved_again(tmp_path):
    m = motion(tmp_path, (0, False), (100, True), (250, False), (400, True))
    assert m.moving and m.at(150 * MS) and not m.at(300 * MS) and not m.at(50 * MS)
    assert m.stopped_after(150 * MS) == 250 * MS
    assert m.stopped_after(300 * MS) == 300 * MS and m.rest_since(300 * MS) == 250 * MS
    assert m.stopped_after(450 * MS) is None
    assert m.started_within(250 * MS, 500 * MS) == [400 * MS] and m.started_within(250 * MS, 399 * MS) == []


def test_a_bag_cut_anywhere_is_read_as_far_as_it_goes(tmp_path):
    bag = write_synthetic_episode(tmp_path, steps=30, observation='state')
    whole = witness.read_record(bag)
    assert whole.ended and whole.steps == 31 and whole.longest_gap_s() < 0.05
    (mcap,) = bag.glob('*.mcap')
    data = mcap.read_bytes()
    counts = []
    for share in (0.0, 0.2, 0.5, 0.9):
        mcap.write_bytes(data[:int(share * len(data))])
        cut = witness.read_record(bag)
        assert not cut.ended
        counts.append(cut.messages)
    assert counts == sorted(counts) and counts[0] == 0 < counts[-1] < whole.messages


def test_lost_data_is_seen():
    record = witness.Record(begun=MS, ended=900 * MS, end_stamp=900 * MS, stamps={
        'wrench': [k * 10 * MS for k in range(100)],
        'joint_states': [k * 10 * MS for k in range(100) if not 30 <= k < 60]})
    assert record.longest_gap_s() == pytest.approx(0.3)
    assert record.longest_gap_s(leave_out=('joint_states',)) == 0.0
    verdict = Verdict('x', 0)
    judge_loss(KINDS['pause:policy'], verdict, record, 500 * MS)
    assert any('0.30 s of the episode are lost' in p for p in verdict.problems)
    record = witness.Record(logged=1000 * MS)
    verdict = Verdict('x', 0)
    judge_loss(KINDS['kill:recorder'], verdict, record, 1300 * MS)
    assert verdict.lost_s == pytest.approx(0.3) and not verdict.passed


class RunThatWas:
    """What `judge` asks of a cell, made by hand."""

    def __init__(self, record, place, motion):
        self.record_of, self.motion = (lambda episode: (record, place)), (lambda: motion)


@pytest.mark.parametrize('changes, reason, stops, commands, told, problem', [
    ([(0, True), (130, False)], 'stale_sensor:wrench', 120, [], 900, ''),
    ([(0, True), (260, False)], 'stale_sensor:wrench', 120, [], 900, 'stopped 140 ms after the detection'),
    ([(0, True)], 'stale_sensor:wrench', 120, [], 900, 'has not stopped'),
    ([(0, True), (130, False), (300, True)], 'stale_sensor:wrench', 120, [], 900, 'moved again 170 ms after'),
    ([(0, True), (130, False), (1750, True)], 'stale_sensor:wrench', 120, [], 900, ''),
    ([(0, True), (130, False)], 'stale_sensor:wrench', 120, [300], 900, 'commanded to move after the stop'),
    ([(0, True), (130, False)], 'policy_late', 120, [], 900, "the reason is 'policy_late'"),
    ([(0, True), (130, False)], 'time_limit', None, [], 900, 'nobody noticed'),
    ([(0, True), (130, False)], 'time_limit', 120, [], 900, 'nobody noticed'),
])
def test_a_verdict_names_what_is_wrong(tmp_path, changes, reason, stops, commands, told, problem):
    record = witness.Record(ended=stops * MS if stops else 50 * MS, reason=reason, end_stamp=900 * MS,
                            logged=1000 * MS,
                            commands=[(c * MS, True) for c in commands])
    verdict = Verdict('silence:wrench', 0)
    cell = RunThatWas(record, tmp_path, motion(tmp_path, *changes))
    judge(cell, KINDS['silence:wrench'], verdict, 'e', 100 * MS, 100 * MS, told * MS)
    assert verdict.passed == (not problem), verdict.problems
    assert not problem or any(problem in p for p in verdict.problems), verdict.problems


def test_a_fault_after_its_episodes_end_is_not_judged(tmp_path):
    record = witness.Record(ended=50 * MS, reason='time_limit', end_stamp=50 * MS, logged=60 * MS)
    cell = RunThatWas(record, tmp_path, motion(tmp_path, (0, True), (50, False)))
    with pytest.raises(TooLate):
        judge(cell, KINDS['silence:wrench'], Verdict('silence:wrench', 0), 'e', 100 * MS, 100 * MS, 900 * MS)


def test_processes_are_found_by_their_environment():
    with subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE,
                          env={**os.environ, 'CHEF_CAMPAIGN': 'here'}) as process:
        assert list(witness.left_over('CHEF_CAMPAIGN=here', 0.3)) == [process.pid]
        process.stdin.close()
    assert witness.left_over('CHEF_CAMPAIGN=here', 2.0) == {}


def test_a_changed_bag_has_another_digest(tmp_path):
    bag = write_synthetic_episode(tmp_path, steps=3, observation='state')
    before = witness.digest(bag)
    (mcap,) = bag.glob('*.mcap')
    data = bytearray(mcap.read_bytes())
    data[len(data) // 2] ^= 1
    mcap.write_bytes(data)
    assert witness.digest(bag) != before


def test_the_relay_drops_delays_and_keeps_the_order():
    s = Spoiler()
    s.push(b'a', 0.0, None)
    assert s.due(0.0) == [b'a']
    s.start('delay', 0.2, 1.0, 0, 1.0)
    s.push(b'b', 1.9, None)
    s.push(b'c', 2.05, None)
    assert s.due(2.06) == [] and s.due(2.11) == [b'b', b'c']
    s.start('drop', 1.0, 1.0, 0, 3.0)
    s.push(b'd', 3.5, None)
    s.push(b'e', 4.5, None)
    assert s.due(5.0) == [b'e']
    s.start('nan', 1.0, 1.0, 0, 6.0)
    s.push(b'f', 6.5, lambda data: data + b'!')
    assert s.due(6.5) == [b'f!']
    assert graph.validate({'remap': remap()})


def test_a_plan_tries_every_kind_and_ends_each_graph_once():
    jobs = plan(2 * len(KINDS), 7)
    assert sorted({(j.kind.name, j.seed) for j in jobs}) == sorted((n, s) for n in KINDS for s in (7, 8))
    assert plan(20, 3) == plan(20, 3) != plan(20, 4)
    made = batches(jobs)
    assert sorted(id(j) for batch in made for j in batch) == sorted(map(id, jobs))
    for batch in made:
        assert len({j.kind.profile for j in batch}) == 1
        assert all(j.kind.ends != GRAPH for j in batch[:-1])


@pytest.mark.parametrize('lines, failures', [
    ([], 0),
    (['[collect] WARN reset: stale_command:109 ms', '[collect] INFO episode 1: policy_late:50 ms, 8 steps',
      '[collect] WARN episode: policy_late:50 ms'], 2),
    (['[collect] WARN episode: policy_late:50 ms', '[collect] INFO episode 2: time_limit, 50 steps',
      '[collect] WARN episode: recorder: gone'], 1),
    (['[collect] WARN episode: policy_late:50 ms', '[collect] INFO episode 2: force_limit:22.0 N, 4 steps'], 0),
])
def test_failures_are_counted_as_the_collection_counts_them(lines, failures):
    cell = object.__new__(Cell)
    cell.graph = SimpleNamespace(lines=lines)
    assert cell.failures == failures


def test_the_outcome_is_told_by_its_line_and_when_that_came():
    cell = object.__new__(Cell)
    cell.graph = SimpleNamespace(
        lines=['[collect] INFO episode 1: time_limit, 50 steps', '[policy] INFO x',
               '[collect] WARN episode: recorder: only 0 MiB free', '[chef] y'],
        times=[1, 2, 3, 4], wait_for=lambda *_: None)
    assert cell.wait_for_outcome(1) == 3 and cell.told == 'recorder: only 0 MiB free'
    assert cell.wait_for_outcome(0) == 1 and cell.told == 'time_limit, 50 steps'


def test_a_disk_that_took_nothing_more_is_judged_by_what_was_told(tmp_path):
    partial = tmp_path / '.e.partial'
    partial.mkdir()
    record = witness.Record(logged=90 * MS)
    cell = RunThatWas(record, partial, motion(tmp_path, (0, True), (130, False)))
    cell.told = 'recorder: only 0 MiB free'
    for told, passed in ((400, True), (4000, False)):
        verdict = Verdict('full disk', 0)
        judge(cell, KINDS['full disk'], verdict, 'e', 100 * MS, 100 * MS, told * MS)
        assert verdict.passed == passed, verdict.problems
        assert verdict.reason == cell.told and verdict.lost_s == pytest.approx(0.01)


@pytest.mark.parametrize('end_m, passed', [(0.01, True), (0.05, False)])
@pytest.mark.parametrize('height_m, in_view', [(0.1, True), (0.3, False)])
def test_a_frozen_camera_goes_unseen_only_where_nothing_moves(tmp_path, end_m, passed, height_m, in_view):
    tcp_m = height_m + witness.PINCH_M
    record = witness.Record(ended=900 * MS, reason='time_limit', end_stamp=900 * MS, logged=900 * MS, tool=[
        (50 * MS, (0.7, 0.0, tcp_m)), (150 * MS, (0.6, 0.0, tcp_m)), (300 * MS, (0.6 + end_m, 0.0, tcp_m)),
        (800 * MS, (0.6, 0.0, tcp_m))])
    verdict = Verdict('freeze:one camera', 0)
    judge(RunThatWas(record, tmp_path, motion(tmp_path, (0, True), (900, False))), KINDS['freeze:one camera'], verdict,
          'e', 100 * MS, 100 * MS, 1000 * MS)
    assert verdict.passed == (passed or not in_view), verdict.problems
