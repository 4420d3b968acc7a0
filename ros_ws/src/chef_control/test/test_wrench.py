# SPDX-License-Identifier: Apache-2.0
"""Weight, bias and smoothing of a wrist's force sensor."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from chef_control.devices import identify_tool
from chef_control.devices.wrench import FACING_DOWN, Processor, Tool, WrenchError, identify
from chef_sim.world import HOME, World
from chef_task.geometry import quat_multiply

BIAS = np.array([1.5, -2.0, 3.0, 0.05, -0.02, 0.01])


def test_a_hanging_tool_is_held_up():
    weight = Tool(1.0, (0.0, 0.02, 0.1)).weight(FACING_DOWN)
    assert weight == pytest.approx([0, 0, -9.81, -0.02 * 9.81, 0, 0])    # the sensor's z points down


def heavy_world() -> tuple[World, np.ndarray, np.ndarray]:
    """Readings [N, 6] and orientations [N, 4] of a simulated sensor that feels its tool, held still in several poses."""
    world = World(1, 'fast', seed=0)
    m, d, i = world.model, world.data, world.index
    # It is held by inertia instead of by forces, which the simulated arm's compensation of gravity would be.
    m.dof_armature[:15] = 1e9
    site = mujoco.mj_name2id(m, mujoco.mjtObj.mjOBJ_SITE, 'ft/ft_sensor_frame_site')
    wrenches, orientations = [], []
    for bend, turn in ((0.0, 0.0), (0.6, 0.0), (-0.6, 0.4), (0.0, 1.2), (0.7, -1.0), (-0.4, -0.6)):
        d.qpos[i.arm_qpos], d.qvel[:] = HOME + [0, 0, 0, 0, turn, bend, 0.5 * turn], 0.0
        d.xfrc_applied[:] = 0.0
        mujoco.mj_forward(m, d)
        wrenches.append(np.concatenate([d.sensordata[i.force], d.sensordata[i.torque]]))
        orientations.append(Rotation.from_matrix(d.site_xmat[site].reshape(3, 3)).as_quat(scalar_first=True))
    return world, np.array(wrenches), np.array(orientations)


def test_the_simulated_tool_is_identified_and_its_weight_taken_off():
    world, wrenches, orientations = heavy_world()
    m, d = world.model, world.data
    body = mujoco.mj_name2id(m, mujoco.mjtObj.mjOBJ_BODY, 'ft/fts300_sensor_body')
    site = mujoco.mj_name2id(m, mujoco.mjtObj.mjOBJ_SITE, 'ft/ft_sensor_frame_site')
    mujoco.mj_comPos(m, d)
    com = d.site_xmat[site].reshape(3, 3).T @ (d.subtree_com[body] - d.site_xpos[site])
    found = identify(wrenches + BIAS, orientations)
    assert found.tool.mass_kg == pytest.approx(m.body_subtreemass[body], rel=1e-3)
    assert found.tool.com_m == pytest.approx(com, abs=5e-4)
    assert found.bias == pytest.approx(BIAS, abs=0.02) and found.residual_n < 0.02
    processor = Processor(found.tool, 100.0)
    processor.orient(orientations[0])
    processor.tare([wrenches[0] + BIAS] * 3, 0.1)
    for wrench, orientation in zip(wrenches, orientations):
        processor.orient(orientation)
        rest = processor(wrench + BIAS)
        assert np.linalg.norm(rest[:3]) < 0.05 and np.linalg.norm(rest[3:]) < 0.01


vectors = st.lists(st.floats(-1, 1), min_size=3, max_size=3)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.1, 5), vectors, st.integers(0, 2**32 - 1))
def test_identification_inverts_the_weight(mass, com, seed):
    tool = Tool(mass, tuple(com))
    orientations = Rotation.random(12, random_state=np.random.default_rng(seed)).as_quat(scalar_first=True)
    found = identify([tool.weight(q) + BIAS for q in orientations], orientations)
    assert found.tool.mass_kg == pytest.approx(mass, rel=1e-6)
    assert found.tool.com_m == pytest.approx(com, abs=1e-6)
    assert found.bias == pytest.approx(BIAS, abs=1e-6)


def test_readings_that_tell_nothing_are_refused():
    down = np.tile(FACING_DOWN, (6, 1))
    with pytest.raises(WrenchError, match='too much alike'):
        identify(np.zeros((6, 6)), down)
    about_one_axis = Rotation.from_euler('x', np.linspace(0, 1, 6)[:, None]).as_quat(scalar_first=True)
    with pytest.raises(WrenchError, match='too much alike'):
        identify(np.zeros((6, 6)), about_one_axis)
    with pytest.raises(WrenchError, match='at least 4'):
        identify(np.zeros((2, 6)), down[:2])
    orientations = Rotation.random(8, random_state=np.random.default_rng(1)).as_quat(scalar_first=True)
    with pytest.raises(WrenchError, match='sign to the opposite'):
        identify([-Tool(1.0).weight(q) for q in orientations], orientations)


def test_the_low_pass_keeps_what_is_slow_and_starts_without_a_transient():
    processor = Processor(Tool(), 100.0, filter_hz=10.0)
    assert processor([5.0] * 6) == pytest.approx([5.0] * 6)
    t = np.arange(400) / 100.0
    slow, fast = np.sin(2 * np.pi * 1.0 * t), np.sin(2 * np.pi * 40.0 * t)
    out = np.array([processor([5.0 + s] * 6) for s in slow])[200:, 0] - 5.0
    assert out.max() > 0.95
    out = np.array([processor([5.0 + s] * 6) for s in fast])[200:, 0] - 5.0
    assert np.abs(out).max() < 0.05


def test_a_file_of_readings_gives_the_lines_for_the_config(tmp_path, capsys):
    mount = np.array([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
    tool = Tool(0.925, (0.0, 0.01, 0.058))
    tcp = Rotation.random(8, random_state=np.random.default_rng(3)).as_quat(scalar_first=True)
    rows = [np.concatenate([tool.weight(quat_multiply(q, mount)) + BIAS, q]) for q in tcp]
    path = tmp_path / 'readings.csv'
    path.write_text('fx,fy,fz,tx,ty,tz,qw,qx,qy,qz\n' + '\n'.join(','.join(map(str, row)) for row in rows))
    identify_tool.main([str(path), '--mount', *map(str, mount)])
    out = capsys.readouterr().out
    assert 'tool_mass_kg: 0.925' in out and 'tool_com_m: [0.0000, 0.0100, 0.0580]' in out.replace('-0.0000', '0.0000')
    for text, line in (('a,b\n1,2', 'the first line must be'), ('', 'the first line must be'), ('\0', 'first line'),
                       (path.read_text() + '\n1,2,nan', 'line 10: expected 10 finite numbers'),
                       (path.read_text() + '\n' + ','.join(['1'] * 10), 'line 10: qw,qx,qy,qz is no unit quaternion')):
        path.with_name('bad.csv').write_text(text)
        with pytest.raises(SystemExit) as e:
            identify_tool.main([str(path.with_name('bad.csv'))])
        err = capsys.readouterr().err
        assert e.value.code == 1 and line in err and err.count('\n') == 1
