# SPDX-License-Identifier: Apache-2.0
"""Numbers of the benchmark's cell that its public sources keep in code, not in model files.

From google-deepmind/dm_robotics and google-deepmind/rgb_stacking (both Apache-2.0). Lengths in m, quaternions
w x y z.
"""

from __future__ import annotations

import math

BASKET_ORIGIN = (0.6, 0.0, 0.0498)  # top of the basket's floor, robot base frame
OBJECT_COLOURS = ((1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0))
OBJECT_MASS_KG = 0.2

# Objects start uniform in this box, robot base frame.
PLACE_LOW = (0.50, -0.10, 0.12)
PLACE_HIGH = (0.70, 0.10, 0.12)

# name: vertical field of view (deg), position, orientation; relative to the basket's origin with the axes
# of the robot's base.
# The published model has 35 degrees in front, whatever the 30 in the task's camera configuration say:
# those reach the reported intrinsics only.
CAMERAS = {
    'basket_front_left': (35.0, (0.970, -0.375, 0.235), (0.7815, 0.4900, 0.2050, 0.3272)),
    'basket_front_right': (35.0, (0.970, 0.375, 0.235), (0.3272, 0.2050, 0.4900, 0.7815)),
    'basket_back_left': (30.0, (0.060, -0.260, 0.390), (0.754, 0.373, -0.250, -0.480)),
}
# In the basket's body, whose x points to the robot's left.
CAMERA_REFERENCE = ((0.0, 0.6, 0.0), (0.707, 0.0, 0.0, -0.707))
BASKET_QUAT = (0.707, 0.0, 0.0, 0.707)


def _about(axis: int, angle: float) -> tuple[float, ...]:
    # given as quaternions since mujoco's axis-angle alternative of a spec misreads radians
    q = [math.cos(angle / 2), 0.0, 0.0, 0.0]
    q[1 + axis] = math.sin(angle / 2)
    return tuple(q)


# The surfaces of the basket that objects touch: position, half size, orientation, in the basket's body.
BASKET_BOXES = (
    ((0.0, 0.0, -0.02), (0.25, 0.25, 0.02), (1.0, 0.0, 0.0, 0.0)),
    ((-0.28, 0.0, 0.07), (0.20, 0.40, 0.005), _about(1, 0.44506)),
    ((0.28, 0.0, 0.07), (0.20, 0.40, 0.005), _about(1, 2.69653)),
    ((0.0, -0.28, 0.07), (0.40, 0.20, 0.005), _about(0, 2.69653)),
    ((0.0, 0.28, 0.07), (0.40, 0.20, 0.005), _about(0, 0.44506)),
)

# Sawyer
ARM_VELOCITY_LIMITS = (1.74, 1.328, 1.957, 1.957, 3.485, 3.485, 4.545)  # rad/s
ARM_EFFORT_LIMITS = (80.0, 80.0, 40.0, 40.0, 9.0, 9.0, 9.0)             # N m
ARM_GAIN, ARM_DAMPING = 500.0, 50.0                                      # N m/rad, N m s/rad
# class: friction loss (N m); all with armature 1 kg m2 and damping 0.1 N m s/rad
ARM_JOINT_CLASSES = {'large_joint': 0.3, 'medium_joint': 0.3, 'small_joint': 0.1}
TOOL_QUAT = (0.70711, 0.0, 0.0, 0.70711)  # the tool is mounted a quarter turn round, as on the real arm

# Robotiq 2F-85
GRIPPER_GAIN = 100.0            # N m/rad
GRIPPER_RANGE_RAD = 0.8         # of a driver joint, open to closed
GRIPPER_CLOSED = 255.0          # of the position register
PAD_FRICTION = (0.5, 0.1, 0.01)
PAD_SOLIMP = (0.9, 0.95, 0.001, 0.01, 2.0)
PAD_SOLREF = (-30000.0, -200.0)
# Two boxes on each fingertip that make contacts steadier: positions and half size in the pad's body.
PAD_BOXES = ((0.0, 0.0117, 0.03), (0.0, 0.0117, 0.015))
PAD_BOX_SIZE = (0.007, 0.0021575, 0.005)
PAD_QUAT = (0.0, 0.0, 0.0, 1.0)

# Inertias that the published model derives from meshes, and from the shapes of its collision avoidance
# with the density of water: the tool weighs 0.52 kg more than its parts for that. Kept, so that the arm
# moves alike. Body: mass kg, centre of mass, orientation, principal moments kg m2.
INERTIAS = {
    'ft/base_mount': (
        0.5894252593596269, (1.873293559668198e-05, 5.5890605219804945e-05, 0.013758086388887635),
        (0.004054119344754081, 0.7098865827400562, 0.005546644361776709, 0.7042824990714392),
        (0.0005648885851818016, 0.0005529344405520186, 0.0005518736741302891)),
    'ft/fts300_sensor_body': (
        0.08684233046785128, (-0.00011983721168116177, 1.3080537094699006e-06, -0.010485288029402039),
        (0.0, 0.707906124651956, 0.0, 0.7063065330862044),
        (5.362738687064868e-05, 2.9216173141840847e-05, 2.8995449826482814e-05)),
    'gripper/base_mount': (
        0.07500142758188988, (-0.0003605835958214157, 8.536274800937428e-05, -5.9199141450506514e-05),
        (-0.0005222230216346269, 0.7060997694368749, 0.0005237112247473696, 0.7081119746275054),
        (5.117274450897413e-05, 2.6799843609491036e-05, 2.608588155253317e-05)),
    **{f'gripper/{side}_pad': (
        0.03290827447591381, (8.915454232450403e-08, 0.004647668114093417, 0.018145602401577053),
        (0.706787003969357, -0.021263372733900526, 0.021262054850995325, 0.7067870436160485),
        (4.918750056295636e-06, 4.7382741952904846e-06, 2.3290607810084794e-06))
       for side in ('left', 'right')},
}
