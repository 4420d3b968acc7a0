# SPDX-License-Identifier: Apache-2.0
"""One collection run, shared by the tests that look at what it left."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Graph  # noqa: E402


@dataclass
class Finished:
    """A run that has ended."""

    output: Path
    code: int
    text: str
    spied: Path | None = None
    left: dict = field(default_factory=dict)

    @property
    def bags(self) -> list[Path]:
        return sorted(p for p in (self.output / 'episodes').iterdir() if not p.name.startswith('.'))


def finish(output: Path, env=None, **arguments) -> Finished:
    with Graph(output, env=env, **arguments) as graph:
        code = graph.wait()
        return Finished(output, code, graph.text)


@pytest.fixture(scope='session')
def collected(tmp_path_factory) -> Finished:
    """Several short episodes, state features, in lockstep."""
    output = tmp_path_factory.mktemp('collected') / 'run'
    return finish(output, episodes=4, steps=60, observation='state', speed='max', physics='fast', learner='false')


@pytest.fixture(scope='session')
def spied(tmp_path_factory) -> Finished:
    """One episode with cameras in real time, acted by a user's policy that saves its observations."""
    folder = tmp_path_factory.mktemp('spied')
    notes = folder / 'notes'
    notes.mkdir()
    env = {'CHEF_SPY': str(notes), 'PYTHONPATH': extended_pythonpath()}
    run = finish(folder / 'run', env, episodes=1, steps=40, observation='pixels', physics='fast',
                 policy='spy_policy:Spy', learner='false')
    run.spied = notes
    return run


def extended_pythonpath() -> str:
    import os

    return os.pathsep.join([str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')])
