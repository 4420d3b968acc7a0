# SPDX-License-Identifier: Apache-2.0
"""Movies: decoded again with PyAV and compared with the bag."""

import cv2
import numpy as np
import pytest
from conftest import STEPS

from chef_task.bag import BagError, Episode
from chef_task.bag.cli import main
from chef_task.bag.movie import save_movie
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.spaces import CAMERAS

av = pytest.importorskip('av')


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return write_synthetic_episode(tmp_path_factory.mktemp('bags'), seed=1, steps=STEPS, image_codec='png',
                                   policy_version='v000001é\x1b$x$')


@pytest.fixture(scope='module')
def movie(bag, tmp_path_factory):
    output = tmp_path_factory.mktemp('movies') / 'a.mp4'
    assert main(['movie', str(bag), '--output', str(output)]) == 0
    return output


def test_browsers_play_it(movie):
    assert [p.name for p in movie.parent.iterdir()] == ['a.mp4']       # no partial file is left
    with av.open(str(movie)) as container:
        [stream] = container.streams
        assert stream.codec_context.name == 'h264' and stream.codec_context.pix_fmt == 'yuv420p'
        assert stream.width % 2 == stream.height % 2 == 0
    data = movie.read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')        # plays before all of it is there


def test_a_picture_a_step_in_real_time(movie, bag):
    with av.open(str(movie)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    steps = Episode.open(bag).steps()
    np.testing.assert_allclose(times[:len(steps)], [(s.stamp - steps[0].stamp) / 1e9 for s in steps], atol=2e-3)
    assert 0.5 < times[-1] - times[len(steps) - 1] < 2.0     # the last one stands for a while


def test_it_shows_the_images_that_the_steps_name(movie, bag):
    with av.open(str(movie)) as container:
        pictures = [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
    for i, (_, samples) in enumerate(Episode.open(bag).iterate(CAMERAS)):
        for k, camera in enumerate(CAMERAS):
            shown = pictures[i][36:36 + 384, 384 * k:384 * (k + 1)]
            small = cv2.resize(shown, (16, 16), interpolation=cv2.INTER_AREA)[:14].astype(int)    # above the name
            there = cv2.resize(samples[camera]['image'], (16, 16), interpolation=cv2.INTER_AREA)[:14]
            assert np.abs(small - there).mean() < 8, f'{camera} at step {i}'


def test_the_cursor_moves_over_the_plots(movie):
    with av.open(str(movie)) as container:
        strips = [f.to_ndarray(format='rgb24')[-250:-60, :590] for f in container.decode(video=0)][:STEPS + 1]
    still = np.median(strips, axis=0)       # the plots without the cursor
    places = [int(np.abs(strip - still).sum((0, 2)).argmax()) for strip in strips]
    np.testing.assert_allclose(np.diff(places), (places[-1] - places[0]) / STEPS, atol=3)
    assert places[-1] - places[0] > 200


def test_without_cameras_it_says_so(state_bag, tmp_path, capsys):
    assert main(['movie', str(state_bag), '--output', str(tmp_path / 'a.mp4')]) == 2
    out, err = capsys.readouterr()
    assert 'no cameras' in err and err.count('\n') == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize('output', ['/no/such/folder/a.mp4', 'FOLDER'])
def test_where_it_cannot_be_written_it_says_so(bag, output, tmp_path, capsys):
    output = str(tmp_path) if output == 'FOLDER' else output
    assert main(['movie', str(bag), '--output', output]) == 2
    err = capsys.readouterr().err
    assert output in err and err.count('\n') == 1 and not list(tmp_path.parent.glob('.*.partial'))


def test_a_damaged_bag_leaves_no_half_movie(bag, tmp_path, monkeypatch):
    episode = Episode.open(bag)
    step = episode.steps()[9]
    step.stamps[CAMERAS[0]] += 1
    with pytest.raises(BagError, match='step 9'):
        save_movie(episode, tmp_path / 'a.mp4')
    assert not list(tmp_path.iterdir())
