# SPDX-License-Identifier: Apache-2.0
"""The policy node: answers every Tick with an Action; takes the newest policy version between episodes."""

from __future__ import annotations

import gc
import importlib
from functools import partial
from pathlib import Path

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.serialization import deserialize_message
from std_msgs.msg import Header

from chef_control.health import Report
from chef_control.node import LOCKSTEP, RUN_DIR, CellNode, ConfigError, Param, run, to_time
from chef_control.sensors import message_class
from chef_learning.acting import Answer, PolicySource, TickResponder, version_of
from chef_learning.nodes.common import OBSERVATION, SEED, check
from chef_learning.policy import MAIN, PolicyError, error_text
from chef_msgs.msg import Action, EpisodeInfo, PolicyState, Step, Tick
from chef_task.messages import decode, serialized_stamp_ns, stamp_ns
from chef_task.qos import profile
from chef_task.records import Reason
from chef_task.rewards import TASKS
from chef_task.spaces import STREAMS

HEARTBEAT_S = 0.5
WHOLE = (Reason.TIME_LIMIT.value, Reason.FORCE_LIMIT.value)     # episodes that a scheduler may learn from


class PolicyNode(CellNode):
    """Parameters, topics and timers; see `acting` for what it does.

    The parameter `next_policy`, set while it runs, is what acts from the next episode on, '' for what it was started with;
    `next_task`, set before it, is the one task for which that acts.
    """

    PARAMS = (RUN_DIR, LOCKSTEP, OBSERVATION, SEED,
              Param('policy', 'latest', 'latest, random, module:Class, or the folder of a version'),
              Param('evaluate', False, 'act for the main task only'),
              Param('task', '', 'evaluate this one instead of the main task'))

    def __init__(self, name: str):
        super().__init__(name)
        p = self.params
        check(p)
        observation = p['observation']
        if p['policy'] == 'latest' or p['task']:
            # It will be needed, and importing it takes seconds: not while the arm could be moving.
            importlib.import_module('torch')
        if p['task'] not in ('', *TASKS):
            raise ConfigError(f'parameter task must be one of {", ".join(TASKS)}, not {p["task"]!r}')
        try:
            self._source = self._open(p['policy'], p['task'])
        except PolicyError as e:
            raise ConfigError(str(e)) from None
        self._own, self._next = self._source, None
        self._next_task = p['task']
        self.declare_parameter('next_policy', '', ParameterDescriptor(
            description='as policy, from the next episode on; may be set at any time; empty: as at the start'))
        self.declare_parameter('next_task', '', ParameterDescriptor(
            description='as task, for the next_policy that is set from now on; empty: as at the start'))
        self.add_on_set_parameters_callback(self._on_set)
        self._stamp = 0
        self._responder = TickResponder(observation, decode=self._decode)
        self._state = PolicyState(observation=observation, policy_version=version_of(self._source.policy))

        self._ticks = self.health.meter('tick_in')
        self._inference_ms = 0.0    # longest since the last diagnostics
        self._actions = self.create_publisher(Action, 'action', profile('stream'))
        self._states = self.create_publisher(PolicyState, 'policy/state', profile('state'))
        for name in self._responder.streams:
            stream = STREAMS[name]
            self.quiet.append(self.create_subscription(
                message_class(stream.msgtype), stream.topic, partial(self._on_sample, name),
                profile('sensor_whole'), raw=True))
        # it is in no hurry, and comes before the episode's end is looked at
        self.quiet.append(self.create_subscription(Step, 'step', self._on_step, profile('stream')))
        self.create_subscription(Tick, 'tick', self._on_tick, profile('stream'))
        self.create_subscription(EpisodeInfo, 'episode', self._on_episode, profile('state'))
        self.every(HEARTBEAT_S, self._publish_state)
        # A collection takes tens of ms, as long as a tick: `_on_episode` has time for it, a tick does not.
        gc.disable()
        self._publish_state()
        self.get_logger().info(f'acts with {self._state.policy_version} from {observation}')

    def _open(self, policy: str, task: str) -> PolicySource:
        p = self.params
        return PolicySource(policy, Path(p['run_dir']) / 'policies', p['observation'], p['seed'], p['evaluate'],
                            self._schedule_file(), task)

    def _on_set(self, parameters) -> SetParametersResult:
        for p in parameters:
            if p.name == 'next_task':
                if p.value not in ('', *TASKS):
                    return SetParametersResult(successful=False, reason=f'{p.value!r} is no task')
                self._next_task = p.value or self.params['task']
            elif p.name == 'next_policy':
                if self._responder.running:     # loading takes longer than a tick
                    return SetParametersResult(successful=False, reason='an episode is under way')
                try:
                    self._next = self._open(p.value, self._next_task) if p.value else self._own
                except PolicyError as e:
                    return SetParametersResult(successful=False, reason=str(e))
        return SetParametersResult(successful=True)

    def _schedule_file(self) -> Path:
        """Where the scheduler of this cell's policies keeps what it has learned, whatever the version."""
        return Path(self.params['run_dir']) / 'schedule' / f'{self.get_namespace().strip("/") or "cell"}.json'

    def hungry(self) -> bool:
        return self._responder.waiting

    @staticmethod
    def _decode(stream: str, data: bytes):
        return decode(stream, deserialize_message(data, message_class(STREAMS[stream].msgtype)))

    def _on_sample(self, stream: str, data: bytes) -> None:
        self._stamp = stamp = serialized_stamp_ns(data)
        answer = self._responder.sample(stream, stamp, data)
        if answer is not None:
            self._publish_action(answer)

    def _on_tick(self, m: Tick) -> None:
        self._ticks.tick()
        answer = self._responder.tick(m.episode_id, m.index, stamp_ns(m.header.stamp),
                                      dict(zip(m.streams, map(stamp_ns, m.stamps))), m.last_action)
        if answer is not None:
            self._publish_action(answer)

    def _on_step(self, m: Step) -> None:
        self._responder.step(m.episode_id, m.index, m.rewards.values[MAIN])

    def _end(self, whole: bool) -> None:
        try:
            self._responder.end(whole)
        except Exception as e:      # a user's end may raise anything, and the disk may be full
            self._responder.end()
            self.get_logger().error(f'policy {self._state.policy_version}: after the episode: {error_text(e)}')

    def _publish_action(self, answer: Answer) -> None:
        self._inference_ms = max(self._inference_ms, answer.inference_ms)
        if answer.error:    # said first, so that the episode ends with the cause and not with NaN
            self._responder.end()
            self._report(False, answer.error)
        self._actions.publish(Action(
            header=Header(stamp=to_time(answer.stamp)), episode_id=answer.episode_id, index=answer.index,
            action=answer.action, task=answer.task, policy_version=answer.version,
            inference_ms=answer.inference_ms))

    def _on_episode(self, m: EpisodeInfo) -> None:
        if m.event == EpisodeInfo.END:
            if m.episode_id == self._state.episode_id:
                self._end(m.termination_reason.split(':')[0] in WHOLE)
                self._report(False)
            return
        if m.episode_id == self._state.episode_id:
            return
        self._state.episode_id = m.episode_id
        # The first version brings torch, which takes seconds to import: here the arm rests and the episode
        # waits; when the graph starts everybody else needs the processors.
        self._source, self._next = self._next or self._source, None
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
            self._report(False, f'reset failed: {error_text(e)}')
        else:
            self._report(True)

    def _report(self, ready: bool, error: str = '') -> None:
        if error:
            self.get_logger().error(f'policy {self._state.policy_version}: {error}')
        self._state.ready, self._state.error = ready, error
        self._publish_state()

    def diagnose(self, report: Report) -> None:
        report.values |= {'policy_version': self._state.policy_version, 'inference_max_ms': self._inference_ms}
        self._inference_ms = 0.0
        if self._state.error:
            report.error(self._state.error)

    def _publish_state(self) -> None:
        self._state.header.stamp = to_time(self._stamp if self.lockstep else self.wall_ns())
        self._states.publish(self._state)


def main() -> None:
    run(PolicyNode, 'policy')
