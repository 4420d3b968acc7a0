# SPDX-License-Identifier: Apache-2.0
"""The episode: ticks, observations, rewards, termination. No ROS, no clock of its own.

`EpisodeMachine` is driven by its owner: samples, actions and heartbeats are handed in as they arrive,
`poll` is called on the control schedule (real time) or after every input (lockstep), and everything the
machine does goes out through its `Ports`. The ROS node and the fast simulator run this very class.
"""

from __future__ import annotations

import math

import numpy as np

from chef_control.episode_types import Goal, Outcome, Phase, Ports, Waits
from chef_control.peers import Peers
from chef_control.schedule import TickSchedule
from chef_control.stream_watch import StreamWatch
from chef_task import observation, rewards, spaces
from chef_task.limits import Limits
from chef_task.messages import Sample
from chef_task.records import Reason, StepRecord

SECOND = 1_000_000_000


class EpisodeMachine:
    """Runs one episode at a time: `begin`, then inputs and `poll` until `phase` is DONE, then `outcome`.

    Times named `now` are ns of the clock that stamps samples; `mono` is a monotonic clock, ns.
    `joint_range` is of the joints' positions, lower and upper, rad, [7] each.
    """

    def __init__(self, streams: tuple[str, ...], limits: Limits, ports: Ports, lockstep: bool,
                 waits: Waits = Waits(), joint_range=None):
        self._streams, self._limits, self._ports = streams, limits, ports
        self._lockstep, self._waits = lockstep, waits
        self._watch = StreamWatch(streams, limits, lockstep, joint_range)
        self._schedule = TickSchedule()
        self._peers = Peers()
        self.phase = Phase.IDLE
        self.outcome: Outcome | None = None
        self.last_rewards = np.zeros(len(rewards.TASKS), np.float32)

    # ---- inputs -------------------------------------------------------------------------------

    def on_sample(self, stream: str, stamp: int, sample, mono: int) -> None:
        """A sample of one of the streams; looking at one that is not what it should be raises ValueError."""
        self._watch.on_sample(stream, stamp, sample, mono)
        if stream == 'wrench' and self._running:
            try:
                force = math.hypot(*sample['force'].tolist())
            except ValueError:
                return      # the tick that would use it ends the episode
            if force <= self._limits.force_range_n:
                self.outcome.peak_force_n = max(self.outcome.peak_force_n, force)
            else:
                self._watch.latch(Reason.BAD_SENSOR, f'wrench of {force:.0f} N')

    def on_safety(self, reason: str, mono: int) -> None:
        """The gate's heartbeat; reason is empty while it lets commands through."""
        self._peers.on_safety(reason, mono)
        if reason and self._running:
            self._end(reason)

    def on_policy(self, episode_id: str, ready: bool, error: str) -> None:
        """The policy's heartbeat."""
        self._peers.on_policy(episode_id, ready, error)
        self._end_if_left()

    def on_recorder(self, episode_id: str, state: str, path: str, error: str, messages: int, mono: int) -> None:
        """The recorder's heartbeat; state as in `recording`; messages: in the bag."""
        self._peers.on_recorder(episode_id, state, path, error, messages, mono)
        self._end_if_left()

    def _end_if_left(self) -> None:
        reason = self._running and self._peers.left(self._goal.episode_id)
        if reason:
            self._end(reason)

    def on_action(self, episode_id: str, index: int, action, task: int, version: str, mono: int) -> None:
        """The policy's answer; one that is not awaited is ignored, a bad one ends the episode."""
        if self.phase is not Phase.ACTING or episode_id != self._goal.episode_id:
            return
        if index != self._index:
            self._stray = f', it answered tick {index} instead of {self._index}'
            return
        try:
            action = spaces.check_action(action)
            if not 0 <= task < len(rewards.TASKS):
                raise ValueError(f'task {task} does not exist')
        except ValueError as e:
            self._end(f'{Reason.POLICY_INVALID.value}:{e}')
            return
        latency_ms = (mono - self._tick_mono) * 1e-6
        if not self._lockstep and latency_ms > 1e3 * self._limits.policy_deadline_s:
            self._end(f'{Reason.POLICY_LATE.value}:{latency_ms:.0f} ms')
            return
        self._ports.command(self._stamp, action, True)
        self._record(action, task, version, last=False, latency_ms=latency_ms)
        self.outcome.latencies_ms.append(latency_ms)
        self.outcome.policy_version = version
        self.outcome.steps += 1
        self._last_action = action
        self._index += 1
        self.phase = Phase.TICKING

    def cancel(self, reason: str = Reason.CANCELLED.value) -> None:
        """Ends the episode; harmless when none runs."""
        if self.phase is Phase.PREPARING:
            self._fail(f'{reason} before the first tick')
        if self._running:
            self._end(reason)

    # ---- life of an episode -------------------------------------------------------------------

    def begin(self, goal: Goal, now: int, mono: int) -> None:
        """Announces an episode. RuntimeError if one is under way."""
        if self.phase not in (Phase.IDLE, Phase.DONE):
            raise RuntimeError(f'episode {self._goal.episode_id} is under way')
        self._goal, self.outcome = goal, Outcome(goal)
        self._index, self._stamp, self._open, self._first = 0, 0, False, True
        self._last_action = np.zeros(spaces.ACTION_SIZE, np.float32)
        self._stray = ''
        self._began = self._tick_mono = mono
        self._watch.restart()
        self._schedule = TickSchedule()
        self.phase = Phase.PREPARING
        self._ports.start(goal, now)

    def poll(self, now: int, mono: int) -> None:
        """Does what is due. In real time call it at 20 Hz: a call is a tick."""
        if self.phase is Phase.PREPARING:
            self._prepare(now, mono)
        elif self.phase is Phase.ACTING:
            self._await_action(mono)
        elif self.phase is Phase.SEALING:
            self._await_seal(mono)
        if self.phase is Phase.TICKING:
            self._tick(now, mono)

    @property
    def samples(self) -> dict[str, Sample]:
        """What the newest tick saw, or the end of the episode: stream to sample."""
        return self._samples

    @property
    def _running(self) -> bool:
        return self.phase in (Phase.TICKING, Phase.ACTING)

    def _missing(self, now: int, mono: int) -> str:
        """What is not ready to start, or ''."""
        absent = self._watch.absent()
        if absent:
            return f'no sample of {", ".join(absent)}'
        fault = self._watch.fault(self._watch.steady(now, mono), mono)
        if fault:
            self._watch.restart()   # it may pass, and did not meet an episode
            return fault
        unconnected = self._ports.unconnected()
        return f'{unconnected} does not listen' if unconnected else self._peers.missing(self._goal.episode_id)

    def _prepare(self, now: int, mono: int) -> None:
        refused = self._peers.refused(self._goal.episode_id)
        missing = self._peers.missing(self._goal.episode_id) if refused else self._missing(now, mono)
        if not missing:
            self.phase = Phase.TICKING
            self._peers.begin(mono)
        elif refused or mono - self._began > self._waits.prepare_s * SECOND:
            self._fail(missing)

    def _tick(self, now: int, mono: int) -> None:
        if self._lockstep:
            stamps = {s: self._watch.stamp(s) for s in self._streams}
            due = max(stamps.values()) if self._first else self._stamp + spaces.CONTROL_PERIOD_NS
            late = [s for s in self._streams if stamps[s] < due]
            if late:
                fault = self._watch.latched
                if not fault and mono - self._tick_mono > self._waits.lockstep_s * SECOND:
                    fault = f'{Reason.STALE_SENSOR.value}:{late[0]} silent for {self._waits.lockstep_s:g} s'
                if fault:
                    self._end(fault)
                return
            now = due
        elif not self._schedule.due(mono):
            return
        else:
            now = self._watch.steady(now, mono)
            self._schedule.ticked(mono)
            self.outcome.overruns, self.outcome.missed = self._schedule.overruns, self._schedule.missed
        if not self._first:
            self.outcome.periods_ms.append((mono - self._tick_mono) * 1e-6)
        self._first = False
        self._tick_mono = mono
        self._take_samples(now, self._watch.newest())
        reason = self._reason_to_stop(self._watch.fault(now, mono), mono)
        if reason:
            self._take_samples(now, self._watch.sound())
            self._end(reason)
            return
        self.phase, self._stray = Phase.ACTING, ''
        self._ports.tick(self._goal, now, self._index, self._stamps, self._last_action)

    def _take_samples(self, stamp: int, samples: dict[str, tuple[int, Sample]]) -> None:
        """Opens the tick at `stamp`: this is what it saw."""
        self._stamp, self._open = stamp, True
        self._stamps = {s: samples[s][0] for s in self._streams}
        self._samples = {s: samples[s][1] for s in self._streams}

    def _reason_to_stop(self, fault: str, mono: int) -> str:
        if self.outcome.peak_force_n >= self._limits.force_n:
            return f'{Reason.FORCE_LIMIT.value}:{self.outcome.peak_force_n:.1f} N'
        if self._peers.stopped:
            return self._peers.stopped
        wait_s = max(self._waits.heartbeat_s, self._waits.lockstep_s) if self._lockstep else self._waits.heartbeat_s
        fault = fault or self._peers.silent(mono, wait_s)
        if fault:
            return fault
        if self._index >= self._goal.max_steps:
            return Reason.TIME_LIMIT.value
        return ''

    def _await_action(self, mono: int) -> None:
        limit_s = self._waits.lockstep_s if self._lockstep else self._limits.policy_deadline_s
        waited = (mono - self._tick_mono) * 1e-9
        if waited > limit_s:
            self._end(f'{Reason.POLICY_LATE.value}:{waited * 1e3:.0f} ms{self._stray}')

    # ---- endings ------------------------------------------------------------------------------

    def _record(self, action, task: int, version: str, last: bool, latency_ms: float, reason: str = '') -> None:
        self._open = False
        try:
            values = rewards.rewards(observation.reward_inputs(self._samples))
        except ValueError:
            values = np.full(len(rewards.TASKS), np.nan)
        if not np.isfinite(values).all():       # of a sample that is none
            values = np.zeros(len(rewards.TASKS), np.float32)
        self.last_rewards = values
        self.outcome.returns = self.outcome.returns + values
        terminated = last and Reason.of(reason).terminates
        oldest_ms = max(self._stamp - s for s in self._stamps.values()) * 1e-6
        self._ports.step(self._goal, StepRecord(
            stamp=self._stamp, index=self._index, stamps=self._stamps, last_action=self._last_action,
            action=action, task=task, policy_version=version, rewards=values,
            discount=0.0 if terminated else 1.0, last=last), oldest_ms, latency_ms)

    def _end(self, reason: str) -> None:
        """Stops the arm first, then records the last state and announces the end."""
        self._ports.command(self._stamp, np.zeros(spaces.ACTION_SIZE, np.float32), False)
        if not self._open:  # ended between ticks: the last state is the newest one known
            samples = self._watch.sound()
            self._take_samples(max(self._stamp + 1, *(stamp for stamp, _ in samples.values())), samples)
        out = self.outcome
        self._record(np.zeros(spaces.ACTION_SIZE, np.float32), 0, out.policy_version, last=True,
                     latency_ms=0.0, reason=reason)
        out.reason = reason
        main = self.last_rewards[rewards.TASKS.index(rewards.MAIN_TASK)]
        out.success = bool(main >= 1.0) and Reason.of(reason) is Reason.TIME_LIMIT
        self._finish()

    def _fail(self, error: str) -> None:
        """It never began: there is nothing to stop and nothing to seal."""
        self.outcome.error = error
        self.outcome.reason = Reason.CANCELLED.value
        self.phase = Phase.DONE
        self._ports.end(self.outcome, self._stamp)

    def _finish(self) -> None:
        self.outcome.end_ns = self._stamp
        self._sealing_since = 0
        self.phase = Phase.SEALING
        self._ports.end(self.outcome, self._stamp)

    def _await_seal(self, mono: int) -> None:
        self._sealing_since = self._sealing_since or mono
        done = self._peers.sealed(self._goal.episode_id)
        if done:
            self.outcome.bag, error = done
        elif mono - self._sealing_since > self._waits.seal_s * SECOND:
            error = 'the recorder did not seal the bag in time'
        elif self._peers.recorder_silent_ns(mono) > self._waits.gone_s * SECOND:
            error = 'the recorder fell silent before it had sealed the bag'
        else:
            return
        self.outcome.error = self.outcome.error or error
        self.phase = Phase.DONE

    # ---- figures ------------------------------------------------------------------------------

    def figures(self, now: int) -> dict[str, float]:
        """Plain numbers for diagnostics: of the streams, see StreamWatch.figures, and of the ticks of this episode."""
        out = self._watch.figures(now)
        if self.outcome is not None:
            out |= {'overruns': self.outcome.overruns, 'missed': self.outcome.missed, 'steps': self.outcome.steps,
                    'peak_force_n': self.outcome.peak_force_n}
            for name, values in (('period_ms', self.outcome.periods_ms), ('latency_ms', self.outcome.latencies_ms)):
                out |= {name: values[-1]} if values else {}
        return out
