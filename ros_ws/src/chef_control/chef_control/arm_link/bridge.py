# SPDX-License-Identifier: Apache-2.0
"""The process between an arm's driver and its robot: commands to the one, samples to the other."""

from __future__ import annotations

import os
import select
import signal
import time

from .watch import Watch
from .wire import HEARTBEAT_S, Link, WireError, velocity_of

_PERIOD_S = 0.01    # of the commands to the robot
LAST_WORDS_S = 2.0  # for a driver that has stopped reading


class RobotError(Exception):
    """The robot is not there or cannot move; one line."""


class Bridge:
    """Between a link and a robot, both already there. Ends by `run`'s return; then the robot has been stopped.

    robot: has `move(velocity)` and `fault() -> str`, why it can no longer be driven.
    """

    def __init__(self, link, robot, size, clock=time.monotonic):
        self._link, self._robot, self._size, self._clock = link, robot, size, clock
        self._watch = Watch(size, clock())

    def on_sample(self, sample):
        """From the robot, in any thread."""
        if sample['stream'] == 'joints':
            self._watch.robot_lives(self._clock())
        try:
            self._link.send('samples', samples=[sample])
        except WireError:
            pass    # `run` sees it too

    def run(self):
        """Until the driver closes the link or something fails; '' or the cause, in one line."""
        due = beat = self._clock()
        try:
            while True:
                select.select([self._link], [], [], max(0.0, due - self._clock()))
                while (packet := self._link.receive()) is not None:
                    if packet['kind'] == 'close':
                        return ''
                    if packet['kind'] == 'command':
                        self._watch.command(velocity_of(packet, self._size), self._clock())
                        due = self._clock()     # at once
                self._watch.driver_lives(self._link.heard_s)
                now = self._clock()
                if now < due:
                    continue
                due = now + _PERIOD_S
                velocity = self._watch.output(now)
                if velocity is not None:
                    self._robot.move(velocity)
                if now >= beat:
                    beat = now + HEARTBEAT_S
                    self._link.send('heartbeat')
                if fault := self._robot.fault() or self._watch.fault(now):
                    return fault
        except WireError as e:
            return 'the driver: %s' % e
        finally:
            self._robot.move([0.0] * self._size)


def serve(link, size, start):
    """Runs a bridge and ends the process, with 1 after telling the driver what failed.

    start: called with a function for the robot's samples; gives the robot, ready to move, and what to do at the end.
        RobotError if it cannot.
    """
    for number in (signal.SIGINT, signal.SIGTERM):      # the driver says when to end
        signal.signal(number, signal.SIG_IGN)
    bridges = []
    try:
        robot, at_end = start(lambda sample: [b.on_sample(sample) for b in bridges])
        bridge = Bridge(link, robot, size)
        link.send('ready')
        bridges.append(bridge)
        error = bridge.run()
        at_end()
    except (RobotError, WireError) as e:
        error = str(e)
    except Exception as e:      # the middleware's own
        error = '%s: %s' % (type(e).__name__, ' '.join(str(e).split()))
    leave(link, error)


def leave(link, error):
    """Ends the process at once: the middleware's threads would hold it up."""
    end = time.monotonic() + LAST_WORDS_S
    try:
        while error and not link.send('error', text=error[:800]) and time.monotonic() < end:
            time.sleep(0.02)
    except WireError:
        pass
    time.sleep(0.05)    # for the middleware to write the last command
    os._exit(1 if error else 0)
