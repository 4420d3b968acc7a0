# SPDX-License-Identifier: Apache-2.0
"""The joints' range from a URDF, as pinocchio reads it too; and URDFs without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chef_control.kinematics import Kinematics
from chef_control.urdf import joint_range
from chef_task.spaces import JOINTS

URDF = Path(__file__).resolve().parents[4] / 'config' / 'robots' / 'sawyer.urdf'


def test_the_range_is_that_of_the_kinematics():
    for ours, theirs in zip(joint_range(URDF, JOINTS), Kinematics(URDF, JOINTS).joint_limits):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('limit, error', [
    ('', 'has no limit'),
    ('<limit lower="0"/>', 'is not two numbers'),
    ('<limit lower="a" upper="1"/>', 'is not two numbers'),
    ('<limit lower="1" upper="1"/>', 'is no range'),
    ('<limit lower="nan" upper="1"/>', 'is no range'),
    ('<limit', 'not a URDF'),
])
def test_a_urdf_without_a_range_is_refused_by_name(tmp_path, limit, error):
    urdf = tmp_path / 'arm.urdf'
    urdf.write_text(f'<robot><joint name="a">{limit}</joint></robot>')
    with pytest.raises(ValueError, match=error) as caught:
        joint_range(urdf, ('a',))
    assert str(urdf) in str(caught.value)
