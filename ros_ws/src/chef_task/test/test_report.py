# SPDX-License-Identifier: Apache-2.0
"""The report: what it counts, that it is sound HTML whatever bags hold, and that it scales."""

import base64
import json
import os
import re
import time
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from chef_task.bag import report_charts
from chef_task.bag.cli import main
from chef_task.bag.report import gather, rolling, wilson
from chef_task.bag.report_page import page, save_report
from chef_task.bag.synthetic import START_NS, episode_id_of, write_synthetic_episode

EVIL = '<script>alert("x")</script>&\x1b[31m'
VOID = {'meta', 'img', 'br'}


class Checker(HTMLParser):
    """Collects tags, attributes and text; every tag must be closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ''
        self.feed(text)
        self.close()
        assert not self.open, f'not closed: {self.open}'

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f'</{tag}> closes nothing'

    def handle_data(self, data):
        self.text += data


def summary(folder, number: int, template: dict, mcap, **changes):
    """A bag that has nothing but a summary, as the report needs no more."""
    episode_id = episode_id_of(START_NS + number * 60_000_000_000, 'cell_1', number)
    bag = folder / episode_id
    bag.mkdir(parents=True)
    info = {**template['rosbag2_bagfile_information']}
    info['custom_data'] = {**info['custom_data'], 'episode_id': episode_id,
                           **{k: v if isinstance(v, str) else json.dumps(v) for k, v in changes.items()}}
    (bag / 'metadata.yaml').write_text(yaml.dump({'rosbag2_bagfile_information': info}, sort_keys=False))
    os.link(mcap, bag / f'{episode_id}_0.mcap')
    return bag


@pytest.fixture(scope='module')
def template(state_bag):
    data = yaml.safe_load((state_bag / 'metadata.yaml').read_text())
    del data['rosbag2_bagfile_information']['topics_with_message_count']    # not looked at, and slow to write
    return data, next(state_bag.glob('*.mcap'))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Three episodes, with cameras and without, one truncated, three in quarantine, one not sealed."""
    root = tmp_path_factory.mktemp('run')
    episodes = root / 'episodes'
    write_synthetic_episode(episodes, 1, 20, 'state')
    write_synthetic_episode(episodes, 2, 6, 'pixels', reason='force_limit', triplet=4, policy_version='random',
                            image_codec='png')
    write_synthetic_episode(episodes, 3, 6, 'state', reason=f'stale_sensor:{EVIL}', policy_version=EVIL)
    broken = next(write_synthetic_episode(episodes, 4, 4, 'state').glob('*.mcap'))
    broken.write_bytes(broken.read_bytes()[:-100])
    quarantine = episodes / 'quarantine'
    told = json.dumps({'episode_id': 'ep_a', 'reasons': ['gap of 0.4 s', EVIL]})
    for name, text in (('a', told), ('b', '{'), ('c', None)):
        (quarantine / name).mkdir(parents=True)
        if text is not None:
            (quarantine / name / 'reasons.json').write_text(text)
    (episodes / '.later.partial').mkdir()
    (episodes / '.later.partial' / 'x.mcap').write_bytes(bytes(1234))
    return root


def test_what_is_gathered(run):
    report = gather(run)
    assert [r.steps for r in report.rows] == [20, 6, 6] and report.steps == 32
    assert [r.early for r in report.rows] == [False, True, True]
    assert [r.success for r in report.rows] == [True, False, False]
    assert report.rows[1].peak_n == pytest.approx(20.5) and report.rows[0].limit_n == 20.0
    for row in report.rows:
        assert row.bytes == sum(f.stat().st_size for f in row.path.iterdir()) > 10_000
    assert [p.name for p, _ in report.unreadable] == ['20261123T205900_123456_cell_1_000004']
    quarantined = {name: reasons for name, reasons, _ in report.quarantined}
    assert quarantined['ep_a'] == ['gap of 0.4 s', EVIL] and quarantined['c'] == ['has no reasons.json']
    assert len(quarantined) == 3 and 'cannot be read' in quarantined['b'][0]
    assert [(p.name, size) for p, size in report.partial] == [('.later.partial', 1234)]
    assert list(report.groups(lambda r: r.triplet)) == [1, 4]


def test_the_page_tells_it_all(run, tmp_path, capsys):
    output = tmp_path / 'page.html'
    assert main(['report', str(run), '--output', str(output)]) == 0
    assert '3 episodes, 3 in quarantine, 1 unreadable' in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ['page.html']
    checked = Checker(output.read_text())
    for text in ('33%', 'force_limit', 'random', 'triplet 4', 'stack_leave', 'ep_a', 'gap of 0.4 s', 'truncated',
                 'has no reasons.json', '.later.partial', '1.23 kB', 'limit 20 N', 'largest 20.5 N'):
        assert text in checked.text, text


def test_nothing_of_a_bag_is_obeyed_and_nothing_is_fetched(run):
    checked = Checker(page(gather(run)))
    assert 'script' not in checked.tags and '<script>' in checked.text      # shown, not run
    assert '\x1b' not in checked.text
    for name, value in checked.attributes:
        assert not name.startswith('on')
        if name in ('src', 'href'):
            assert value.startswith('data:image/jpeg;base64,')
    assert not {'link', 'iframe', 'object', 'a'} & set(checked.tags)
    assert any(name == 'content' and "default-src 'none'" in value for name, value in checked.attributes)


def test_filmstrips_are_of_the_bag(run):
    [source] = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page(gather(run)))     # one episode has cameras
    image = cv2.imdecode(np.frombuffer(base64.b64decode(source), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (104, 1040, 3) and image.std() > 10
    assert 'filmstrip' not in page(gather(run), thumbnails=0)


def test_an_empty_folder(tmp_path):
    output = tmp_path / 'page.html'
    assert main(['report', str(tmp_path), '--output', str(output)]) == 0
    assert 'None.' in Checker(output.read_text()).text


def test_the_default_is_the_current_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(['report', str(run)]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ['report.html']


@pytest.mark.parametrize('words', [
    ['/no/such/folder'], ['.', '--output', '/no/such/folder/a.html'], ['.', '--output', '.']])
def test_bad_input_is_one_line(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['report', *words]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('chef bags: ') and err.count('\n') == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize('changes, why', [
    (dict(steps='"many"'), 'damaged'), (dict(steps='null'), 'damaged'),
    (dict(returns='[NaN, 1, 1, 1, 1, 1]'), 'finite'),
    (dict(peak_force_n='Infinity'), 'finite'), (dict(returns='["a"]'), 'damaged'), (dict(triplet='[1]'), 'damaged'),
    (dict(metadata='[]'), 'damaged')])
def test_a_summary_that_holds_nonsense_is_listed_as_unreadable(template, tmp_path, changes, why):
    summary(tmp_path, 1, *template, **changes)
    report = gather(tmp_path)
    assert not report.rows and why in report.unreadable[0][1]
    Checker(page(report))


def test_thousands_of_episodes_make_a_light_page_in_little_time(template, tmp_path):
    rng = np.random.default_rng(0)
    count = 600
    for i in range(count):
        summary(tmp_path, i, *template, triplet=1 + i % 5, policy_version=f'v{i // 3:06d}', success=bool(i % 2),
                termination_reason='time_limit' if i % 10 else 'force_limit', returns=rng.uniform(0, 400, 6).tolist())
    start = time.perf_counter()
    report = gather(tmp_path)
    text = page(report, thumbnails=0)
    seconds = time.perf_counter() - start
    assert len(report.rows) == count and len(text) < 150_000
    assert seconds < 6.0        # 0.5 s on an idle machine
    checked = Checker(text)
    assert checked.text.count('v000199') >= 1 and 'and 180 versions more' in checked.text


def test_a_page_that_cannot_be_written_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'replace', lambda *a: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(Exception, match='No space left'):
        save_report(gather(run), tmp_path / 'a.html', thumbnails=0)
    assert not list(tmp_path.iterdir())


# ---- figures


def test_wilson_intervals():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(10, 10)[1] == 1.0 and wilson(10, 10)[0] == pytest.approx(0.7225, abs=1e-4)


@given(st.lists(st.floats(-1e3, 1e3), max_size=40), st.integers(1, 9))
def test_rolling_means(values, window):
    expected = [np.mean(values[max(0, i + 1 - window):i + 1]) for i in range(len(values))]
    np.testing.assert_allclose(rolling(values, window), expected, atol=1e-9)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_inside(low, span):
    found = report_charts.ticks(low, low + span)
    assert 1 <= len(found) <= 9 and all(low - span * 1e-6 <= t <= low + span * (1 + 1e-6) for t in found)


@given(st.lists(st.floats(0, 1e4), max_size=60))
@example([5e-324])
def test_charts_are_sound_whatever_the_figures(values):
    points = list(enumerate(values))
    Checker(report_charts.lines([(3, points)], (0, max(len(values) - 1, 1)), 'a <b>', x_text=('<', '>')))
    Checker(report_charts.histogram(values, 'x', mark=20.0, mark_text='limit', unit='N'))


def test_a_histogram_counts_everything():
    svg = report_charts.histogram([0.0, 1.0, 19.9, 20.0, 50.0], 'x', mark=20.0, mark_text='limit', unit='N')
    assert sum(int(n) for n in re.findall(r'<title>(\d+) at', svg)) == 5
