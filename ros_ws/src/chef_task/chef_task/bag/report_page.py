# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file that needs no network and runs no script."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np

from chef_task.bag.commands.text import printable
from chef_task.bag.errors import BagError
from chef_task.bag.reader import Episode
from chef_task.bag.report import Report, Row, rolling, wilson
from chef_task.bag.report_charts import COLOURS, histogram, lines
from chef_task.spaces import CAMERAS

_MOST_ROWS = 20             # of a table
_FRAMES, _FRAME_PX = 10, 104
_STYLE = """
:root{--bg:#fff;--ink:#1f2328;--soft:#656d76;--line:#d8dee4;--tile:#f6f8fa;--bad:#b3261e;--good:#2f7d4f;
--c0:#3b6ea5;--c1:#c8762b;--c2:#3f8f5f;--c3:#a8506f;--c4:#7d6ba8;--c5:#3c8f9e;--c6:#8a8a8a}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--ink:#e3e6ea;--soft:#97a0aa;--line:#30363d;--tile:#1d2228;
--bad:#ef7d74;--good:#6cc08b;--c0:#74a7dd;--c1:#e2a063;--c2:#74c293;--c3:#d98aa6;--c4:#ab9bd6;--c5:#6fc3d1;--c6:#9a9a9a}}
*{box-sizing:border-box}body{margin:0 auto;padding:24px 28px 60px;max-width:1240px;background:var(--bg);color:var(--ink);
font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:22px;margin:0 0 2px}h2{font-size:17px;margin:38px 0 4px;padding-top:14px;border-top:1px solid var(--line)}
h3{font-size:13px;font-weight:600;margin:0 0 2px}p{margin:2px 0 10px;color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin-top:18px}
.tile{background:var(--tile);border-radius:8px;padding:10px 14px}.tile b{display:block;font-size:22px;font-weight:600}
.tile span{color:var(--soft);font-size:12px}.bad{color:var(--bad)}.good{color:var(--good)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:14px 22px}
.wide{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:14px 30px}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}svg .g{stroke:var(--line)}
svg polyline{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}svg circle{fill:var(--c)}
svg rect{fill:var(--c0)}svg line.m{stroke:var(--bad);stroke-dasharray:4 3}svg text.m{fill:var(--bad)}
.key{display:flex;flex-wrap:wrap;gap:4px 16px;margin:2px 0 8px;font-size:12px}
.key i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.scroll{overflow-x:auto;margin-bottom:14px}table{border-collapse:collapse;font-size:13px;min-width:60%}
th{font-weight:600;text-align:left;color:var(--soft);border-bottom:1px solid var(--line);white-space:nowrap}
th,td{padding:4px 14px 4px 0;vertical-align:top}td{border-bottom:1px solid var(--line)}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td code{font-size:12px;overflow-wrap:anywhere}.bar{display:block;height:8px;border-radius:2px;background:var(--c0);margin-top:6px}
figure{margin:0 0 16px}figure img{display:block;width:100%;border-radius:6px}figcaption{color:var(--soft);font-size:12px;
margin-top:4px;overflow-wrap:anywhere}
"""


def save_report(report: Report, output: Path, thumbnails: int = 4) -> None:
    """Writes the page, under another name until it is whole.

    Args:
      thumbnails: filmstrips of at most this many episodes; the only bags that are opened.

    Raises:
      BagError: the file cannot be written.
    """
    text = page(report, thumbnails)
    temporary = output.with_name(f'.{output.name}.partial')
    try:
        temporary.write_text(text, 'utf8')
        os.replace(temporary, output)
    except OSError as e:
        raise BagError(f'{output}: cannot be written: {e.strerror or e}') from e
    finally:
        temporary.unlink(missing_ok=True)


def page(report: Report, thumbnails: int = 4) -> str:
    """The whole page."""
    sections = [_tiles(report)]
    if report.rows:
        sections += [_over_time(report), _policies(report), _triplets(report), _endings(report)]
    sections += [_trouble(report), _disk(report)]
    if report.rows:
        sections += [_films(report, thumbnails), _newest(report)]
    where, now = _text(report.folder.absolute()), f'{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC'
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            # whatever a bag holds, nothing is run and nothing is fetched
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            'style-src \'unsafe-inline\'">'
            f'<title>Episodes in {where}</title><style>{_STYLE}</style></head><body>'
            f'<h1>Episodes</h1><p><code>{where}</code>, {_span(report)}as of {now}</p>'
            f'{"".join(sections)}</body></html>\n')


def _text(value: object) -> str:
    """Text of unknown origin for HTML."""
    return escape(printable(str(value)))


def _span(report: Report) -> str:
    if not report.rows:
        return ''
    return f'{_text(report.rows[0].time)} to {_text(report.rows[-1].time)} UTC, '


def _bytes(n: float) -> str:
    for unit in ('B', 'kB', 'MB', 'GB'):
        if n < 1000:
            return f'{n:.3g} {unit}' if unit != 'B' else f'{n:.0f} B'
        n /= 1000
    return f'{n:.4g} TB'


def _duration(hours: float) -> str:
    return f'{hours:.3g} h' if hours >= 1 or not hours else f'{60 * hours:.2g} min'


def _rate(rows: Sequence[Row]) -> str:
    """Success as a rate with its 95 % interval."""
    successes, n = sum(r.success for r in rows), len(rows)
    low, high = wilson(successes, n)
    return f'{successes / n:.0%} <small>({low:.0%} to {high:.0%})</small>' if n else '-'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """A table; cells are HTML already. Columns in `numeric` go to the right."""
    numeric = set(numeric)

    def line(cells, tag):
        return '<tr>' + ''.join(f'<{tag}{" class=n" if i in numeric else ""}>{c}</{tag}>'
                                for i, c in enumerate(cells)) + '</tr>'
    return (f'<div class="scroll"><table><thead>{line(head, "th")}</thead><tbody>'
            f'{"".join(line(r, "td") for r in rows)}</tbody></table></div>')


def _more(n: int, what: str) -> str:
    return f'<p>and {n - _MOST_ROWS} {what} more</p>' if n > _MOST_ROWS else ''


def _tiles(report: Report) -> str:
    rows, n = report.rows, len(report.rows)
    successes = sum(r.success for r in rows)
    low, high = wilson(successes, n)
    tiles = [(f'{n}', 'episodes', ''),
             (f'{successes / n:.0%}' if n else '-', f'success, 95 % interval {low:.0%} to {high:.0%}', ''),
             (_duration(report.hours), f'of robot time, {report.steps} steps', ''),
             (f'{sum(r.early for r in rows)}', 'ended before their time', ''), (_bytes(report.bytes), 'on disk', ''),
             *((f'{len(found)}', what, 'bad' if found else 'good')
               for found, what in ((report.quarantined, 'in quarantine'), (report.unreadable, 'unreadable')))]
    return '<div class="tiles">' + ''.join(f'<div class="tile"><b class="{style}">{a}</b><span>{b}</span></div>'
                                           for a, b, style in tiles) + '</div>'


def _key(names: Iterable[tuple[int, str]]) -> str:
    return '<div class="key">' + ''.join(f'<span><i style="background:var(--c{c % COLOURS})"></i>{_text(name)}</span>'
                                         for c, name in names) + '</div>'


def _over_time(report: Report) -> str:
    """Success and the return of every task over the episodes, a line a triplet."""
    number = {id(r): i + 1 for i, r in enumerate(report.rows)}
    triplets = sorted(report.groups(lambda r: r.triplet).items())
    window = max(5, min(100, len(report.rows) // 20))
    x, x_text = (1.0, float(max(len(report.rows), 2))), ('episode 1', f'{len(report.rows)}')

    def series(value: Callable[[Row], float]):
        return [(triplet - 1, list(zip((number[id(r)] for r in rows), rolling(map(value, rows), window))))
                for triplet, rows in triplets]
    success = lines(series(lambda r: float(r.success)), x, 'success over time', x_text=x_text, percent=True, top=1.0,
                    width=1180, height=220)
    charts = [f'<div><h3>return of {_text(task)}</h3>' + lines(
        series(lambda r, task=task: r.returns.get(task, 0.0)), x, f'return of {printable(task)}', x_text=x_text)
        + '</div>' for task in report.tasks]
    return (f'<h2>Over time, by triplet</h2><p>The mean of the last {window} episodes of the triplet, in order of '
            f'time. A return is the sum of a task\'s rewards over all steps.</p>'
            f'{_key((t - 1, f"triplet {t}") for t, _ in triplets)}<h3>success</h3>{success}'
            f'<div class="grid" style="margin-top:14px">{"".join(charts)}</div>')


def _outcomes(report: Report, groups: Sequence[tuple[str, Sequence[Row]]], head: str) -> str:
    """A table of what came of groups of episodes."""
    rows = [(f'<code>{_text(name)}</code>', f'{len(rows)}', _rate(rows),
             *(f'{fmean(r.returns.get(t, 0.0) for r in rows):.1f}' for t in report.tasks),
             f'{sum(r.early for r in rows)}', f'{max(r.peak_n for r in rows):.1f}') for name, rows in groups]
    head = [head, 'episodes', 'success', *map(_text, report.tasks), 'early ends', 'peak N']
    return _table(head, rows, range(1, len(head)))


def _policies(report: Report) -> str:
    groups = list(report.groups(lambda r: r.policy).items())
    x, x_text = (1.0, float(max(len(groups), 2))), ('first policy', 'newest')
    charts = ''
    if len(groups) > 2:
        def line(colour, value):
            return [(colour, [(i + 1.0, fmean(map(value, rows))) for i, (_, rows) in enumerate(groups)])]
        parts = ['<div><h3>success</h3>' + lines(line(0, lambda r: float(r.success)), x, 'success by policy',
                                                  x_text=x_text, percent=True, top=1.0) + '</div>']
        parts += [f'<div><h3>return of {_text(task)}</h3>' + lines(
            line(0, lambda r, task=task: r.returns.get(task, 0.0)), x, f'return of {printable(task)} by policy',
            x_text=x_text) + '</div>' for task in report.tasks]
        charts = f'<div class="grid" style="margin:10px 0 14px">{"".join(parts)}</div>'
    return (f'<h2>By policy version</h2><p>Means over the episodes of a version; versions in the order of their first '
            f'episode, in the table the newest first.</p>{charts}'
            f'{_outcomes(report, groups[::-1][:_MOST_ROWS], "policy")}{_more(len(groups), "versions")}')


def _triplets(report: Report) -> str:
    groups = [(f'{t}', rows) for t, rows in sorted(report.groups(lambda r: r.triplet).items())]
    return f'<h2>By triplet</h2>{_outcomes(report, groups, "triplet")}'


def _endings(report: Report) -> str:
    reasons, n = report.reasons(), len(report.rows)
    rows = [(f'<code>{_text(reason)}</code>', f'{count}', f'{count / n:.1%}',
             f'<span class="bar" style="width:{max(1, round(160 * count / n))}px"></span>')
            for reason, count in reasons[:_MOST_ROWS]]
    limit = min(r.limit_n for r in report.rows)
    peaks = [r.peak_n for r in report.rows]
    return (f'<h2>How episodes ended, and the wrist force</h2><div class="wide"><div><p>All but time_limit ended '
            f'early.</p>{_table(["reason", "episodes", "share", ""], rows, (1, 2))}{_more(len(reasons), "reasons")}'
            f'</div><div><p>Peak force of an episode, N; largest {max(peaks):.1f} N, {sum(p >= limit for p in peaks)} '
            f'at the limit or above.</p>'
            + histogram(peaks, 'peak force', mark=limit, mark_text=f'limit {limit:g} N', unit='N') + '</div></div>')


def _trouble(report: Report) -> str:
    """Quarantine, unreadable and unsealed bags."""
    out = ['<h2>Quarantine and unreadable bags</h2>']
    if report.quarantined:
        out.append(_table(['in quarantine', 'reasons'], [
            (f'<code>{_text(name)}</code>', '<br>'.join(_text(r) for r in reasons[:10]) or 'none told')
            for name, reasons, _ in report.quarantined[:_MOST_ROWS]]))
        out.append(_more(len(report.quarantined), 'bags'))
    if report.unreadable:
        out.append(_table(['unreadable', 'why'], [
            (f'<code>{_text(path.name)}</code>', _text(why.removeprefix(f'{path}: ')))
            for path, why in report.unreadable[:_MOST_ROWS]]))
        out.append(_more(len(report.unreadable), 'bags'))
    if report.partial:
        out.append(_table(['not sealed', 'bytes'], [
            (f'<code>{_text(path.name)}</code>', _bytes(size)) for path, size in report.partial[:_MOST_ROWS]], (1,)))
        out.append(_more(len(report.partial), 'bags'))
        out.append('<p>A bag that is not sealed is being recorded now, or was left by a recorder that was killed.</p>')
    return ''.join(out) if len(out) > 1 else ''.join(out) + '<p class="good">None.</p>'


def _disk(report: Report) -> str:
    n, steps = max(len(report.rows), 1), max(report.steps, 1)
    aside = {'in quarantine': report.quarantined, 'not sealed': report.partial}
    rows = [('sound episodes', _bytes(report.bytes)), ('an episode', _bytes(report.bytes / n)),
            ('a step', _bytes(report.bytes / steps)), ('an hour of robot time', _bytes(report.bytes / steps * 72_000)),
            *((what, _bytes(sum(found[-1] for found in bags))) for what, bags in aside.items() if bags)]
    return '<h2>Disk</h2>' + _table(['', ''], rows, (1,))


def _films(report: Report, count: int) -> str:
    """Filmstrips of the newest success, of the newest early end, and of the newest episodes."""
    newest = report.rows[::-1]
    chosen = [next((r for r in newest if r.success), None), next((r for r in newest if r.early), None), *newest[:count]]
    figures = []
    for row in dict.fromkeys(r.path for r in chosen if r is not None):
        if len(figures) == count:
            break
        try:
            film = filmstrip(Episode.open(row))
        except (BagError, ValueError):      # it is told of where bags are checked; here it is only a picture
            continue
        if film is not None:
            r = next(r for r in chosen if r is not None and r.path == row)
            data = base64.b64encode(film).decode()
            figures.append(f'<figure><img alt="filmstrip" src="data:image/jpeg;base64,{data}"><figcaption>'
                           f'{_text(r.episode_id)}: triplet {r.triplet}, policy {_text(r.policy)}, {r.steps} steps, '
                           f'{_text(r.reason)}, {"success" if r.success else "no success"}</figcaption></figure>')
    return f'<h2>Some episodes</h2>{"".join(figures)}' if figures else ''


def filmstrip(episode: Episode) -> bytes | None:
    """A JPEG of the first camera at equal distances of time; None without cameras."""
    camera = next((c for c in CAMERAS if episode.has(c)), None)
    steps = [s for s in episode.steps() if camera in s.stamps]
    if not steps:
        return None
    images = [episode.samples(steps[round(i * (len(steps) - 1) / (_FRAMES - 1))], (camera,))[camera]['image']
              for i in range(_FRAMES)]
    strip = np.concatenate([cv2.resize(i, (_FRAME_PX, _FRAME_PX), interpolation=cv2.INTER_AREA) for i in images], 1)
    ok, data = cv2.imencode('.jpg', cv2.cvtColor(strip, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data.tobytes() if ok else None


def _newest(report: Report) -> str:
    rows = [(_text(r.time), f'{r.triplet}', f'<code>{_text(r.policy)}</code>', f'{r.steps}', _text(r.reason),
             '<span class="good">yes</span>' if r.success else 'no', f'{r.peak_n:.1f}',
             *(f'{r.returns[t]:.1f}' if t in r.returns else '' for t in report.tasks), _bytes(r.bytes))
            for r in report.rows[:-21:-1]]
    head = ['time (UTC)', 'triplet', 'policy', 'steps', 'reason', 'success', 'peak N', *map(_text, report.tasks), 'size']
    return '<h2>The newest episodes</h2>' + _table(head, rows, (1, 3, *range(6, len(head))))
