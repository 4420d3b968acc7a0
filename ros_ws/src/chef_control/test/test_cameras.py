# SPDX-License-Identifier: Apache-2.0
"""The crop and scale of camera images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.drivers.cameras import crop_and_scale
from chef_task.spaces import IMAGE_SHAPE

fast = settings(max_examples=50, deadline=None)
sizes = st.integers(16, 400)
wanted = st.integers(8, 160)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramps(height: int, width: int) -> np.ndarray:
    """Channel 0 grows along the columns, 1 along the rows, from 0 to 255 over the whole image; 2 is 0."""
    image = np.zeros((height, width, 3))
    image[..., 0] = ((np.arange(width) + 0.5) / width * 255)[None, :]
    image[..., 1] = ((np.arange(height) + 0.5) / height * 255)[:, None]
    return np.round(image).astype(np.uint8)


@fast
@given(sizes, sizes)
def test_any_image_comes_out_as_uint8_of_the_policys_shape(height, width):
    out = crop_and_scale(noise(height, width))
    assert out.shape == IMAGE_SHAPE and out.dtype == np.uint8 and out.flags.c_contiguous


@fast
@given(sizes, sizes, wanted, wanted)
def test_any_shape_may_be_asked_for(height, width, h, w):
    out = crop_and_scale(noise(height, width), (h, w, 3))
    assert out.shape == (h, w, 3) and out.dtype == np.uint8 and out.flags.c_contiguous


@fast
@given(sizes, sizes)
def test_an_image_of_the_right_size_is_left_as_it_is(height, width):
    image = noise(height, width)
    np.testing.assert_array_equal(crop_and_scale(image, image.shape), image)


@fast
@given(st.integers(0, 60), st.booleans())
def test_an_image_too_long_on_one_side_loses_both_ends_alike(extra, wide):
    image = noise(64, 64 + 2 * extra)
    inner = image[:, extra:extra + 64]
    if not wide:
        image, inner = image.transpose(1, 0, 2), inner.transpose(1, 0, 2)
    out = crop_and_scale(np.ascontiguousarray(image), (64, 64, 3))
    np.testing.assert_array_equal(out, inner)


@fast
@given(sizes, sizes)
def test_the_crop_is_centred_and_the_largest_of_its_aspect(height, width):
    out = crop_and_scale(ramps(height, width)).astype(float)
    side = min(height, width)
    for length, profile in ((width, out[..., 0].mean(axis=0)), (height, out[..., 1].mean(axis=1))):
        pixel = 255 / length  # the ramp's step: crops of an odd rest are half a pixel off the centre
        assert profile.mean() == pytest.approx(127.5, abs=pixel / 2 + 1)
        # the values at the ends: half an output pixel (or input pixel, when enlarged) inside the crop
        inside = 255 / length * max(side / 128, 1) / 2
        assert profile[-1] - profile[0] == pytest.approx(255 * side / length - 2 * inside, abs=pixel + 2)


@fast
@given(st.integers(64, 300), st.integers(64, 300), st.integers(32, 128), st.integers(32, 128))
def test_a_square_stays_square(height, width, h, w):
    """A slope per pixel that is equal along both axes before is equal after."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.minimum(x * 0.8, 255), np.minimum(y * 0.8, 255)
    out = crop_and_scale(image, (h, w, 3)).astype(float)
    along_x = (out[:, -3, 0] - out[:, 2, 0]).mean() / (w - 5)
    along_y = (out[-3, :, 1] - out[2, :, 1]).mean() / (h - 5)
    assert along_x == pytest.approx(along_y, rel=0.03, abs=2.5 / (min(h, w) - 5))


@fast
@given(sizes, sizes, st.tuples(*[st.integers(0, 255)] * 3))
def test_a_plain_colour_keeps_its_colour(height, width, colour):
    image = np.full((height, width, 3), colour, np.uint8)
    out = crop_and_scale(image)
    np.testing.assert_array_equal(out, np.broadcast_to(np.array(colour, np.uint8), IMAGE_SHAPE))


def test_shrinking_averages():
    image = np.zeros((256, 256, 3), np.uint8)
    image[::2, ::2] = 200  # one pixel in four
    np.testing.assert_array_equal(crop_and_scale(image), np.full(IMAGE_SHAPE, 50, np.uint8))


def test_the_image_given_is_not_changed():
    image = noise(100, 200)
    before = image.copy()
    crop_and_scale(image)
    np.testing.assert_array_equal(image, before)
