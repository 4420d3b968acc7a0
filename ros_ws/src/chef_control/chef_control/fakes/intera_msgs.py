# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the message classes of a Sawyer's `intera_core_msgs`, where the robot's own installation is not at hand.

ROS 1 connects topics only where both sides have the same definition, by its MD5 sum: so these speak with the real ones,
or not at all. The fields are the robot's interface; everything else is left out, as it does not count.
"""

from __future__ import annotations

from pathlib import Path

_HEADER = 'std_msgs/Header header'
_ENDPOINT = f'{_HEADER}\ngeometry_msgs/Pose pose\ngeometry_msgs/Twist twist\ngeometry_msgs/Wrench wrench\nbool valid'
FIELDS = {
    'JointCommand': 'Header header\nint32 mode\nstring[] names\nfloat64[] position\nfloat64[] velocity\n'
                    'float64[] acceleration\nfloat64[] effort\n'
                    'int32 POSITION_MODE=1\nint32 VELOCITY_MODE=2\nint32 TORQUE_MODE=3\nint32 TRAJECTORY_MODE=4',
    'EndpointState': _ENDPOINT,
    'RobotAssemblyState': 'bool homed\nbool ready\nbool enabled\nbool stopped\nbool error\nbool lowVoltage\n'
                          'uint8 estop_button\n'
                          'uint8 ESTOP_BUTTON_UNPRESSED=0\nuint8 ESTOP_BUTTON_PRESSED=1\n'
                          'uint8 ESTOP_BUTTON_UNKNOWN=2\nuint8 ESTOP_BUTTON_RELEASED=3\n'
                          'uint8 estop_source\n'
                          'uint8 ESTOP_SOURCE_NONE=0\nuint8 ESTOP_SOURCE_USER=1\nuint8 ESTOP_SOURCE_UNKNOWN=2\n'
                          'uint8 ESTOP_SOURCE_FAULT=3\nuint8 ESTOP_SOURCE_ENGINE=4',
}
# of the robot's own definitions (intera_common 5.3), as `rosmsg md5` prints them
MD5 = {'JointCommand': 'c8c85922d297da6209a089a906207e5d', 'EndpointState': 'ec04f0f9bc02b3e335181c07d68c2c98',
       'RobotAssemblyState': 'df79ce5f75a6b23626e9fcdf1cc4d298'}

_MODULE = '''\
"""Made by chef_control.fakes.intera_msgs."""
from genpy.dynamic import generate_dynamic
from geometry_msgs.msg import PoseStamped, Twist, Wrench

_LINE = '\\n' + '=' * 80 + '\\n'
_USED = dict(part.split('\\n', 1) for kind in (PoseStamped, Twist, Wrench)
             for part in ('MSG: ' + kind._type + '\\n' + kind._full_text).split(_LINE))


def _make(name, text):
    made = generate_dynamic('intera_core_msgs/' + name,
                            _LINE.join([text + '\\n', *(k + '\\n' + v for k, v in _USED.items())]))
    return made['intera_core_msgs/' + name]


'''


def write(folder: str | Path) -> Path:
    """Writes the package `intera_core_msgs` into a folder, which it returns, for ROS 1's Python to import."""
    package = Path(folder) / 'intera_core_msgs' / 'msg'
    package.mkdir(parents=True, exist_ok=True)
    (package.parent / '__init__.py').write_text('')
    lines = [f'{name} = _make({name!r}, {text!r})' for name, text in FIELDS.items()]
    (package / '__init__.py').write_text(_MODULE + '\n'.join(lines) + '\n')
    return Path(folder)
