#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drives the stand-in Sawyer with the robot's own Python interface, unmodified: is the one like the other?

    ./chef env python docs/examples/check_intera.py INTERA_SDK INTERA_COMMON

The two folders are checkouts of Rethink's public repositories of these names, version 5.3. Besides what the Sawyer's
driver needs it takes Debian's ros-std-msgs, ros-geometry-msgs, ros-sensor-msgs and ros-actionlib-msgs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chef_control import ros1
from chef_control.devices.sawyer import Sawyer, SawyerSettings
from chef_control.fakes.sawyer import FakeSawyer
from chef_task.spaces import JOINTS

PYTHON = '/usr/bin/python3'
URDF = Path(__file__).resolve().parents[2] / 'config' / 'robots' / 'sawyer.urdf'
PACKAGES = ('std_msgs', 'geometry_msgs', 'sensor_msgs', 'actionlib_msgs')

# Runs in ROS 1's Python. Of the interface the package's own __init__ is left out: it imports cameras and grippers.
DRIVE = '''
import sys, time, types
messages, sdk = sys.argv[1:3]
sys.path[:0] = [messages, sdk + '/intera_interface/src']
package = types.ModuleType('intera_interface')
package.__path__ = [sdk + '/intera_interface/src/intera_interface']
sys.modules['intera_interface'] = package
import rospy
from intera_core_msgs.msg import EndpointState, EndpointStates
from intera_core_msgs.srv import SolvePositionFK, SolvePositionIK
rospy.init_node('check')
# what Limb waits for at its start and the stand-in does not have
for name, kind in (('IKService', SolvePositionIK), ('FKService', SolvePositionFK)):
    rospy.Service('ExternalTools/right/PositionKinematicsNode/' + name, kind, lambda request: None)
tips = rospy.Publisher('/robot/limb/right/tip_states', EndpointStates, latch=True, queue_size=1)
tips.publish(EndpointStates(names=['right_hand'], states=[EndpointState()]))
from intera_interface.limb import Limb
from intera_interface.robot_enable import RobotEnable
robot = RobotEnable()
robot.enable()
arm = Limb('right')
assert robot.state().enabled and arm.joint_names() == sys.argv[3].split(',')
arm.set_command_timeout(0.1)
before = arm.joint_angles()
for _ in range(100):
    arm.set_joint_velocities({j: 0.1 for j in reversed(arm.joint_names())})
    time.sleep(0.01)
assert all(abs(v - 0.1) < 1e-6 for v in arm.joint_velocities().values()), arm.joint_velocities()
time.sleep(0.3)
assert not any(arm.joint_velocities().values())
moved = [q - before[j] for j, q in arm.joint_angles().items()]
assert all(0.09 < m < 0.3 for m in moved), moved
robot.stop()
assert robot.state().stopped
robot.reset()
robot.enable()
robot.disable()
print('intera_interface enabled, drove, stopped, reset and disabled the stand-in')
'''


def generate(common: Path, folder: Path) -> Path:
    """The real message package, as a catkin workspace would build it."""
    source, package = common / 'intera_core_msgs', folder / 'intera_core_msgs'
    include = [f'-I{p}:/usr/share/{p}/msg' for p in PACKAGES] + [f'-Iintera_core_msgs:{source}/msg']
    for kind, files in (('msg', source.glob('msg/*.msg')), ('srv', source.glob('srv/Solve*.srv'))):
        program, out = f'/usr/lib/genpy/gen{kind}_py.py', package / kind
        out.mkdir(parents=True)
        for file in sorted(files):
            subprocess.run([PYTHON, program, *include, '-p', 'intera_core_msgs', '-o', out, file], check=True)
        subprocess.run([PYTHON, program, '--initpy', '-o', out], check=True)
    (package / '__init__.py').touch()
    return folder


def main() -> None:
    sdk, common = map(Path, sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        messages = generate(common, Path(folder) / 'messages')
        with FakeSawyer(folder, URDF) as robot:
            subprocess.run([PYTHON, '-I', '-c', DRIVE, messages, sdk, ','.join(JOINTS)], check=True, timeout=120,
                           env=ros1.environment(robot.uri, '127.0.0.1'))
            samples: list[dict] = []
            arm = Sawyer(SawyerSettings(urdf=str(URDF), master_uri=robot.uri, address='127.0.0.1',
                                        python_path=(str(messages),)), samples.extend, print)
            for _ in range(20):
                arm.send({'command': 'arm', 'stamp': time.time_ns(), 'velocity': [0.1] * 7})
                time.sleep(0.05)
            arm.close()
    moved = [s['position'][0] for s in samples if s['stream'] == 'joints']
    assert moved[-1] - moved[0] > 0.05, moved
    print('the driver drove the stand-in with the robot\'s own message package')


if __name__ == '__main__':
    main()
