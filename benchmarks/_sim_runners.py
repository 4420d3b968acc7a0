# SPDX-License-Identifier: Apache-2.0
"""Contestants of `./chef bench sim`: one process each, `python _sim_runners.py NAME '{"triplet": 1, "core": 0}'`.

Requests: `run` (for so many seconds: control steps and seconds, without resets), `parts` (the same, with the seconds that
went into each part of a control step).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

from _contestant import serve

# name: what the table calls it, physics, observation, policy; of the public one, whether it has cameras
OURS = {
    'exact': ('ours, `exact`, state features', 'exact', 'state', 'random'),
    'fast': ('ours, `fast`, state features', 'fast', 'state', 'random'),
    'scripted': ('ours, `fast`, state features, scripted policy', 'fast', 'state', 'scripted'),
    'exact_pixels': ('ours, `exact`, three cameras', 'exact', 'pixels', 'random'),
    'fast_pixels': ('ours, `fast`, three cameras', 'fast', 'pixels', 'random'),
}
PUBLIC = {'public': ('public packages, three cameras', True), 'public_blind': ('public packages, cameras taken out', False)}
CELL = Path(__file__).resolve().parents[1] / 'config' / 'cells' / 'sim.yaml'
STEPS = 400


class Ours:
    """Episodes of our simulated cell, one after the other."""

    def __init__(self, name: str, triplet: int):
        from chef_control.simulated_cell import SimulatedCell
        from chef_task.cell import CellConfig
        _, physics, self.observation, self._policy = OURS[name]
        self._cell = SimulatedCell(CellConfig.load(CELL), physics=physics, observation=self.observation, triplet=triplet)
        self._triplet, self._number = triplet, 0

    def run(self, seconds: float) -> dict:
        """Whole episodes, and the last one up to the time."""
        from chef_learning.acting import Acting
        from chef_learning.policy import RandomPolicy
        from chef_learning.scripted import ScriptedPolicy
        from chef_task.errors import OneLineError
        steps, spent = 0, 0.0
        while spent < seconds:
            self._number += 1
            try:
                self._cell.reset(self._triplet, self._number)
            except OneLineError:        # a scene that cannot be placed
                continue
            policy = (ScriptedPolicy if self._policy == 'scripted' else RandomPolicy)(self._number)
            begun, start = spent, time.perf_counter()

            def on_step(step, features) -> None:
                if begun + time.perf_counter() - start >= seconds and not step.last:
                    self._cell.stop()
            out = self._cell.run(str(self._number), STEPS, Acting(policy, self.observation), on_step)
            spent += time.perf_counter() - start
            steps += out.steps
        return {'steps': steps, 'seconds': spent}

    def parts(self, seconds: float) -> dict:
        """With clocks around the parts, which cost some themselves."""
        from chef_control import episode, safety, simulated_samples, velocity_control
        from chef_sim import world
        from chef_task import observation
        from chef_task import rewards as task_rewards
        spent: dict[str, float] = defaultdict(float)
        inside: list[float] = []        # seconds of parts within the one that runs

        def timed(owner, attribute: str, part: str) -> None:
            work = getattr(owner, attribute)

            def call(*args, **kwargs):
                inside.append(0.0)
                start = time.perf_counter()
                try:
                    return work(*args, **kwargs)
                finally:
                    took = time.perf_counter() - start
                    spent[part] += took - inside.pop()
                    if inside:
                        inside[-1] += took
            setattr(owner, attribute, call)

        timed(world.World, '_step', 'physics')
        timed(world.World, 'sample', 'sensors')
        timed(simulated_samples.Samples, 'of_tick', 'sensors')
        timed(simulated_samples.Samples, '_images', 'pictures')
        timed(velocity_control.VelocityController, 'joint_velocity', 'controller')
        timed(task_rewards, 'rewards', 'rewards')
        timed(observation, 'features', 'observation')
        for name in ('on_joints', 'on_wrench', 'filter'):
            timed(safety.SafetyGate, name, 'safety gate')
        for name in ('on_sample', 'poll', 'on_action', 'on_safety', 'on_recorder'):
            timed(episode.EpisodeMachine, name, 'episode machine')
        out = self.run(seconds)
        return {**out, 'parts': {**spent, 'rest': out['seconds'] - sum(spent.values())}}


class Public:
    """The same of the public environment."""

    def __init__(self, name: str, triplet: int):
        import numpy as np
        from _public_task import Public as Task
        self._env = Task(triplet, PUBLIC[name][1]).env
        self._spec, self._rng = self._env.action_spec(), np.random.default_rng(0)
        self._over = True

    def run(self, seconds: float) -> dict:
        import numpy as np
        steps, spent = 0, 0.0
        while spent < seconds:
            if self._over:
                self._env.reset()
                self._over, self._action = False, self._spec.minimum
            # as ours: each dimension is redrawn at a tenth of the steps
            new = self._rng.uniform(self._spec.minimum, self._spec.maximum)
            self._action = np.where(self._rng.random(5) < 0.1, new, self._action).astype(self._spec.dtype)
            start = time.perf_counter()
            self._over = self._env.step(self._action).last()
            spent += time.perf_counter() - start
            steps += 1
        return {'steps': steps, 'seconds': spent}


def main(name: str, options: str) -> int:
    settings = json.loads(options)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [cores[settings['core'] % len(cores)]])
    runner = (Ours if name in OURS else Public)(name, settings['triplet'])
    runner.run(0.2)

    def answer(request: dict) -> dict:
        if request['do'] not in ('run', 'parts'):
            raise ValueError(f'cannot do {request["do"]!r}')
        return getattr(runner, request['do'])(request['seconds'])
    return serve(answer)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
