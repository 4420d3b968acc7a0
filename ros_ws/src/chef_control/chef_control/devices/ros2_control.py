# SPDX-License-Identifier: Apache-2.0
"""Device `ros2_control`: any arm with a joint velocity controller of ros2_control, by its URDF. docs/arms.md."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from chef_control.devices.bridged_arm import BridgedArm
from chef_control.devices.device import DeviceError, OnBatch, OnLost
from chef_control.kinematics import Kinematics
from chef_task.cell import Mount
from chef_task.settings import option

_STOP_S, _AGAIN_S = 0.5, 0.02


@dataclass(frozen=True)
class Ros2ControlSettings:
    """Settings of devices.arm with `driver: ros2_control`."""

    urdf: str = option('', 'path of the arm\'s URDF; from the cell')
    joints: tuple[str, ...] = option((), 'names of the arm\'s joints; from the cell')
    pinch: Mount = Mount()
    controller: str = option('/velocity_controller', 'the controller, a JointGroupVelocityController (velocity_controllers) '
                             'or a ForwardCommandController of velocities, for exactly the cell\'s joints in their order')
    joint_states: str = option('/joint_states', 'topic of the joint_state_broadcaster')
    domain_id: int = option(0, 'ROS_DOMAIN_ID of the arm\'s own graph; -1: that of the cell', low=-1, high=232)
    effort: bool = option(True, 'whether the arm tells joint torques; without, they are told as 0')
    stamps: str = option('arrival', 'of samples: when they arrive here, or those of the messages',
                         choices=('arrival', 'message'))
    rate_hz: float = option(100.0, 'Hz, of the samples, at most', above=0.0)
    start_deadline_s: float = option(10.0, 's, for each step of the start', above=0.0)


class Ros2Control(BridgedArm):
    """The arm, from when its controller listens and its joints are told. Samples: 'joints' and, from them, 'tcp'.

    Such controllers follow their last command for ever: so the process that commands and the driver watch each other,
    and the one that is left stops the arm. Nothing does if both are lost at once.

    Raises:
      DeviceError: the URDF is wrong, no controller listens, or joints are not told as they must be.
    """

    Settings = Ros2ControlSettings

    def __init__(self, settings: Ros2ControlSettings, on_batch: OnBatch, on_lost: OnLost):
        self._settings = settings
        self._begun = False
        try:
            self._kinematics = Kinematics(settings.urdf, settings.joints, settings.pinch if settings.pinch.link else None)
        except ValueError as e:
            raise DeviceError(f'arm ros2_control: {e}') from None
        self._brake = Brake(settings.controller, len(settings.joints), settings.domain_id)
        try:
            super().__init__(on_batch, on_lost, where=f'arm {settings.controller}', process='its process',
                             deadline_s=settings.start_deadline_s)
        except BaseException:
            self._brake.close()
            raise

    def start_process(self, fd: int) -> subprocess.Popen:
        s = self._settings
        env = dict(os.environ)
        if s.domain_id >= 0:
            env['ROS_DOMAIN_ID'] = str(s.domain_id)
        command = [sys.executable, '-m', 'chef_control.ros2_bridge', '--fd', str(fd), '--controller', s.controller,
                   '--joint-states', s.joint_states, '--joints', ','.join(s.joints), '--stamps', s.stamps,
                   '--rate-hz', str(s.rate_hz), '--deadline-s', str(s.start_deadline_s)] + ['--effort'] * s.effort
        return subprocess.Popen(command, env=env, pass_fds=(fd,), stdin=subprocess.DEVNULL, start_new_session=True)

    def accept(self, sample: dict) -> list[dict]:
        self._begun = True
        return [sample, self._kinematics.tcp_sample(sample)]

    def ready(self) -> bool:
        return self._begun

    def alone(self) -> None:
        self._brake.stop()

    def close(self) -> None:
        """Stops the arm and ends its process."""
        super().close()
        self._brake.close()


class Brake:
    """A second publisher of the arm's commands, in the driver's own process, for zeros alone."""

    def __init__(self, controller: str, size: int, domain_id: int):
        import rclpy
        from rclpy.signals import SignalHandlerOptions
        from std_msgs.msg import Float64MultiArray

        # a context of its own: the arm's graph may be another one than the cell's
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_id if domain_id >= 0 else None,
                   signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node('chef_brake', context=self._context, enable_rosout=False,
                                       start_parameter_services=False)
        self._zeros = Float64MultiArray(data=[0.0] * size)
        self._publisher = self._node.create_publisher(Float64MultiArray, f'{controller}/commands', 1)

    def stop(self) -> None:
        """Commands zero velocity for half a second."""
        end = time.monotonic() + _STOP_S
        while time.monotonic() < end:
            self._publisher.publish(self._zeros)
            time.sleep(_AGAIN_S)

    def close(self) -> None:
        if self._context.ok():
            with contextlib.suppress(Exception):    # a middleware that is going down already
                self._node.destroy_node()
            self._context.try_shutdown()
