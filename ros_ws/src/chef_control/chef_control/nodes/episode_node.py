# SPDX-License-Identifier: Apache-2.0
"""Executable `episode_node`: the 20 Hz tick, over EpisodeMachine; action `run_episode`."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone

from rclpy.action import ActionServer, CancelResponse, GoalResponse

from chef_control.episode import EpisodeMachine
from chef_control.episode_types import Goal, Phase, Waits, read_asked
from chef_control.health import Report
from chef_control.lifecycle import MovingNode
from chef_control.node import CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE, Param, run, to_time
from chef_control.sensors import subscribe
from chef_control.urdf import joint_range
from chef_msgs.action import RunEpisode
from chef_msgs.msg import (Action, Command, EpisodeInfo, PolicyState, RecorderState, Rewards, SafetyState, Step,
                           Tick)
from chef_task import __version__
from chef_task.cell import CellConfig
from chef_task.qos import profile
from chef_task.records import Reason
from chef_task.rewards import TASKS
from chef_task.spaces import CONTROL_PERIOD_NS, streams_of

RECORDER_STATES = {RecorderState.IDLE: 'idle', RecorderState.RECORDING: 'recording',
                   RecorderState.SEALED: 'sealed', RecorderState.FAILED: 'failed',
                   RecorderState.QUARANTINED: 'quarantined'}


class EpisodeNode(MovingNode):
    """Shell over EpisodeMachine, whose Ports it is."""

    PARAMS = (CELL_CONFIG, LOCKSTEP, LOCKSTEP_DEADLINE,
              Param('observation', 'pixels', "what every tick names: 'pixels' (with cameras) or 'state'"),
              Param('physics', '', 'physics setting of a simulated cell, recorded'))
    FEEDBACK_EVERY = 20  # steps

    _machine: EpisodeMachine | None = None

    def configure(self) -> None:
        self._cell = CellConfig.load(self.params['cell_config'])
        streams = streams_of(self.params['observation'])
        waits = Waits.in_lockstep(self.params['lockstep_deadline_s']) if self.lockstep else Waits()
        self._machine = EpisodeMachine(streams, self._cell.limits, self, self.lockstep, waits,
                                       joint_range(self._cell.urdf, self._cell.joints))
        self._goal_handle = None
        self._count = 0
        self._stamp = self._ticked = 0
        stream, state = profile('stream'), profile('state')
        self._ticks = self.health.meter('tick')
        self._tick_pub = self.create_publisher(Tick, 'tick', stream)
        self._command_pub = self.create_lifecycle_publisher(Command, 'command', stream)
        self._step_pub = self.create_publisher(Step, 'step', stream)
        self._info_pub = self.create_publisher(EpisodeInfo, 'episode', state)
        made = subscribe(self, streams, self.lockstep, self._on_sample)
        # The arm's driver sends the twist last: what comes before it need not wake this node.
        self.quiet += [made[s] for s in ('joints', 'tcp_pose', 'gripper', 'wrench')]
        self.create_subscription(SafetyState, 'safety/state', self._on_safety, state)
        # before the action: why a policy failed comes with its state
        self.create_subscription(PolicyState, 'policy/state', self._on_policy, state)
        self.create_subscription(Action, 'action', self._on_action, stream)
        self.create_subscription(RecorderState, 'recorder/state', self._on_recorder, state)
        self._server = ActionServer(
            self, RunEpisode, 'run_episode', execute_callback=self._finish,
            goal_callback=self._accept, cancel_callback=self._cancel,
            handle_accepted_callback=self._begin)
        self._timer = self.every(CONTROL_PERIOD_NS * 1e-9, self._poll)

    # ---- inputs -------------------------------------------------------------------------------

    def hungry(self) -> bool:
        """In lockstep, from the first sample of the next tick on: the others are on their way."""
        return self.lockstep and self._machine is not None and self._machine.phase is Phase.TICKING \
            and self._stamp > self._ticked

    def _now(self) -> tuple[int, int]:
        """The clock that stamps samples and the monotonic one, ns, read together."""
        for _ in range(10):     # being put to sleep between the two would look like a jump of the clock
            mono = time.monotonic_ns()
            now = self._stamp if self.lockstep else self.wall_ns()
            if time.monotonic_ns() - mono < 1_000_000:
                break
        return now, mono

    def _poll(self) -> None:
        self._machine.poll(*self._now())
        self._after()

    def _after(self) -> None:
        """Completes the goal once the machine is done with it."""
        handle = self._goal_handle
        if handle is not None and self._machine.phase is Phase.DONE:
            self._goal_handle = None
            handle.execute()

    def _on_sample(self, stream: str, stamp: int, sample) -> None:
        self._stamp = max(self._stamp, stamp)
        self._machine.on_sample(stream, stamp, sample, time.monotonic_ns())
        if self.lockstep and self._machine.phase is Phase.TICKING:
            self._poll()

    def _on_action(self, m: Action) -> None:
        self._machine.on_action(m.episode_id, m.index, m.action, m.task, m.policy_version, time.monotonic_ns())
        if self._goal_handle is not None and m.index % self.FEEDBACK_EVERY == 0:
            self._goal_handle.publish_feedback(RunEpisode.Feedback(
                index=m.index, rewards=self._machine.last_rewards))

    def _on_safety(self, m: SafetyState) -> None:
        self._machine.on_safety(m.reason if m.stopped else '', time.monotonic_ns())

    def _on_policy(self, m: PolicyState) -> None:
        self._machine.on_policy(m.episode_id, m.ready, m.error)
        self._hasten()

    def _on_recorder(self, m: RecorderState) -> None:
        self._machine.on_recorder(m.episode_id, RECORDER_STATES.get(m.state, 'failed'), m.path, m.error, m.messages,
                                  time.monotonic_ns())
        self._hasten()

    def _hasten(self) -> None:
        """In lockstep nothing waits for the timer; in real time the timer is the tick."""
        if self.lockstep and self._machine.phase in (Phase.PREPARING, Phase.SEALING):
            self._poll()

    # ---- the action ---------------------------------------------------------------------------

    def _accept(self, goal: RunEpisode.Goal) -> GoalResponse:
        ok = self.active and self._goal_handle is None and 1 <= goal.triplet <= 5 and goal.max_steps > 0 \
            and read_asked(goal.asked) is not None
        return GoalResponse.ACCEPT if ok else GoalResponse.REJECT

    def _cancel(self, _) -> CancelResponse:
        self._machine.cancel()
        return CancelResponse.ACCEPT

    def _begin(self, handle) -> None:
        self._count += 1
        cell = self.get_namespace().strip('/') or 'cell'
        time_text = datetime.now(timezone.utc).strftime('%Y%m%dT%H%M%S_%f')
        asked = read_asked(handle.request.asked)
        stage = f'_{asked["stage"]}' if 'stage' in asked else ''    # by which learners tell sets of episodes
        goal = Goal(f'{time_text}_{cell.replace("/", "_")}{stage}_{self._count:06d}', handle.request.triplet,
                    handle.request.seed, handle.request.max_steps, asked)
        self._goal_handle = handle
        self.get_logger().info(f'episode {goal.episode_id} begins')
        self._machine.begin(goal, *self._now())

    def _finish(self, handle) -> RunEpisode.Result:
        out = self._machine.outcome
        result = RunEpisode.Result(
            termination_reason=out.reason, episode_id=out.goal.episode_id, bag=out.bag, success=out.success,
            policy_version=out.policy_version, steps=out.steps, peak_force_n=out.peak_force_n,
            returns=out.returns, periods_ms=out.periods_ms, latencies_ms=out.latencies_ms,
            overruns=out.overruns, missed=out.missed,
            error_msg=out.error)
        reason = Reason.of(out.reason)
        if handle.is_cancel_requested:
            result.error_code = result.CANCELLED
        elif out.error:
            result.error_code = result.RECORDER if out.steps else result.NOT_READY
        elif reason.is_fault:
            result.error_code, result.error_msg = result.FAULT, out.reason
        if handle.is_cancel_requested:
            handle.canceled()
        elif result.error_code:
            handle.abort()
        else:
            handle.succeed()
        return result

    def halt(self) -> None:
        """Ends a running episode as a shutdown."""
        self._machine.cancel(Reason.SHUTDOWN.value)

    def settled(self) -> bool:
        """Whether its bag is sealed."""
        self._poll()
        return self._machine.phase in (Phase.IDLE, Phase.DONE)

    def diagnose(self, report: Report) -> None:
        super().diagnose(report)
        if self._machine is not None and self._machine.outcome is not None:
            out = self._machine.outcome
            report.values |= {'phase': self._machine.phase.name.lower(), 'reason': out.reason,
                              **self._machine.figures(self._now()[0])}

    # ---- Ports of the machine -----------------------------------------------------------------

    def unconnected(self) -> str:
        listeners = {'the controller or the recorder': (self._command_pub, 2),
                     'the policy or the recorder': (self._tick_pub, 2), 'the recorder': (self._step_pub, 1)}
        for who, (publisher, count) in listeners.items():
            if publisher.get_subscription_count() < count:
                return who
        return ''

    def _info(self, goal: Goal, stamp: int, **figures) -> EpisodeInfo:
        m = EpisodeInfo(episode_id=goal.episode_id, cell=self.get_namespace().strip('/'), triplet=goal.triplet,
                        seed=goal.seed, tasks=list(TASKS))
        m.header.stamp = to_time(stamp)
        m.metadata = json.dumps({
            'limits': self._cell.limits.to_dict(), 'software': {'chef': __version__},
            'observation': self.params['observation'], 'physics': self.params['physics'],
            'lockstep': self.lockstep, 'max_steps': goal.max_steps, **({'asked': goal.asked} if goal.asked else {}),
            **figures})
        return m

    def start(self, goal: Goal, stamp: int) -> None:
        m = self._info(goal, stamp)
        m.event = EpisodeInfo.START
        self._info_pub.publish(m)

    def tick(self, goal, stamp, index, stamps, last_action) -> None:
        self._ticks.tick()
        self._ticked = stamp
        m = Tick(episode_id=goal.episode_id, index=index, streams=list(stamps),
                 stamps=[to_time(s) for s in stamps.values()], last_action=last_action)
        m.header.stamp = to_time(stamp)
        self._tick_pub.publish(m)

    def command(self, stamp, action, move) -> None:
        m = Command(source='episode', mode=Command.MOVE if move else Command.HOLD, action=action)
        m.header.stamp = to_time(stamp)
        self._command_pub.publish(m)

    def step(self, goal, step, age_ms, latency_ms) -> None:
        m = Step(episode_id=goal.episode_id, index=step.index, streams=list(step.stamps),
                 stamps=[to_time(s) for s in step.stamps.values()], last_action=step.last_action,
                 action=step.action, task=step.task, policy_version=step.policy_version,
                 rewards=Rewards(tasks=list(TASKS), values=step.rewards), discount=step.discount,
                 last=step.last, observation_age_ms=age_ms, latency_ms=latency_ms)
        m.header.stamp = to_time(step.stamp)
        self._step_pub.publish(m)

    def end(self, outcome, stamp) -> None:
        self.health.add('overruns', outcome.overruns)
        m = self._info(outcome.goal, stamp, overruns=outcome.overruns, missed_ticks=outcome.missed)
        m.event = EpisodeInfo.END
        m.policy_version, m.steps = outcome.policy_version, outcome.steps
        m.termination_reason, m.success = outcome.reason, outcome.success
        m.peak_force_n, m.returns = outcome.peak_force_n, outcome.returns
        self._info_pub.publish(m)


def main() -> None:
    run(EpisodeNode, 'episode_node', stop_deadline_s=6.0)
