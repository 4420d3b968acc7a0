# SPDX-License-Identifier: Apache-2.0
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from chef_task.spaces import JOINTS

from chef_sim import cell
from chef_sim.urdf import sawyer_urdf


def test_pinocchio_agrees_with_mujoco(world):
    pin = pytest.importorskip('pinocchio')
    model = pin.buildModelFromXML(sawyer_urdf())
    data = model.createData()
    assert list(model.names)[1:] == list(JOINTS)
    np.testing.assert_allclose(model.velocityLimit, cell.ARM_VELOCITY_LIMITS)
    np.testing.assert_allclose(model.effortLimit, cell.ARM_EFFORT_LIMITS)
    rng = np.random.default_rng(0)
    for _ in range(50):
        q = rng.uniform(model.lowerPositionLimit, model.upperPositionLimit)
        world.set_arm(q)
        pin.framesForwardKinematics(model, data, q)
        for frame, site in (('tcp', world.index.tcp), ('pinch', world.index.pinch)):
            at = data.oMf[model.getFrameId(frame)]
            np.testing.assert_allclose(at.translation, world.data.site_xpos[site], atol=1e-9)
            np.testing.assert_allclose(at.rotation.ravel(), world.data.site_xmat[site], atol=1e-9)


def test_links_joints_and_meshes(tmp_path):
    root = ET.fromstring(sawyer_urdf(tmp_path / 'm', 'package://somewhere/meshes/'))
    links = [e.get('name') for e in root.iter('link')]
    links = [n for n in links if n]
    assert links == ['base', *(f'right_l{i}' for i in range(7)), 'right_hand', 'tcp', 'pinch']
    files = [e.get('filename') for e in root.iter('mesh')]
    assert len(files) > 15
    for f in files:
        assert f.startswith('package://somewhere/meshes/')
        assert (tmp_path / 'm' / f.rsplit('/', 1)[1]).stat().st_size > 84
