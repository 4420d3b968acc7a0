# SPDX-License-Identifier: Apache-2.0
"""What an episode knows of safety gate, policy and recorder, from their heartbeats. No ROS."""

from __future__ import annotations

from chef_task.records import Reason


class Peers:
    """Keeps the newest heartbeats and tells, for an episode, who is missing, who refuses it and who was lost.

    `mono` is a monotonic clock, ns. What the methods return is '' where nothing is wrong.
    """

    def __init__(self):
        self.stopped = ''                       # why the safety gate is stopped
        self._policy = ('', False, '')          # episode, ready, error
        self._recorder = ('', '', '', '')       # episode, state, path, error
        self._messages = -1
        self._heard: dict[str, int] = {}        # when a heartbeat came
        self._wrote = 0                         # when the recorder's messages last became more

    def on_safety(self, reason: str, mono: int) -> None:
        """reason: empty while the gate lets commands through."""
        self.stopped, self._heard['safety'] = reason, mono

    def on_policy(self, episode_id: str, ready: bool, error: str) -> None:
        """ready: to answer ticks of that episode."""
        self._policy = (episode_id, ready, error)

    def on_recorder(self, episode_id: str, state: str, path: str, error: str, messages: int, mono: int) -> None:
        """state: as in `recording`. messages: in the bag so far."""
        if (episode_id, state, messages) != (*self._recorder[:2], self._messages):
            self._wrote = mono
        self._recorder, self._messages, self._heard['recorder'] = (episode_id, state, path, error), messages, mono

    def begin(self, mono: int) -> None:
        """The first tick goes out: from now on there is something to write."""
        self._wrote = max(self._wrote, mono)

    def missing(self, episode_id: str) -> str:
        """Who is not ready for the episode."""
        if 'safety' not in self._heard:
            return 'the safety gate is silent'
        if self.stopped:
            return f'the safety gate is stopped: {self.stopped}'
        episode, ready, error = self._policy
        if episode != episode_id or not ready:
            return f'the policy is not ready{": " + error if error else ""}'
        episode, state, _, error = self._recorder
        if episode != episode_id or state != 'recording':
            return f'the recorder is not recording{": " + error if error else ""}'
        return ''

    def refused(self, episode_id: str) -> bool:
        """Whether waiting for `missing` is in vain: policy or recorder have said that they cannot."""
        episode, ready, error = self._policy
        return (episode == episode_id and not ready and bool(error)) \
            or self._recorder[:2] == (episode_id, 'failed')

    def left(self, episode_id: str) -> str:
        """Who has turned away from the running episode, as the reason that ends it."""
        episode, ready, error = self._policy
        if not ready or episode != episode_id:
            return f'{Reason.POLICY_INVALID.value}:{error}' if error else \
                f'{Reason.POLICY_LOST.value}:it is not ready any more'
        episode, state, _, error = self._recorder
        if (episode, state) != (episode_id, 'recording'):
            return f'{Reason.RECORDER_LOST.value}:{error or f"it is {state} in mid-episode"}'
        return ''

    def silent(self, mono: int, wait_s: float) -> str:
        """Whose heartbeat, or whose writing, stopped longer ago than that, as the reason that ends the episode."""
        since = {f'{Reason.SAFETY_LOST.value}:silent': self._heard['safety'],
                 f'{Reason.RECORDER_LOST.value}:silent': self._heard['recorder'],
                 f'{Reason.RECORDER_LOST.value}:nothing written': self._wrote}
        for reason, at in since.items():
            if mono - at > wait_s * 1e9:
                return f'{reason} for {(mono - at) * 1e-6:.0f} ms'
        return ''

    def recorder_silent_ns(self, mono: int) -> int:
        """How long ago its last heartbeat was, ns."""
        return mono - self._heard['recorder']

    def sealed(self, episode_id: str) -> tuple[str, str] | None:
        """(path of the bag, error) once the recorder is done with the episode; one of them is ''."""
        episode, state, path, error = self._recorder
        if episode != episode_id or state not in ('sealed', 'failed', 'quarantined'):
            return None
        return (path, '') if state == 'sealed' else ('', f'recorder: {error}')
