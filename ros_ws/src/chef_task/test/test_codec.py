# SPDX-License-Identifier: Apache-2.0
"""Image codecs: round trips, damage, and bags whose images are encoded."""

import json

import cv2
import numpy as np
import pytest
from conftest import STEPS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chef_task.bag import BagError, BagWriter, Episode, read_summary, recompute_rewards
from chef_task.bag import codec as codecs
from chef_task.bag.cli import main
from chef_task.bag.codec import COMPRESSED, IMAGE, Codec, ImageEncoder, decode, encoder
from chef_task.bag.definitions import typestore
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.messages import serialized_stamp_ns
from chef_task.spaces import CAMERAS

PNG, JPEG = Codec.parse('png'), Codec.parse('jpeg')
IMAGES = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda size: arrays(np.uint8, (*size, 3), elements=st.integers(0, 255)))
TOPIC = f'/cell_1/{CAMERAS[0]}/image'


def serialised(image: np.ndarray, encoding: str = 'rgb8', pad: int = 0, frame: str = 'eye') -> bytes:
    store = typestore()
    t = store.types
    header = t['std_msgs/msg/Header'](t['builtin_interfaces/msg/Time'](12, 345_678_901), frame)
    height, width, _ = image.shape
    data = np.pad(image.reshape(height, 3 * width), ((0, 0), (0, pad))).reshape(-1)
    message = t[IMAGE](header, height, width, encoding, 0, 3 * width + pad, data)
    return bytes(store.serialize_cdr(message, IMAGE))


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """The same episode, its images as they are, lossless and nearly so."""
    return {name: write_synthetic_episode(tmp_path_factory.mktemp('bags'), seed=1, steps=STEPS, image_codec=name)
            for name in ('raw', 'png', 'jpeg:95')}


# ---- names


@pytest.mark.parametrize('text, name', [
    ('raw', 'raw'), ('png', 'png'), ('jpeg', 'jpeg:95'), ('jpeg:1', 'jpeg:1'), ('jpeg:100', 'jpeg:100')])
def test_names(text, name):
    codec = Codec.parse(text)
    assert codec.name == name and Codec.parse(codec.name) == codec


@pytest.mark.parametrize('text', [
    '', 'PNG', 'png:3', 'jpeg:', 'jpeg:0', 'jpeg:101', 'jpeg:9.5', 'webp', 'raw ', 'jpeg:95\n'])
def test_names_that_do_not_exist(text):
    with pytest.raises(ValueError, match='raw, png or jpeg:QUALITY'):
        Codec.parse(text)


def test_raw_encodes_nothing():
    assert encoder('raw') is None and encoder(codecs.DEFAULT) is not None


# ---- round trips


@given(IMAGES)
def test_png_loses_nothing(image):
    np.testing.assert_array_equal(decode(PNG.encode(image)), image)


@given(IMAGES, st.integers(1, 100))
def test_jpeg_keeps_the_shape(image, quality):
    assert decode(Codec.parse(f'jpeg:{quality}').encode(image)).shape == image.shape


def test_jpeg_is_near_and_keeps_colours_at_full_resolution():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = (220, 30, 30)       # lines a pixel wide: halved colour would mix them
    image[:, 1::2] = (30, 30, 220)
    error = np.abs(decode(Codec.parse('jpeg:98').encode(image)).astype(int) - image)
    assert error.max() <= 8


def test_better_quality_costs_more_and_is_nearer():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (128, 128, 3), np.uint8), (9, 9), 0)
    files = [Codec.parse(f'jpeg:{q}').encode(image) for q in (50, 80, 95, 100)]
    errors = [np.abs(decode(f).astype(int) - image).mean() for f in files]
    assert sorted(map(len, files)) == [len(f) for f in files] and sorted(errors, reverse=True) == errors


@given(IMAGES, st.sampled_from([PNG, JPEG]), st.text(max_size=9).filter(lambda s: '\0' not in s))
def test_the_header_of_an_encoded_image_is_the_image_s(image, codec, frame):
    data = serialised(image, frame=frame)
    topic, msgtype, out = ImageEncoder(codec)(TOPIC, IMAGE, data)
    assert (topic, msgtype) == (TOPIC + '/compressed', COMPRESSED)
    message = typestore().deserialize_cdr(out, COMPRESSED)
    assert message.header.frame_id == frame and serialized_stamp_ns(out) == serialized_stamp_ns(data)
    assert message.format == f'rgb8; {codec.kind} compressed bgr8'
    again = codecs.as_image(message)
    assert (again.height, again.width, again.encoding, again.step) == (*image.shape[:2], 'rgb8', 3 * image.shape[1])
    if codec is PNG:
        np.testing.assert_array_equal(again.data, image.reshape(-1))


@pytest.mark.parametrize('kind', [dict(encoding='bgr8'), dict(encoding='mono16'), dict(pad=2)])
def test_an_image_of_another_kind_stays_as_it_is(kind):
    data = serialised(np.zeros((4, 5, 3), np.uint8), **kind)
    assert ImageEncoder(PNG)(TOPIC, IMAGE, data) == (TOPIC, IMAGE, data)


def test_an_empty_image_stays_as_it_is():
    data = serialised(np.zeros((0, 0, 3), np.uint8))
    assert ImageEncoder(PNG)(TOPIC, IMAGE, data) == (TOPIC, IMAGE, data)


def test_what_is_no_image_stays_as_it_is():
    assert ImageEncoder(PNG)('/a', 'std_msgs/msg/String', b'anything') == ('/a', 'std_msgs/msg/String', b'anything')


# ---- damage


@given(st.binary(max_size=300))
def test_what_is_no_file_is_a_value_error(data):
    with pytest.raises(ValueError):
        decode(data)


@given(st.sampled_from([PNG, JPEG]), st.data())
def test_a_damaged_file_is_a_value_error_or_an_image_of_its_size(codec, data):
    """PNG has checksums; damaged JPEG may still be an image, of the size that its header claims."""
    whole = codec.encode(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))
    at = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda v: v != whole[at]))
    broken = whole[:at] + bytes([value]) + whole[at + 1:]
    try:
        image = decode(broken)
    except ValueError:
        return
    assert image.dtype == np.uint8 and image.shape == (*codecs._size(broken)[::-1], 3)


@given(st.sampled_from([PNG, JPEG]), st.data())
def test_a_file_cut_short_never_raises_anything_else(codec, data):
    whole = codec.encode(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3))
    with pytest.raises(ValueError):
        decode(whole[:data.draw(st.integers(0, len(whole) // 2))] if codec is PNG else whole[:100])


def test_a_header_that_claims_too_much_is_refused_before_memory_is_asked_for():
    whole = bytearray(JPEG.encode(np.zeros((16, 16, 3), np.uint8)))
    at = whole.index(b'\xff\xc0') + 5
    whole[at:at + 4] = b'\xff\xff\xff\xff'
    with pytest.raises(ValueError, match='65535 x 65535'):
        decode(bytes(whole))


# ---- bags


@pytest.mark.parametrize('name', ['png', 'jpeg:95'])
def test_a_bag_says_how_its_images_are_stored(bags, name):
    episode = Episode.open(bags[name])
    assert episode.image_codec == name and read_summary(bags[name]).metadata['image_codec'] == name
    assert all(m.metadata and json.loads(m.metadata)['image_codec'] == name for _, m in episode.messages('episode'))
    topics, as_sent = episode.topics(), Episode.open(bags['raw']).topics()
    for camera in CAMERAS:
        count = as_sent[f'/cell_1/{camera}/image'][1]
        assert topics[f'/cell_1/{camera}/image/compressed'] == (COMPRESSED, count)
        assert f'/cell_1/{camera}/image' not in topics
        assert episode.has(camera) and episode.topic(camera) == f'/cell_1/{camera}/image/compressed'
    assert episode.observation == 'pixels'


def test_without_an_encoder_a_bag_is_as_before(bags):
    episode = Episode.open(bags['raw'])
    assert episode.image_codec == 'raw' and 'image_codec' not in episode.record.metadata
    assert not any(t.endswith('/compressed') for t in episode.topics())


def test_lossless_features_are_the_same_bits(bags):
    pairs = zip(Episode.open(bags['raw']).features(), Episode.open(bags['png']).features(), strict=True)
    for (step, a), (_, b) in pairs:
        assert set(a) == set(b)
        for key in a:
            assert a[key].dtype == b[key].dtype and a[key].shape == b[key].shape, key
            assert a[key].tobytes() == b[key].tobytes(), f'{key} at step {step.index}'


def test_nearly_lossless_features_differ_in_pixels_only_and_little(bags):
    worst = 0.0
    pairs = zip(Episode.open(bags['raw']).features(), Episode.open(bags['jpeg:95']).features(), strict=True)
    for (_, a), (_, b) in pairs:
        for key in a:
            if key.startswith('image_'):
                worst = max(worst, float(np.abs(a[key].astype(int) - b[key]).mean()))
            else:
                np.testing.assert_array_equal(a[key], b[key])
    assert 0 < worst < 6


@pytest.mark.parametrize('name', ['png', 'jpeg:95'])
def test_whole_streams_rewards_and_the_check(bags, name, capsys):
    a, b = Episode.open(bags['raw']), Episode.open(bags[name])
    np.testing.assert_array_equal(recompute_rewards(a), recompute_rewards(b))
    frames, others = list(a.images(CAMERAS[1])), list(b.images(CAMERAS[1]))
    assert [s for s, _ in frames] == [s for s, _ in others] and others[0][1].shape == frames[0][1].shape
    assert main(['check', str(bags[name])]) == 0


def test_encoded_bags_are_smaller(bags):
    sizes = {name: sum(f.stat().st_size for f in bag.iterdir()) for name, bag in bags.items()}
    assert sizes['jpeg:95'] < sizes['png'] < 0.7 * sizes['raw']


def test_other_readers_show_the_images(bags):
    """By the convention of image_transport: the file inside is BGR for OpenCV, that is true colours for all."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    topic = f'/cell_1/{CAMERAS[0]}/image/compressed'
    with open(next(bags['png'].glob('*.mcap')), 'rb') as f:
        message = next(m for _, c, _, m in make_reader(f, decoder_factories=[DecoderFactory()]).iter_decoded_messages(
            topics=[topic]))
    assert message.format.split(';')[0] == 'rgb8' and 'compressed bgr8' in message.format
    bgr = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    _, first = next(Episode.open(bags['raw']).images(CAMERAS[0]))
    np.testing.assert_array_equal(bgr[..., ::-1], first)


def rewrite(source, folder, change):
    """A copy of a bag with every message changed by change(topic, msgtype, data)."""
    from chef_task.bag import files

    writer = BagWriter(folder, source.name)
    for c, log_ns, data in files.raw_messages(source, files.mcap_files(source), lambda c: True):
        writer.write(*change(c.topic, c.msgtype, bytes(data)), log_ns)
    return writer.seal(reason='time_limit')


def test_a_camera_in_both_topics_is_whole(bags, tmp_path):
    """Some images are encoded and some are not: each Step still finds its own."""
    encode, count = encoder('png'), iter(range(10**6))
    bag = rewrite(bags['raw'], tmp_path, lambda *m: m if next(count) % 2 else encode(*m))
    topics = Episode.open(bag).topics()
    assert {f'/cell_1/{CAMERAS[0]}/image', f'/cell_1/{CAMERAS[0]}/image/compressed'} <= set(topics)
    for (_, a), (_, b) in zip(Episode.open(bags['raw']).features(), Episode.open(bag).features(), strict=True):
        for camera in CAMERAS:
            np.testing.assert_array_equal(a[f'image_{camera}'], b[f'image_{camera}'])
    stamps = [s for s, _ in Episode.open(bag).images(CAMERAS[0])]
    assert stamps == [s for s, _ in Episode.open(bags['raw']).images(CAMERAS[0])]


def test_a_damaged_encoded_image_is_one_clear_error(bags, tmp_path):
    def damage(topic, msgtype, data):
        return topic, msgtype, data[:200] + bytes(60) + data[260:] if msgtype == COMPRESSED else data

    episode = Episode.open(rewrite(bags['png'], tmp_path, damage))
    with pytest.raises(BagError, match='an encoded image is damaged'):
        list(episode.features())
