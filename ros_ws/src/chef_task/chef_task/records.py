# SPDX-License-Identifier: Apache-2.0
"""The records of an episode: why it ended, one step, the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np


class Reason(str, Enum):
    """Why an episode ended. In messages and bags the value may carry a detail: 'stale_sensor:wrench'."""

    TIME_LIMIT = 'time_limit'              # the full number of steps: a truncation
    FORCE_LIMIT = 'force_limit'            # wrist force reached the limit: a termination
    STALE_COMMAND = 'stale_command'        # the safety gate got no command in time
    STALE_SENSOR = 'stale_sensor'          # a stream is silent, its stamps are old, or its content is frozen
    BAD_SENSOR = 'bad_sensor'              # a sample is not finite, out of its range or of a wrong shape
    CLOCK_JUMP = 'clock_jump'              # stamps or the clock went back, or stamps are ahead of the clock
    LIMIT_VIOLATED = 'limit_violated'      # a joint or the tool left its range
    POLICY_LATE = 'policy_late'            # no action within the deadline
    POLICY_INVALID = 'policy_invalid'      # an action that is not finite or has a wrong shape, or none at all
    POLICY_LOST = 'policy_lost'            # the policy says in mid-episode that it is not ready: it was restarted
    SAFETY_LOST = 'safety_lost'            # the safety gate's heartbeat stopped
    RECORDER_LOST = 'recorder_lost'        # the recorder's heartbeat or its writing stopped, or it reported an error
    NODE_LOST = 'node_lost'                # a process of the cell died; told by whoever started it
    OPERATOR_STOP = 'operator_stop'        # somebody called safety/stop
    INACTIVE = 'inactive'                  # a node that moves the arm is not active (its lifecycle)
    EPISODE_NODE_LOST = 'episode_node_lost'  # written by the recorder when the episode node is gone
    CANCELLED = 'cancelled'                # the client cancelled the action
    SHUTDOWN = 'shutdown'                  # the graph was stopped

    @classmethod
    def of(cls, text: str) -> Reason:
        """The reason in a text that may carry a detail; ValueError if there is none."""
        return cls(text.split(':', 1)[0])

    @property
    def terminates(self) -> bool:
        """Whether the value of the last state is zero (a force stop); else learning bootstraps from it."""
        return self is Reason.FORCE_LIMIT

    @property
    def is_fault(self) -> bool:
        """Whether the cell, not the policy or the clock, ended the episode."""
        return self not in (Reason.TIME_LIMIT, Reason.FORCE_LIMIT, Reason.CANCELLED)


@dataclass(frozen=True)
class StepRecord:
    """One Step, decoded.

    stamps: stream name to capture stamp, ns. last_action, action: float32 [5]. rewards: float32 [tasks].
    task: index of the task that acted. discount: 1, or 0 where the episode terminated.
    """

    stamp: int
    index: int
    stamps: dict[str, int]
    last_action: np.ndarray
    action: np.ndarray
    task: int
    policy_version: str
    rewards: np.ndarray
    discount: float
    last: bool


@dataclass(frozen=True)
class EpisodeRecord:
    """An episode as its bag tells it. `metadata` holds limits, software versions and configuration."""

    episode_id: str
    cell: str
    triplet: int
    seed: int
    tasks: tuple[str, ...]
    policy_version: str
    steps: int
    termination_reason: str
    success: bool
    peak_force_n: float
    returns: tuple[float, ...]
    start_ns: int
    end_ns: int
    metadata: dict = field(default_factory=dict)
