# SPDX-License-Identifier: Apache-2.0
"""The learner node: learns from the run's bags, and says when there is a new policy version.

Nothing waits for it, and it waits for nobody: it reads bags from disk and gives way to the robot's side.
"""

from __future__ import annotations

import os
import sys
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from chef_learning.config import LearnerConfig
from chef_learning.nodes.common import (ConfigError, catch_signals, check_observation, check_run_dir,
                                        check_seed, declare)
from chef_learning.policy_files import NO_VERSION
from chef_task.qos import profile

NICE = 10
IDLE_S = 0.1
SPIN_PERIOD_S = 0.05


class LearnerNode(Node):
    """Parameters and the one topic; see `run_learner` for what it does."""

    def __init__(self, asked: list[int]):
        super().__init__('learner')
        path = declare(self, 'learner_config', '', 'path of the learner\'s YAML')
        observation = declare(self, 'observation', 'pixels', 'of the cell: pixels or state')
        run_dir = declare(self, 'run_dir', '', 'absolute path of the run')
        seed = declare(self, 'seed', 0, 'of networks, batches and sampled actions')
        publish_s = declare(self, 'publish_period_s', 5.0, 's between two policy versions')
        checkpoint_s = declare(self, 'checkpoint_period_s', 60.0, 's between two checkpoints')
        check_observation(observation)
        check_run_dir(run_dir)
        check_seed(seed)
        for name, value in (('publish_period_s', publish_s), ('checkpoint_period_s', checkpoint_s)):
            if not value >= 0:
                raise ConfigError(f'parameter {name} must not be negative, not {value}')
        config = _load(path)
        if config.observation != observation:
            raise ConfigError(f'{path} is for observation {config.observation}, '
                              f'this cell offers {observation}')
        self.learner = _open(config, run_dir, seed, publish_s, checkpoint_s, lambda: bool(asked))
        self._versions = self.create_publisher(String, 'policy_version', profile('state'))
        self._announced = ''

    def slice(self) -> bool:
        """Some work; false if there is nothing to do but wait."""
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


def _load(path: str) -> LearnerConfig:
    try:
        return LearnerConfig.load(path)
    except ValueError as e:
        raise ConfigError(e) from None


def _open(config: LearnerConfig, run_dir: str, seed: int, publish_s: float, checkpoint_s: float, stop):
    # late: torch takes seconds, a mistake in the parameters should not
    import torch

    from chef_learning.checkpoint import CheckpointError
    from chef_learning.replay import ReplayError
    from chef_learning.run_learner import RunLearner, RunLocked
    torch.set_num_threads(1)
    try:
        return RunLearner(config, run_dir, seed, publish_period_s=publish_s, checkpoint_period_s=checkpoint_s,
                          stop=stop)
    except (RunLocked, ReplayError, CheckpointError) as e:
        raise ConfigError(e) from None
    except OSError as e:
        raise ConfigError(f'{e.filename or run_dir}: {e.strerror or e}') from None


def main() -> None:
    """Exits with 0 when asked to end, 1 if it cannot go on (disk, divergence), 2 if a parameter is wrong."""
    asked = catch_signals()
    if os.nice(0) < NICE:
        os.nice(NICE - os.nice(0))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    code = 0
    try:
        code = _run(LearnerNode(asked), asked)
    except ConfigError as e:
        print(f'learner: {e}', file=sys.stderr)
        code = 2
    rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(node: LearnerNode, asked: list[int]) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spun = 0.0
    code = 0
    try:
        while not asked:
            busy = node.slice()
            if not busy:
                executor.spin_once(timeout_sec=IDLE_S)
            elif time.monotonic() - spun > SPIN_PERIOD_S:
                executor.spin_once(timeout_sec=0)
                spun = time.monotonic()
        node.learner.save()
    except Exception as e:      # whatever it is, the run goes on without the learner
        node.get_logger().fatal(f'stops: {type(e).__name__}: {" ".join(str(e).split())}')
        code = 1
    node.learner.close()
    node.destroy_node()
    return code
