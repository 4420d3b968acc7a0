# SPDX-License-Identifier: Apache-2.0
"""Bad input to the whole: one clear line, a non-zero exit, nothing touched."""

from __future__ import annotations

import pytest
from conftest import extended_pythonpath, finish
from harness import Graph, no_process_left

QUICK = dict(episodes=1, steps=20, observation='state', speed='max', physics='fast', learner='false')


@pytest.mark.parametrize('arguments, text', [
    ({'episods': 3}, 'episods'),
    ({'triplet': 6}, 'triplet'),
    ({'policy': 'best'}, 'policy'),
    ({'cell': 'nowhere.yaml'}, 'nowhere.yaml'),
    ({'episodes': 'many'}, 'episodes'),
    ({'min_free_gib': 1e6}, 'free'),
])
def test_a_bad_argument_is_one_line_before_anything_starts(tmp_path, arguments, text):
    run = finish(tmp_path / 'run', **{**QUICK, **arguments})
    assert run.code == 2
    lines = [line for line in run.text.splitlines() if line.strip()]
    assert len(lines) == 1 and text in lines[0] and 'Traceback' not in run.text


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with Graph(tmp_path / 'x', **{**QUICK, 'output': tmp_path / 'file' / 'run'}) as graph:
        assert graph.wait(30) == 2
    assert 'Traceback' not in graph.text and 'file' in graph.text


def test_a_policy_that_cannot_be_loaded_ends_the_graph_with_its_name(tmp_path):
    policy = 'spy_policy:Missing'
    with Graph(tmp_path / 'run', {'PYTHONPATH': extended_pythonpath()}, **{**QUICK, 'policy': policy}) as graph:
        assert graph.wait(60) != 0
        assert any('Missing' in line for line in graph.lines), graph.text
        assert 'Traceback' not in graph.text
        assert not no_process_left(graph)


def test_a_cell_with_a_bad_limit_is_named(tmp_path):
    from harness import ROOT

    good = (ROOT / 'config' / 'cells' / 'sim.yaml').read_text()
    cell = tmp_path / 'cell.yaml'
    urdf = ROOT / 'config' / 'robots' / 'sawyer.urdf'
    cell.write_text(good.replace('../robots/sawyer.urdf', str(urdf)).replace('force_n: 20.0', 'force_n: -1'))
    with Graph(tmp_path / 'run', **{**QUICK, 'cell': cell}) as graph:
        assert graph.wait(60) != 0
    assert 'force_n' in graph.text and 'Traceback' not in graph.text


def test_a_policy_that_answers_nan_ends_the_episode_not_the_bag(tmp_path):
    from chef_task.bag.reader import Episode

    run = finish(tmp_path / 'run', {'PYTHONPATH': extended_pythonpath()}, **{**QUICK, 'policy': 'spy_policy:Invalid'})
    assert run.code != 0
    assert run.bags
    for bag in run.bags:
        assert Episode.open(bag).record.termination_reason.startswith('policy_invalid')
