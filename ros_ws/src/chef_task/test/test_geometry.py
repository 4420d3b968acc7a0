# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chef_task import geometry

numbers = st.floats(-2, 2, allow_nan=False, width=64)
vectors = arrays(np.float64, 3, elements=numbers)


@st.composite
def poses(draw):
    q = draw(arrays(np.float64, 4, elements=numbers))
    norm = np.linalg.norm(q)
    assume(norm > 0.1)
    return np.concatenate([draw(vectors), q / norm])


def matrix(q):
    """Rotation matrix from a textbook formula that the code under test does not use."""
    w, x, y, z = q
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])


@given(poses(), vectors)
def test_rotate_is_the_rotation_matrix(pose, v):
    np.testing.assert_allclose(geometry.rotate(pose[3:], v), matrix(pose[3:]) @ v, atol=1e-12)


@given(poses())
def test_a_quaternion_comes_back_from_its_matrix(pose):
    q = geometry.from_matrix(matrix(pose[3:]))
    assert q[0] >= 0
    np.testing.assert_allclose(matrix(q), matrix(pose[3:]), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(q), 1.0, atol=1e-12)


@given(poses(), poses())
def test_product_of_quaternions_is_product_of_matrices(a, b):
    product = geometry.quat_multiply(a[3:], b[3:])
    np.testing.assert_allclose(matrix(product), matrix(a[3:]) @ matrix(b[3:]), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(product), 1.0, atol=1e-12)


@given(poses())
def test_inverse_undoes_from_both_sides(p):
    for identity in (geometry.compose(p, geometry.inverse(p)), geometry.compose(geometry.inverse(p), p)):
        np.testing.assert_allclose(identity, geometry.IDENTITY_POSE, atol=1e-12)


@given(poses(), poses(), poses())
def test_compose_is_associative(a, b, c):
    left = geometry.compose(geometry.compose(a, b), c)
    np.testing.assert_allclose(left, geometry.compose(a, geometry.compose(b, c)), atol=1e-11)


@given(poses(), poses())
def test_relative_then_compose_gives_the_pose_back(pose, frame):
    again = geometry.compose(frame, geometry.relative(pose, frame))
    np.testing.assert_allclose(again, pose, atol=1e-11)


@given(st.floats(-3.1, 3.1))
def test_yaw_of_a_turn_about_z(angle):
    q = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
    np.testing.assert_allclose(geometry.yaw(q), angle, atol=1e-12)
    np.testing.assert_allclose(geometry.yaw(-q), angle, atol=1e-12)      # both quaternions of one rotation


@given(st.lists(poses(), min_size=2, max_size=4), poses())
def test_leading_axes_are_as_one_by_one(many, one):
    stacked = np.stack(many)
    each = np.stack([geometry.relative(p, one) for p in many])
    np.testing.assert_array_equal(geometry.relative(stacked, one), each)
    np.testing.assert_array_equal(geometry.compose(stacked, np.broadcast_to(one, stacked.shape)),
                                  np.stack([geometry.compose(p, one) for p in many]))
