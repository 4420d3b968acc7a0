# SPDX-License-Identifier: Apache-2.0
"""The learner node: learns from the run's bags, and says when there is a new policy version.

Nothing waits for it, and it waits for nobody: it reads bags from disk and gives way to the robot's side.
"""

from __future__ import annotations

import contextlib
import os

from std_msgs.msg import String

from chef_control.health import Report
from chef_control.node import RUN_DIR, CellNode, ConfigError, Param, asked_to_stop, run
from chef_learning.config import LearnerConfig
from chef_learning.nodes.common import OBSERVATION, SEED, check
from chef_learning.policy_files import NO_VERSION
from chef_task.qos import profile

NICE = 19    # whatever the robot's side needs goes first


class LearnerNode(CellNode):
    """Parameters and the one topic; see `run_learner` for what it does."""

    PARAMS = (RUN_DIR, OBSERVATION, SEED,
              Param('learner_config', '', 'path of the learner\'s YAML'),
              Param('publish_period_s', 5.0, 's between two policy versions'),
              Param('checkpoint_period_s', 60.0, 's between two checkpoints'),
              Param('idle', False, 'learn only while nothing else wants to run'))

    def __init__(self, name: str):
        super().__init__(name)
        os.nice(max(0, NICE - os.nice(0)))
        p = self.params
        if p['idle']:
            _give_way()
        check(p)
        for period in ('publish_period_s', 'checkpoint_period_s'):
            if not p[period] >= 0:
                raise ConfigError(f'parameter {period} must not be negative, not {p[period]}')
        config = _load(p['learner_config'])
        if config.observation != p['observation']:
            raise ConfigError(f'{p["learner_config"]} is for observation {config.observation}, '
                              f'this cell offers {p["observation"]}')
        self.learner = _open(config, p['run_dir'], p['seed'], p['publish_period_s'], p['checkpoint_period_s'])
        self._versions = self.create_publisher(String, 'policy_version', profile('state'))
        self._announced = ''

    def work(self) -> bool:
        try:
            return self._slice()
        except Exception as e:      # whatever it is, the run goes on without the learner
            self.get_logger().fatal(f'stops: {type(e).__name__}: {" ".join(str(e).split())}')
            self.finished = 1
            return False

    def _slice(self) -> bool:
        busy = self.learner.work()
        for event in self.learner.take_events():
            # two lines of code: rclpy ties a severity to the line that logs
            if event.startswith('skipped'):
                self.get_logger().warning(event)
            else:
                self.get_logger().info(event)
        if self.learner.version not in (self._announced, NO_VERSION):
            self._announced = self.learner.version
            self._versions.publish(String(data=self._announced))
        return busy

    def diagnose(self, report: Report) -> None:
        report.values |= {'updates': self.learner.updates, 'published_version': self.learner.version}

    def stop(self) -> bool:
        if not self.finished:
            self.learner.save()
        self.learner.close()
        return True


def _load(path: str) -> LearnerConfig:
    try:
        return LearnerConfig.load(path)
    except ValueError as e:
        raise ConfigError(e) from None


def _open(config: LearnerConfig, run_dir: str, seed: int, publish_s: float, checkpoint_s: float):
    # late: torch takes seconds, a mistake in the parameters should not
    import torch

    from chef_learning.checkpoint import CheckpointError
    from chef_learning.replay import ReplayError
    from chef_learning.run_learner import RunLearner, RunLocked
    torch.set_num_threads(1)
    try:
        return RunLearner(config, run_dir, seed, publish_period_s=publish_s, checkpoint_period_s=checkpoint_s,
                          stop=asked_to_stop)
    except (RunLocked, ReplayError, CheckpointError) as e:
        raise ConfigError(e) from None
    except OSError as e:
        raise ConfigError(f'{e.filename or run_dir}: {e.strerror or e}') from None


def _give_way() -> None:
    """Runs when nothing else wants to: even the nicest process of the ordinary kind makes a policy wait at times."""
    with contextlib.suppress(AttributeError, OSError):      # not on every system
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    """Exits with 0 when asked to end, 1 if it cannot go on (disk, divergence), 2 if a parameter is wrong."""
    run(LearnerNode, 'learner')
