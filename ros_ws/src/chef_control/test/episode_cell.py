# SPDX-License-Identifier: Apache-2.0
"""An episode machine with everything around it played by hand; for the tests of the machine."""

from __future__ import annotations

import numpy as np

from chef_control.episode import EpisodeMachine
from chef_control.episode_types import Goal, Waits
from chef_task.limits import Limits
from chef_task.spaces import CONTROL_PERIOD_NS, STREAMS, streams_of

STREAMS_USED = streams_of('state')
MS = 1_000_000


class Recorded:
    """Ports that remember every call, in order."""

    def __init__(self):
        self.calls, self.steps, self.ticks, self.commands = [], [], [], []

    def unconnected(self):
        return ''

    def start(self, goal, stamp):
        self.calls.append('start')

    def tick(self, goal, stamp, index, stamps, last_action):
        self.calls.append('tick')
        self.ticks.append((stamp, index, dict(stamps), np.array(last_action)))

    def command(self, stamp, action, move):
        self.calls.append('move' if move else 'hold')
        self.commands.append((stamp, np.array(action), move))

    def step(self, goal, step, age_ms, latency_ms):
        self.calls.append('step')
        self.steps.append(step)

    def end(self, outcome, stamp):
        self.calls.append('end')


def sample(stream: str, noise: float = 0.0, **values) -> dict:
    """What a sound sensor says of an arm at rest; noise: as every sensor has it."""
    out = {k: np.full(shape, 1e-6 * noise) for k, shape in STREAMS[stream].fields.items()}
    if STREAMS[stream].is_image:
        out['image'] = np.arange(np.prod(out['image'].shape), dtype=np.uint32).astype(np.uint8).reshape(
            out['image'].shape)
    if 'grasp' in out:
        out['grasp'][0] = 1.0
        out['position'] = np.abs(out['position'])
    if 'pose' in out:
        out['pose'][3] = 1.0
    if 'poses' in out:
        out['poses'][:, 3] = 1.0
    return {**out, **values}


class Cell:
    """A machine with everything around it played by hand."""

    def __init__(self, lockstep: bool, steps: int = 3, observation: str = 'state'):
        self.ports = Recorded()
        self.streams = streams_of(observation)
        self.machine = EpisodeMachine(self.streams, Limits(), self.ports, lockstep,
                                      Waits(prepare_s=1.0, seal_s=1.0, heartbeat_s=0.8, lockstep_s=1.0))
        self.now = 1_000_000_000    # of the wall clock, or simulated; ns
        self.mono = 1_000_000_000
        self.messages = 0
        self.goal = Goal('e1', 1, 7, steps)
        self._rng = np.random.default_rng(0)

    def sample(self, stream: str, **values) -> dict:
        return sample(stream, self._rng.standard_normal(), **values)

    def samples(self, without=(), stamps=None, **changed):
        """A sample of every stream. stamps: by stream, ns, else now; changed: by stream, values of fields."""
        for s in self.streams:
            if s not in without:
                stamp = (stamps or {}).get(s, self.now)
                self.machine.on_sample(s, stamp, self.sample(s, **changed.get(s, {})), self.mono)

    def beat(self, reason: str = ''):
        self.machine.on_safety(reason, self.mono)
        self.recorder()

    def recorder(self, state: str = 'recording', error: str = '', grows: bool = True):
        self.messages += grows
        self.machine.on_recorder('e1', state, '/bag', error, self.messages, self.mono)

    def ready(self):
        self.samples()
        self.machine.begin(self.goal, self.now, self.mono)
        self.machine.on_policy('e1', True, '')
        self.beat()

    def poll(self):
        self.machine.poll(self.now, self.mono)

    def act(self, action=(0.1, 0, 0, 0, 1)):
        self.machine.on_action('e1', self.ports.ticks[-1][1], np.array(action), 2, 'v1', self.mono + 3 * MS)

    def advance(self, periods: float = 1):
        self.now += int(periods * CONTROL_PERIOD_NS)
        self.mono += int(periods * CONTROL_PERIOD_NS)

    def step(self, act: bool = True, **samples):
        """One whole period in which all is well, but for what `samples` changes."""
        self.poll()
        if act:
            self.act()
        self.advance()
        self.samples(**samples)
        self.beat()

    def run(self):
        self.ready()
        for _ in range(self.goal.max_steps):
            self.step()
        self.poll()
        return self.machine.outcome
