# SPDX-License-Identifier: Apache-2.0
"""The policy node: answers every Tick with an Action; takes the newest policy version between episodes."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from pathlib import Path

import rclpy
from geometry_msgs.msg import PoseArray, PoseStamped, TwistStamped, WrenchStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from chef_learning.acting import Answer, PolicySource, TickResponder, version_of
from chef_learning.nodes.common import (ConfigError, catch_signals, check_observation, check_run_dir,
                                        check_seed, declare, steady_timer, to_time)
from chef_learning.policy import PolicyError
from chef_msgs.msg import Action, EpisodeInfo, GripperState, PolicyState, Tick
from chef_task.messages import stamp_ns
from chef_task.qos import profile
from chef_task.spaces import STREAMS

_TYPES = {f'{m.__module__.split(".")[0]}/msg/{m.__name__}': m
          for m in (JointState, PoseStamped, TwistStamped, GripperState, WrenchStamped, PoseArray, Image)}
HEARTBEAT_S = 0.5


class PolicyNode(Node):
    """Parameters, topics and timers; see `acting` for what it does."""

    def __init__(self):
        super().__init__('policy')
        spec = declare(self, 'policy', 'latest', 'latest, random, module:Class, or the folder of a version')
        observation = declare(self, 'observation', 'pixels', 'what the policy sees: pixels or state')
        run_dir = declare(self, 'run_dir', '', 'absolute path of the run; versions are in its policies/')
        seed = declare(self, 'seed', 0, 'of sampled actions and of the schedule of tasks')
        evaluate = declare(self, 'evaluate', False, 'act for the main task only')
        lockstep = declare(self, 'lockstep', False, 'simulated time as fast as it goes, nothing may be lost')
        check_observation(observation)
        check_run_dir(run_dir)
        check_seed(seed)
        self._source = PolicySource(spec, Path(run_dir) / 'policies', observation, seed, evaluate)
        self._responder = TickResponder(observation)
        self._state = PolicyState(observation=observation, policy_version=version_of(self._source.policy))

        self._actions = self.create_publisher(Action, 'action', profile('stream'))
        self._states = self.create_publisher(PolicyState, 'policy/state', profile('state'))
        for name in self._responder.streams:
            stream = STREAMS[name]
            self.create_subscription(_TYPES[stream.msgtype], stream.topic, partial(self._on_sample, name),
                                     profile('sensor', lockstep))
        self.create_subscription(Tick, 'tick', self._on_tick, profile('stream'))
        self.create_subscription(EpisodeInfo, 'episode', self._on_episode, profile('state'))
        steady_timer(self, HEARTBEAT_S, self._publish_state)
        # A collection takes tens of ms, as long as a tick: `_on_episode` has time for it, a tick does not.
        gc.collect()
        gc.freeze()
        gc.disable()
        self._publish_state()
        self.get_logger().info(f'acts with {self._state.policy_version} from {observation}')

    def _on_sample(self, stream: str, m) -> None:
        answer = self._responder.sample(stream, stamp_ns(m.header.stamp), m)
        if answer is not None:
            self._publish_action(answer)

    def _on_tick(self, m: Tick) -> None:
        answer = self._responder.tick(m.episode_id, m.index, stamp_ns(m.header.stamp),
                                      dict(zip(m.streams, map(stamp_ns, m.stamps))), m.last_action)
        if answer is not None:
            self._publish_action(answer)

    def _publish_action(self, answer: Answer) -> None:
        self._actions.publish(Action(
            header=Header(stamp=to_time(answer.stamp)), episode_id=answer.episode_id, index=answer.index,
            action=answer.action, task=answer.task, policy_version=answer.version,
            inference_ms=answer.inference_ms))
        if answer.error:
            self._responder.end()
            self._report(False, answer.error)

    def _on_episode(self, m: EpisodeInfo) -> None:
        if m.event == EpisodeInfo.END:
            if m.episode_id == self._state.episode_id:
                self._responder.end()
                self._report(False)
            return
        if m.episode_id == self._state.episode_id:
            return
        self._state.episode_id = m.episode_id
        # The first version brings torch, which takes seconds to import: here the arm rests and the episode
        # waits; when the graph starts everybody else needs the processors.
        policy = self._source.refresh(self.get_logger().warning)
        version = version_of(policy)
        if version != self._state.policy_version:
            self.get_logger().info(f'took {version}')
            self._state.policy_version = version
        gc.collect()
        gc.freeze()
        try:
            self._responder.start(policy, m.episode_id)
        except Exception as e:      # a user's reset may raise anything
            self._report(False, f'reset failed: {type(e).__name__}: {" ".join(str(e).split())}')
        else:
            self._report(True)

    def _report(self, ready: bool, error: str = '') -> None:
        if error:
            self.get_logger().error(f'policy {self._state.policy_version}: {error}')
        self._state.ready, self._state.error = ready, error
        self._publish_state()

    def _publish_state(self) -> None:
        self._state.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(self._state)


def main() -> None:
    """Exits with 0 when asked to end, 2 if a parameter is wrong."""
    asked = catch_signals()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    code = 0
    try:
        node = PolicyNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not asked:
            executor.spin_once(timeout_sec=0.2)
        node.destroy_node()
    except (ConfigError, PolicyError) as e:
        print(f'policy: {e}', file=sys.stderr)
        code = 2
    rclpy.try_shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)      # tearing down torch takes a second that nobody needs
