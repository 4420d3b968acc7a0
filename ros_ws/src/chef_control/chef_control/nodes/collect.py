# SPDX-License-Identifier: Apache-2.0
"""Executable `collect`: reset, episode, reset, episode ...; prints a summary and ends the graph."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_msgs.msg import Bool

from chef_control.collection import Collection
from chef_control.goals import Goals
from chef_control.handshake import Handshake
from chef_control.health import Report
from chef_control.node import LOCKSTEP, RUN_DIR, CellNode, ConfigError, Param, run
from chef_control.orders import Orders, Task
from chef_control.trial_list import TrialList
from chef_msgs.action import ResetScene, RunEpisode
from chef_task.qos import profile
from chef_task.records import Reason


class CollectNode(CellNode):
    """A chain of action calls, see `goals`.

    The loss of any node makes the try under way the last.
    """

    PARAMS = (RUN_DIR, LOCKSTEP,
              Param('episodes', 10, 'how many to collect'),
              Param('steps', 400, 'control steps an episode'),
              Param('triplet', 1, 'object triplet, 1..5'),
              Param('seed', 0, 'of the resets; episode k uses a seed derived from it'),
              Param('trials', '', 'path of a list of trials, to be run instead: each with its policy and scene'),
              Param('orders', False, 'do what an experiment asks for by the storage: collect, run trials, or rest'),
              Param('episode_deadline_s', 600.0, 's, wall time of one episode at most'),
              Param('reset_deadline_s', 180.0, 's, wall time of one reset at most'),
              Param('operator_deadline_s', 600.0, 's, for an operator to clear their stop or activate their node'),
              Param('start_deadline_s', 60.0, 's, for the action servers to appear'))
    HEARS_OF_LOSS = True
    TRIES = 3       # failures in a row that end the run
    POLICY_S = 60.0     # for the policy node to load another
    ORDER_S = 15.0      # from the start, for node `storage` to say what the storage says
    REST_S = 0.5        # between two looks at the order of a cell that rests
    PAUSE_S = 1.0   # after a failure, for what was late to catch up
    SETTLE_S = 5.0  # after the start a failed try is repeated without being counted: when a node first
    #                 sends to another, Fast DDS may look for up to a third of a second whether that one listens,
    #                 and meanwhile the node is silent for all

    def __init__(self, name: str):
        super().__init__(name)
        p = self.params
        self._collection = Collection(p['run_dir'])
        self._seeds = np.random.default_rng(p['seed'])
        self._trials = self._read_trials()
        self._orders = Orders(Path(p['run_dir']), self.ORDER_S) if p['orders'] and not self._trials else None
        self._task = Task()     # what is under way
        self._acting = ''       # policy that was chosen; '': what the policy node was started with
        self._resting = ''      # why, if so
        self._policy = self.create_client(SetParameters, 'policy/set_parameters')
        self._policy_by: float | None = None        # until when the policy node has to answer
        self._complete = 0      # episodes that no fault ended; others are recorded but do not count
        self._failures = 0
        self._resume_at: float | None = None
        self._settled_at = 0.0
        self._operator_by: float | None = None      # until when an operator's stop is waited out
        self._reset = Goals(self, ResetScene, 'reset_scene', self._failed)
        self._run = Goals(self, RunEpisode, 'run_episode', self._failed)
        self._start_by = time.monotonic() + p['start_deadline_s']
        self._stopping = False
        self.every(0.1, self._watch)
        self._cell_active = False
        self.create_subscription(Bool, 'cell_active', self._on_cell_active, profile('state'))
        self._handshake = Handshake(self, ('reset', 'episode', 'policy', 'recorder'))

    def _read_trials(self) -> TrialList | None:
        if not self.params['trials']:
            return None
        try:
            return TrialList(Path(self.params['trials']), Path(self.params['run_dir']))
        except ValueError as e:
            raise ConfigError(e) from None

    # ---- waiting ------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._start_by is not None:
            self._await_start()
        for goals in (self._reset, self._run):
            goals.poll()
        if self._policy_by is not None and time.monotonic() > self._policy_by:
            self._policy_by = None
            self._failed('policy: did not take another in time')
        if self._start_by is None and self.node_lost and self.finished is None and not (
                self._reset.waiting or self._run.waiting):
            # not before: others may still be starting, and have the grace to get as far as to stop in good order
            self._give_up('a node of the graph was lost')
        if self._resume_at is not None and time.monotonic() > self._resume_at:
            self._resume_at = None
            self._next()

    def _on_cell_active(self, m: Bool) -> None:
        self._cell_active = m.data

    def _await_start(self) -> None:
        self._handshake.poll()
        silent = sorted(self._handshake.waiting) or [
            name for name, ready in (('reset', self._reset.ready), ('episode', self._run.ready),
                                     ('manager', self._cell_active)) if not ready]
        if not silent:
            self._start_by, self._settled_at = None, time.monotonic() + self.SETTLE_S
            self._next()
        elif self.finished is None and time.monotonic() > self._start_by:
            self._give_up(f'{", ".join(silent)} did not answer in time')

    def _give_up(self, error: str) -> None:
        self.get_logger().error(error)
        self._summarise()
        self.finished = 1

    def _failed(self, error: str) -> None:
        """One failed try; the next follows unless there were too many in a row."""
        if self._stopping:
            return
        if self.node_lost:     # `_watch` ends it
            self.get_logger().warning(error)
            return
        if Reason.OPERATOR_STOP.value in error and self._wait_for_operator('stopped', 'safety/clear'):
            return
        if (Reason.INACTIVE.value in error or not self._cell_active) and self._wait_for_activation():
            return
        self.get_logger().warning(error)
        if time.monotonic() < self._settled_at:
            self._resume_at = time.monotonic() + self.PAUSE_S
            return
        self._failures += 1
        if self._failures >= self.TRIES:
            self._give_up(f'{self._failures} failures in a row, the last: {error}')
        else:
            self._resume_at = time.monotonic() + self.PAUSE_S

    def _wait_for_activation(self) -> bool:
        return self._wait_for_operator('held', 'all nodes to be active')

    def _wait_for_operator(self, what: str, until: str) -> bool:
        """What a person has stopped is no failure, and is tried again until they allow it, for a while."""
        now, limit_s = time.monotonic(), self.params['operator_deadline_s']
        if self._operator_by is None:
            self._operator_by = now + limit_s
            self.get_logger().warning(f'{what} by an operator: waits for {until}, {limit_s:g} s at most')
        self._resume_at = now + self.PAUSE_S
        return now < self._operator_by

    # ---- the loop -----------------------------------------------------------------------------

    def _next(self) -> None:
        if self._stopping or self.node_lost:
            return
        p, trials = self.params, self._trials
        if not trials.left if trials else self._complete >= p['episodes']:
            self._summarise()
            self.finished = 0
            return
        if not self._cell_active:
            if not self._wait_for_activation():
                self._give_up('a node of the cell is not active')
            return
        if trials:
            self._task = Task(trials.left[0].policy, seed=trials.left[0].seed)
        elif self._orders is None:
            self._task = Task()
        elif (task := self._orders.next()) is None:
            self._rest(self._orders.why)
            return
        else:
            self._task, self._resting = task, ''
        if self._task.triplet not in (0, p['triplet']):
            self._give_up(f'the storage asks for triplet {self._task.triplet}, this cell has triplet {p["triplet"]}')
            return
        self._seed = int(self._seeds.integers(2**31)) if self._task.seed is None else self._task.seed
        if self._task.policy or self._acting:
            self._choose(self._task.policy, self._task.task)
        else:
            self._send_reset()

    def _rest(self, why: str) -> None:
        """Looks again soon: for as long as the storage has nothing to do, which may be days."""
        if why != self._resting:
            self._resting = why
            self.get_logger().info(f'the cell {why}')
        self._resume_at = time.monotonic() + self.REST_S

    def _choose(self, policy: str, task: str) -> None:
        """Has the policy node take a trial's policy, or its own again, then resets."""
        self._policy_by = mine = time.monotonic() + self.POLICY_S

        def answered(future) -> None:
            if self._policy_by != mine:
                return
            self._policy_by = None
            wrong = [r.reason for r in future.result().results if not r.successful]
            if wrong:
                self._failed(f'policy: {wrong[0]}')
            else:
                self._acting = policy
                self._send_reset()
        request = SetParameters.Request(parameters=[     # one after the other, in this order
            Parameter(name, value=value).to_parameter_msg() for name, value in (('next_task', task), ('next_policy', policy))])
        self._policy.call_async(request).add_done_callback(answered)

    def _send_reset(self) -> None:
        if self._stopping or self.node_lost:
            return
        p = self.params
        self._reset.send(ResetScene.Goal(triplet=p['triplet'], seed=self._seed), self._on_reset,
                         p['reset_deadline_s'])

    def _on_reset(self, result: ResetScene.Result) -> None:
        if result.error_code:
            self._failed(f'reset: {result.error_msg}')
            return
        p = self.params
        self._operator_by = None
        goal = RunEpisode.Goal(triplet=p['triplet'], seed=self._seed, max_steps=self._task.steps or p['steps'],
                               asked=self._task.about)
        self._run.send(goal, self._on_episode, p['episode_deadline_s'])

    def _on_episode(self, result: RunEpisode.Result) -> None:
        if result.bag:
            line = self._collection.add(
                reason=result.termination_reason, success=result.success, steps=result.steps,
                policy_version=result.policy_version, peak_force_n=result.peak_force_n,
                returns=result.returns, bag=result.bag, periods_ms=result.periods_ms,
                latencies_ms=result.latencies_ms)
            self.get_logger().info(line)
        if result.error_code:
            self._failed(f'episode: {result.error_msg}')
        else:
            self._complete += 1
            self._failures = 0
            if self._trials:
                self._trials.done(result.episode_id)
            elif self._orders:
                self._orders.done(self._task, result.episode_id)
            self._next()

    def diagnose(self, report: Report) -> None:
        report.values |= {'episodes': self._complete, 'failures_in_a_row': self._failures, 'resting': self._resting}
        if self._failures:
            report.warn(f'{self._failures} failures in a row')

    def stop(self) -> bool:
        """Asked to end: cancels what is under way and waits for it, so that its bag is sealed."""
        under_way = [goals for goals in (self._reset, self._run) if goals.waiting]
        if self.finished is None and not self._stopping:
            self._stopping = True
            for goals in under_way:
                goals.cancel()
        if not under_way and self._stopping:
            self._stopping = False
            self._summarise()
        return not under_way

    def _summarise(self) -> None:
        print(self._collection.summary(), flush=True)


def main() -> None:
    run(CollectNode, 'collect')
