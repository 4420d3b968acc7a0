# SPDX-License-Identifier: Apache-2.0
"""A whole simulated cell in one process, without messages: what `speed:=max` does, as fast as Python goes.

The classes are the graph's: `World`, `VelocityController`, `SafetyGate`, `ResetRunner` and `EpisodeMachine`, in the
graph's lockstep: samples of a period, tick, action, command, 50 ms of physics. docs/simulation.md tells what is the
same and what is not.

    cell = SimulatedCell(CellConfig.load('config/cells/sim.yaml'), physics='fast')
    cell.reset(triplet=1, seed=7)
    outcome = cell.run('first', 400, actor, lambda step, features: ...)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from chef_control.episode import EpisodeMachine
from chef_control.episode_types import Goal, Outcome, Phase, Waits
from chef_control.kinematics import Kinematics
from chef_control.reset import OPEN, Move, Servo, random_tool_pose
from chef_control.reset_runner import ResetError, ResetRunner
from chef_control.reset_senses import Senses
from chef_control.safety import HOLD, MOVE, JointCommand, SafetyGate
from chef_control.simulated_reset import Tracker, carry_out
from chef_control.simulated_samples import Samples
from chef_control.velocity_control import ControllerConfig, VelocityController
from chef_sim.engine import mujoco
from chef_sim.placement import PlacementError
from chef_sim.server import LOCKSTEP_START_NS, SLICE_NS
from chef_sim.world import HOME, World
from chef_task import geometry, observation, spaces
from chef_task.cell import CellConfig
from chef_task.errors import OneLineError
from chef_task.observation import PINCH_FROM_TCP
from chef_task.records import Reason, StepRecord
from chef_task.rewards import MAIN_TASK, TASKS

MAIN = TASKS.index(MAIN_TASK)
RESETS = ('set', 'move')
_SLICES = spaces.CONTROL_PERIOD_NS // SLICE_NS
_STRIDE = 4         # control periods in one step of the arm to its start pose, where that is not simulated
_STRIDES = 200      # at most
_FOREVER_S = 1e6    # nobody is waited for
_FOREVER = Waits(**dict.fromkeys((f.name for f in dataclasses.fields(Waits)), _FOREVER_S))


class CellError(OneLineError):
    """The scene could not be reset."""


class Actor(Protocol):
    """What acts: a policy with what the graph's policy node does for it (chef_learning.acting.Acting)."""

    version: str

    def start(self) -> None:
        """Before an episode's first tick."""

    def act(self, features: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
        """(action [5], task) for the features of this tick, as `observation.features` has them."""

    def reward(self, value: float) -> None:
        """The main task's reward of the state that the last action led to."""


OnStep = Callable[[StepRecord, Mapping[str, np.ndarray]], None]     # every Step with its features, the last included


class SimulatedCell:
    """One cell, its world included.

    Args:
      config: of the cell.
      physics: 'exact' or 'fast'.
      observation: 'state' or 'pixels'.
      triplet: 1..5, the objects in the basket until a reset asks for others.
      seed: of the objects' first places, as the graph's argument.
      reset: 'move' the arm to its start pose as the graph does, or 'set' it there.

    Attributes: reset_runner, what carried out the last reset that moved the arm.
    """

    def __init__(self, config: CellConfig, *, physics: str = 'fast', observation: str = 'state', triplet: int = 1,
                 seed: int = 0, reset: str = 'set'):
        if reset not in RESETS:
            raise ValueError(f'reset must be one of {", ".join(RESETS)}, not {reset!r}')
        self._config, self._reset, self.observation = config, reset, observation
        self._kinematics = Kinematics(config.urdf, spaces.JOINTS)
        self._controller = VelocityController(self._kinematics, config.limits,
                                              ControllerConfig(config.home_rad, config.gripper))
        self.world = World(triplet, physics, seed, start_ns=LOCKSTEP_START_NS)
        self._samples = Samples(self.world, observation)
        self._parked = self.world.data.qpos[self.world.index.objects_qpos].copy()
        self._new = True
        self.reset_runner: ResetRunner | None = None
        self._machine: EpisodeMachine | None = None     # of the episode under way

    @property
    def software(self) -> dict[str, str]:
        """What else decides what an episode is: name to version."""
        return {'mujoco': mujoco.__version__}

    @property
    def samples(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """Stream to sample of the Step that `on_step` is told of."""
        return self._machine.samples

    # ---- reset ----------------------------------------------------------------------------------

    def reset(self, triplet: int, seed: int, renew: bool = True) -> None:
        """Objects at random places, the arm at a random pose: a function of triplet and seed alone.

        Args:
          renew: in a world in which nothing has happened yet, at 1 s; else from where the last episode left it, as
            the graph does, which takes `reset` 'move'.

        Raises:
          CellError: the objects could not be placed, or the arm did not get there.
          ValueError: there is no such triplet.
        """
        if not renew and self._reset != 'move':
            raise ValueError('only a reset that moves the arm can start where an episode has ended')
        self._scene, self._machine = (triplet, seed), None
        if renew:
            self._renew(triplet)
        else:
            self._advance()     # the hold that ended the episode
        self._rearm()
        try:
            if self._reset == 'move':
                self._carry_out('place', triplet, seed)
            else:
                self._set(seed)
        except (ResetError, PlacementError) as e:
            raise CellError(e) from None
        if self._gate.stopped:
            raise CellError(self._gate.why)

    def _renew(self, triplet: int) -> None:
        """A world in which nothing has happened yet."""
        if triplet != self.world.triplet:
            self.world.set_triplet(triplet, 0)
            self._parked = self.world.data.qpos[self.world.index.objects_qpos].copy()
        elif self._new:     # as the graph finds it
            self._new = False
            return
        self.world.reset(LOCKSTEP_START_NS)
        self.world.set_objects(self._parked)

    def stir(self, seed: int, tracker: Tracker | None = None) -> None:
        """The reset without hands, by moving the robot only, from the state the world is in.

        Args:
          tracker: what it is told of the objects, instead of where they are.

        Raises:
          CellError: it failed.
        """
        self._scene, self._machine = (self.world.triplet, seed), None
        self._advance()
        self._rearm()
        try:
            self._carry_out('stir', self.world.triplet, seed, tracker)
        except ResetError as e:
            raise CellError(e) from None

    def _rearm(self) -> None:
        self._gate = SafetyGate(self._config.limits, _FOREVER_S, self._kinematics.joint_limits)
        self._watch()
        if error := self._gate.clear():
            raise CellError(error)

    def _carry_out(self, routine: str, triplet: int, seed: int, tracker: Tracker | None = None) -> None:
        carry_out(routine, triplet, seed, world=self.world, limits=self._config.limits, gate=self._gate,
                  advance=self._advance, tracker=tracker, began=lambda runner: setattr(self, 'reset_runner', runner),
                  command=lambda stamp, action, move: self._command(stamp, action, move, 'reset'))

    def _set(self, seed: int) -> None:
        """The same start pose by the same servo and controller, but the arm follows at once, in strides of 0.2 s."""
        position, yaw = random_tool_pose(np.random.default_rng(seed))
        move, servo, q = Move('arm', position, yaw, OPEN), Servo(), HOME.copy()
        for _ in range(_STRIDES):
            pinch = self._pinch(q)
            if servo.arrived(move, pinch):
                self.world.set_arm(q)
                self.world.place(seed)
                return
            velocity = self._controller.joint_velocity(servo.action(move, pinch), q, 'reset')
            q = q + velocity * (_STRIDE / spaces.CONTROL_HZ)
        raise CellError('the arm did not get to its start pose')

    def _pinch(self, q: np.ndarray) -> np.ndarray:
        """Pose of the pinch, [7], at joint positions."""
        position, rotation = self._kinematics.pose(q, 'pinch')
        return np.concatenate([position, geometry.from_matrix(rotation)])

    # ---- episodes -------------------------------------------------------------------------------

    def run(self, episode_id: str, max_steps: int, actor: Actor, on_step: OnStep) -> Outcome:
        """One episode, from the state the world is in; what `actor` raises comes through."""
        goal = Goal(episode_id, *self._scene, max_steps)
        machine = self._machine = EpisodeMachine(spaces.streams_of(self.observation), self._config.limits, self, True,
                                                 _FOREVER, self._kinematics.joint_limits)
        self._on_step, self._actor = on_step, actor
        self._features: Mapping[str, np.ndarray] | None = None
        now = self.world.stamp_ns
        self._watch()
        self._feed(now)
        machine.begin(goal, now, now)
        actor.start()
        machine.on_policy(goal.episode_id, True, '')
        self._beat(goal, now)
        machine.poll(now, now)
        while machine.phase is Phase.ACTING:
            now = self.world.stamp_ns
            action, task = actor.act(self._features)
            machine.on_action(goal.episode_id, self._index, action, task, actor.version, now)
            if machine.phase is not Phase.TICKING:
                break
            self._advance()
            now = self.world.stamp_ns
            self._feed(now)
            self._beat(goal, now)
            machine.poll(now, now)
        if machine.phase is Phase.SEALING:
            machine.on_recorder(goal.episode_id, 'sealed', '-', '', self._index, now)
            machine.poll(now, now)
        self._machine = None
        machine.outcome.bag = ''
        return machine.outcome

    def stop(self, reason: Reason = Reason.CANCELLED) -> None:
        """Ends the episode under way, from within `actor.act` or `on_step`."""
        self._machine.cancel(reason.value)

    def _beat(self, goal: Goal, now: int) -> None:
        """What the gate's and the recorder's heartbeats say; there is no other recorder than `on_step`."""
        self._machine.on_safety('' if self._stopped_by_force() else self._gate.why, now)
        self._machine.on_recorder(goal.episode_id, 'recording', '', '', now, now)

    def _stopped_by_force(self) -> bool:
        # In the graph, machine and gate see the force at the same time, and either may be the first to end the
        # episode. Here it is always the machine, at its next tick, which has all samples.
        return self._gate.reason.startswith(Reason.FORCE_LIMIT.value)

    def _feed(self, now: int) -> None:
        taken = {'joints': self._joints, **self._samples.of_tick(), 'wrench': self._wrench}
        for stream, sample in taken.items():
            self._machine.on_sample(stream, now, sample, now)

    def _advance(self, senses: Senses | None = None) -> None:
        """One control period; gate and machine see every sample of the wrist, the gate every one of the joints."""
        world, machine = self.world, self._machine
        for k in range(_SLICES):
            world.advance(SLICE_NS)
            self._watch()
            if senses is not None:
                senses.on_wrench(self._wrench['force'])
            if machine is not None and k < _SLICES - 1:
                machine.on_sample('wrench', world.stamp_ns, self._wrench, world.stamp_ns)
        if self._gate.stopped:      # the drivers are told, but time was under way
            world.stop()

    def _watch(self) -> None:
        """What the gate is told at the devices' native rate."""
        now = self.world.stamp_ns
        joints, wrench = self.world.sample('joints'), self.world.sample('wrench')
        self._gate.on_joints(joints['position'], joints['velocity'], now)
        self._gate.on_wrench(wrench['force'], wrench['torque'], now)
        self._joints = {k: np.array(joints[k]) for k in ('position', 'velocity', 'effort')}
        self._wrench = {'force': np.array(wrench['force']), 'torque': np.array(wrench['torque'])}

    def _command(self, stamp: int, action, move: bool, source: str) -> None:
        """Controller, gate and drivers, as the graph chains them."""
        velocity, gripper = np.zeros(len(spaces.JOINTS)), 0.0
        if move:
            velocity = self._controller.joint_velocity(action, self._joints['position'], source)
            gripper = self._controller.gripper_velocity(action)
        out = self._gate.filter(JointCommand(stamp, MOVE if move else HOLD, velocity, gripper), stamp)
        self.world.command_arm(out.velocity, out.stamp)
        self.world.command_gripper(out.gripper, out.stamp)

    # ---- Ports of the machine -------------------------------------------------------------------

    def unconnected(self) -> str:
        return ''

    def start(self, goal: Goal, stamp: int) -> None:
        pass

    def tick(self, goal, stamp, index, stamps, last_action) -> None:
        self._index = index
        self._features = observation.features(self._machine.samples, last_action)

    def command(self, stamp, action, move) -> None:
        self._command(stamp, action, move, 'episode')

    def step(self, goal, step: StepRecord, age_ms, latency_ms) -> None:
        features = self._features
        if step.last:       # a tick that found the end was never announced
            features = observation.features(self._machine.samples, step.last_action)
        self._on_step(step, features)
        if step.index:
            self._actor.reward(float(step.rewards[MAIN]))

    def end(self, outcome, stamp) -> None:
        pass
