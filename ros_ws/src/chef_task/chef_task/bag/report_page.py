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

from chef_task.bag.commands.text import printable
from chef_task.bag.errors import BagError
from chef_task.bag.report import Report, Row, rolling, wilson
from chef_task.bag.report_charts import COLOURS, histogram, lines
from chef_task.bag.report_films import films
from chef_task.bag.report_style import STYLE

_MOST_ROWS = 20             # of a table


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
            f'<title>Episodes in {where}</title><style>{STYLE}</style></head><body>'
            f'<h1>Episodes</h1><p><code>{where}</code>, {_span(report)}as of {now}</p>'
            f'{"".join(sections)}</body></html>\n')


def _text(value: object) -> str:
    """Text of unknown origin for HTML."""
    return escape(printable(str(value)))


def _span(report: Report) -> str:
    times = [r.time for r in report.rows if r.time != '-']      # of simulated time there is no date
    return f'{_text(times[0])} to {_text(times[-1])} UTC, ' if times else ''


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
    figures = [f'<figure><img alt="filmstrip" src="data:image/jpeg;base64,{base64.b64encode(film).decode()}">'
               f'<figcaption>{_text(r.episode_id)}: triplet {r.triplet}, policy {_text(r.policy)}, {r.steps} steps, '
               f'{_text(r.reason)}, {"success" if r.success else "no success"}</figcaption></figure>'
               for r, film in films(report, count)]
    return f'<h2>Some episodes</h2>{"".join(figures)}' if figures else ''


def _newest(report: Report) -> str:
    rows = [(_text(r.time), f'{r.triplet}', f'<code>{_text(r.policy)}</code>', f'{r.steps}', _text(r.reason),
             '<span class="good">yes</span>' if r.success else 'no', f'{r.peak_n:.1f}',
             *(f'{r.returns[t]:.1f}' if t in r.returns else '' for t in report.tasks), _bytes(r.bytes))
            for r in report.rows[:-21:-1]]
    head = ['time (UTC)', 'triplet', 'policy', 'steps', 'reason', 'success', 'peak N', *map(_text, report.tasks),
            'size']
    return '<h2>The newest episodes</h2>' + _table(head, rows, (1, 3, *range(6, len(head))))
