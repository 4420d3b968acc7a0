# SPDX-License-Identifier: Apache-2.0
"""The episode: ticks, observations, rewards, termination. No ROS, no clock of its own.

`EpisodeMachine` is driven by its owner: samples, actions and heartbeats are handed in as they arrive,
`poll` is called on the control schedule (real time) or after every input (lockstep), and everything the
machine does goes out through its `Ports`. The ROS node and the fast simulator run this very class.
"""

from __future__ import annotations

import numpy as np

from chef_control.episode_types import Goal, Outcome, Phase, Ports, Waits
from chef_task import observation, rewards, spaces
from chef_task.limits import Limits
from chef_task.records import Reason, StepRecord

SECOND = 1_000_000_000


class EpisodeMachine:
    """Runs one episode at a time: `begin`, then inputs and `poll` until `phase` is DONE, then `outcome`.

    Times named `now` are ns of the clock that stamps samples; `mono` is a monotonic clock, ns.
    """

    def __init__(self, streams: tuple[str, ...], limits: Limits, ports: Ports, lockstep: bool,
                 waits: Waits = Waits()):
        self._streams, self._limits, self._ports = streams, limits, ports
        self._lockstep, self._waits = lockstep, waits
        self._newest: dict[str, tuple[int, dict]] = {}
        self._arrived: dict[str, int] = {}      # monotonic time of the newest sample and heartbeat
        self._safety_reason = ''
        self._policy = ('', False, '', '')       # episode, ready, version, error
        self._recorder = ('', '', '', '')        # episode, state, path, error
        self.phase = Phase.IDLE
        self.outcome: Outcome | None = None
        self.last_rewards = np.zeros(len(rewards.TASKS), np.float32)

    # ---- inputs -------------------------------------------------------------------------------

    def on_sample(self, stream: str, stamp: int, sample, mono: int) -> None:
        """A sample of one of the streams; looking at one that is not what it should be raises ValueError."""
        self._newest[stream] = (stamp, sample)
        self._arrived[stream] = mono
        if stream == 'wrench' and self.phase in (Phase.TICKING, Phase.ACTING):
            try:
                force = float(np.linalg.norm(sample['force']))
            except ValueError:
                return      # the tick that would use it ends the episode
            self.outcome.peak_force_n = max(self.outcome.peak_force_n, force)

    def on_safety(self, reason: str, mono: int) -> None:
        """The gate's heartbeat; reason is empty while it lets commands through."""
        self._arrived['safety'] = mono
        self._safety_reason = reason
        if reason:
            self._end_if_running(reason)

    def on_policy(self, episode_id: str, ready: bool, version: str, error: str) -> None:
        """The policy's heartbeat."""
        self._policy = (episode_id, ready, version, error)

    def on_recorder(self, episode_id: str, state: str, path: str, error: str, mono: int) -> None:
        """The recorder's heartbeat; state as in `recording`."""
        self._arrived['recorder'] = mono
        self._recorder = (episode_id, state, path, error)
        if state == 'failed' and self.outcome and episode_id == self.outcome.goal.episode_id:
            self._end_if_running(f'{Reason.RECORDER_LOST.value}:{error}')

    def on_action(self, episode_id: str, index: int, action, task: int, version: str, mono: int) -> None:
        """The policy's answer; one that is not awaited is ignored, a bad one ends the episode."""
        if self.phase is not Phase.ACTING or episode_id != self._goal.episode_id or index != self._index:
            return
        try:
            action = spaces.check_action(action)
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
        self._end_if_running(reason)

    # ---- life of an episode -------------------------------------------------------------------

    def begin(self, goal: Goal, now: int, mono: int) -> None:
        """Announces an episode. RuntimeError if one is under way."""
        if self.phase not in (Phase.IDLE, Phase.DONE):
            raise RuntimeError(f'episode {self._goal.episode_id} is under way')
        self._goal, self.outcome = goal, Outcome(goal)
        self._index, self._stamp, self._open, self._first = 0, 0, False, True
        self._last_action = np.zeros(spaces.ACTION_SIZE, np.float32)
        self._began = self._tick_mono = mono
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

    def _missing(self, now: int, mono: int) -> str:
        """What is not ready to start, or ''."""
        absent = [s for s in self._streams if s not in self._newest]
        if absent:
            return f'no sample of {", ".join(absent)}'
        stale = self._stale(now, mono)
        if stale:
            return f'{stale} is older than its age limit'
        unconnected = self._ports.unconnected()
        if unconnected:
            return f'{unconnected} does not listen'
        wanted = self._goal.episode_id
        if 'safety' not in self._arrived:
            return 'the safety gate is silent'
        if self._safety_reason:
            return f'the safety gate is stopped: {self._safety_reason}'
        episode, ready, _, error = self._policy
        if episode != wanted or not ready:
            return f'the policy is not ready{": " + error if error else ""}'
        episode, state, _, error = self._recorder
        if episode != wanted or state != 'recording':
            return f'the recorder is not recording{": " + error if error else ""}'
        return ''

    def _prepare(self, now: int, mono: int) -> None:
        missing = self._missing(now, mono)
        if not missing:
            self.phase = Phase.TICKING
        elif (self._recorder[0] == self._goal.episode_id and self._recorder[1] == 'failed') \
                or mono - self._began > self._waits.prepare_s * SECOND:
            self._fail(missing)

    def _tick(self, now: int, mono: int) -> None:
        if self._lockstep:
            due = max(stamp for stamp, _ in self._newest.values()) if self._first \
                else self._stamp + spaces.CONTROL_PERIOD_NS
            late = [s for s in self._streams if self._newest[s][0] < due]
            if late:
                if mono - self._tick_mono > self._waits.lockstep_s * SECOND:
                    self._end(f'{Reason.STALE_SENSOR.value}:{late[0]}')
                return
            now = due
        stale = self._stale(now, mono)
        if not self._first:
            self.outcome.periods_ms.append((mono - self._tick_mono) * 1e-6)
        self._first = False
        self._tick_mono = mono
        self._take_samples(now)
        reason = self._reason_to_stop(stale, mono)
        if reason:
            self._end(reason)
            return
        self.phase = Phase.ACTING
        self._ports.tick(self._goal, now, self._index, self._stamps, self._last_action)

    def _take_samples(self, stamp: int) -> None:
        """Opens the tick at `stamp`: what is newest now is what it saw."""
        self._stamp, self._open = stamp, True
        self._stamps = {s: self._newest[s][0] for s in self._streams}
        self._samples = {s: self._newest[s][1] for s in self._streams}

    def _reason_to_stop(self, stale: str, mono: int) -> str:
        if self.outcome.peak_force_n >= self._limits.force_n:
            return f'{Reason.FORCE_LIMIT.value}:{self.outcome.peak_force_n:.1f} N'
        if self._safety_reason:
            return self._safety_reason
        if stale:
            return f'{Reason.STALE_SENSOR.value}:{stale}'
        bad = self._bad_sample()
        if bad:
            return f'{Reason.BAD_SENSOR.value}:{bad}'
        for peer, reason in (('safety', Reason.SAFETY_LOST), ('recorder', Reason.RECORDER_LOST)):
            wait = max(self._waits.heartbeat_s, self._waits.lockstep_s if self._lockstep else 0.0)
            if mono - self._arrived[peer] > wait * SECOND:
                return reason.value
        if self._index >= self._goal.max_steps:
            return Reason.TIME_LIMIT.value
        return ''

    def _bad_sample(self) -> str:
        """What is wrong with the tick's samples, or ''."""
        for stream, sample in self._samples.items():
            try:
                values = list(sample.values())
            except ValueError as e:
                return str(e)
            if not spaces.STREAMS[stream].is_image and not all(np.isfinite(v).all() for v in values):
                return f'{stream} is not finite'
        return ''

    def _stale(self, now: int, mono: int) -> str:
        """A stream older than its limit, or ''; in lockstep stamps are what is waited for instead."""
        if self._lockstep:
            return ''
        for s in self._streams:
            if now - self._newest[s][0] > self._limits.sensor_age_s[s] * SECOND:
                return s
        return ''

    def _await_action(self, mono: int) -> None:
        limit_s = self._waits.lockstep_s if self._lockstep else self._limits.policy_deadline_s
        waited = (mono - self._tick_mono) * 1e-9
        if waited > limit_s:
            self._end(f'{Reason.POLICY_LATE.value}:{waited * 1e3:.0f} ms')

    # ---- endings ------------------------------------------------------------------------------

    def _record(self, action, task: int, version: str, last: bool, latency_ms: float, reason: str = '') -> None:
        self._open = False
        try:
            values = rewards.rewards(observation.reward_inputs(self._samples))
        except ValueError:
            values = np.zeros(len(rewards.TASKS), np.float32)   # of a sample that is none
        self.last_rewards = values
        self.outcome.returns = self.outcome.returns + values
        terminated = last and Reason.of(reason).terminates
        oldest_ms = max(self._stamp - s for s in self._stamps.values()) * 1e-6
        self._ports.step(self._goal, StepRecord(
            stamp=self._stamp, index=self._index, stamps=self._stamps, last_action=self._last_action,
            action=action, task=task, policy_version=version, rewards=values,
            discount=0.0 if terminated else 1.0, last=last), oldest_ms, latency_ms)

    def _end_if_running(self, reason: str) -> None:
        if self.phase in (Phase.TICKING, Phase.ACTING):
            self._end(reason)

    def _end(self, reason: str) -> None:
        """Stops the arm first, then records the last state and announces the end."""
        self._ports.command(self._stamp, np.zeros(spaces.ACTION_SIZE, np.float32), False)
        if not self._open:  # ended between ticks: the last state is the newest one known
            self._take_samples(max(self._stamp + 1, *(self._newest[s][0] for s in self._streams)))
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
        episode, state, path, error = self._recorder
        if episode == self._goal.episode_id and state in ('sealed', 'failed', 'quarantined'):
            self.outcome.bag = path if state == 'sealed' else ''
            if state != 'sealed' and not self.outcome.error:
                self.outcome.error = f'recorder: {error}'
            self.phase = Phase.DONE
        elif mono - self._sealing_since > self._waits.seal_s * SECOND:
            self.outcome.error = self.outcome.error or 'the recorder did not seal the bag in time'
            self.phase = Phase.DONE
