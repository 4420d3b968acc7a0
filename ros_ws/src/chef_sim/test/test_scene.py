# SPDX-License-Identifier: Apache-2.0
import mujoco
import numpy as np
import pytest

from chef_sim import assets, meshes
from chef_sim.physics import PRESETS, preset
from chef_sim.scene import build_model


def colliding(model):
    return np.flatnonzero(model.geom_contype | model.geom_conaffinity)


@pytest.mark.parametrize('physics', PRESETS)
@pytest.mark.parametrize('visuals', [False, True])
def test_collision_geoms_are_those_of_the_public_model(physics, visuals):
    model = build_model(1, physics, visuals)
    assert len(colliding(model)) == 37
    assert (model.nq, model.nv, model.nu) == (36, 33, 8)
    assert model.opt.timestep == pytest.approx(preset(physics).timestep_ns * 1e-9)


def test_masses_are_those_of_the_public_model():
    model = build_model(1, 'exact', visuals=False)
    mass = {model.body(i).name: float(model.body_mass[i]) for i in range(model.nbody)}
    assert mass['ft/base_mount'] == pytest.approx(0.58943, abs=1e-5)
    assert mass['gripper/left_pad'] == pytest.approx(0.032908, abs=1e-6)
    assert [mass[c] for c in ('red', 'green', 'blue')] == pytest.approx([0.2] * 3)
    # of the object's mesh, not of its hull
    inertia = sorted(model.body('red').inertia)
    assert inertia == pytest.approx([6.77267e-05, 1.06448e-04, 1.29312e-04], rel=1e-4)


def test_visuals_do_not_change_the_physics():
    ends = []
    for visuals in (False, True):
        model = build_model(2, 'fast', visuals)
        data = mujoco.MjData(model)
        data.qpos[-21:] = np.array([[0.55 + 0.07 * k, 0, 0.2, 1, 0.3, 0.1 * k, 0] for k in range(3)]).ravel()
        mujoco.mj_step(model, data, 200)
        ends.append(data.qpos.copy())
    np.testing.assert_array_equal(*ends)


def test_fast_links_of_the_arm_ignore_one_another():
    model = build_model(1, 'fast', visuals=False)
    arm = [g for g in colliding(model) if model.body(model.geom_bodyid[g]).name.startswith('arm/')]
    rest = [g for g in colliding(model) if g not in arm]
    assert not any(model.geom_contype[a] & model.geom_conaffinity[b] for a in arm for b in arm)
    objects = [model.geom(c).id for c in ('red', 'green', 'blue')]
    for a in arm:
        for b in [g for g in rest if g in objects or model.geom_bodyid[g] == 0]:
            assert model.geom_contype[b] & model.geom_conaffinity[a]


def test_unknown_triplet_and_physics_are_refused():
    with pytest.raises(ValueError, match='triplet 9 does not exist'):
        build_model(9)
    with pytest.raises(ValueError, match="physics 'slow' does not exist, choose one of exact, fast"):
        build_model(1, 'slow')


def test_missing_wheels_are_named(monkeypatch):
    monkeypatch.setattr(assets, '_FILES', {'arm': ('no-such-wheel', 'x.xml')})
    with pytest.raises(assets.AssetsMissing, match='no-such-wheel is not installed; install them with: pip'):
        assets.model_file('arm')


def test_prepared_meshes_survive_a_torn_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('CHEF_CACHE', str(tmp_path))
    source = {'red': (assets.object_files(1)[0], 1.0)}
    first = meshes.load_all(source)['red']
    assert 'preparing 1 meshes' in capsys.readouterr().err
    meshes.load_all(source)
    assert capsys.readouterr().err == ''
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    again = meshes.load_all(source)['red']
    np.testing.assert_array_equal(first.hull, again.hull)
    assert [p.suffix for p in tmp_path.iterdir()] == ['.npz']


def test_a_written_mesh_reads_back(tmp_path):
    mesh = meshes.prepare(assets.object_files(1)[0], 1.0)
    meshes.write_stl(tmp_path / 'a.stl', mesh)
    vertices, faces = meshes.read_stl(tmp_path / 'a.stl')
    assert len(faces) == len(mesh.faces)
    np.testing.assert_allclose(np.ptp(vertices, axis=0), np.ptp(mesh.vertices, axis=0))
