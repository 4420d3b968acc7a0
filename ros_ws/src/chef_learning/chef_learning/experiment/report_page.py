# SPDX-License-Identifier: Apache-2.0
"""Sections of text, tables and pictures as one page of HTML that fetches and runs nothing, or as Markdown."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

_STYLE = ('body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}'
          'table{border-collapse:collapse;margin:1em 0}td,th{border-bottom:1px solid #ddd;padding:.25em .7em;'
          'text-align:left}img{max-width:100%}code{background:#f3f3f3}')
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
Table = tuple[Sequence[str], list[Sequence[str]]]
Item = str | bytes | Table      # a paragraph, a picture (PNG or JPEG), or the head and rows of a table


def html(title: str, parts: list[tuple[str, list[Item]]]) -> str:
    """One page that fetches and runs nothing."""
    out = ['<!doctype html><html lang="en"><head><meta charset="utf-8">',
           f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
           f'<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>']
    for name, content in parts:
        out.append(f'<h2>{escape(name)}</h2>')
        for item in content:
            if isinstance(item, bytes):
                kind = 'png' if item.startswith(b'\x89PNG') else 'jpeg'
                out.append(f'<img alt="{escape(name)}" src="data:image/{kind};base64,{base64.b64encode(item).decode()}">')
            elif isinstance(item, str):
                out.append(f'<p>{escape(item)}</p>')
            else:
                head, rows = item
                out.append('<table>' + ''.join(
                    '<tr>' + ''.join(f'<{tag}>{escape(str(c))}</{tag}>' for c in row) + '</tr>'
                    for tag, row in [('th', head), *(('td', r) for r in rows)]) + '</table>')
    return ''.join(out) + '</body></html>\n'


def markdown(title: str, parts: list[tuple[str, list[Item]]]) -> str:
    """The same without pictures."""
    out = [f'# {title}', '']
    for name, content in parts:
        out += [f'## {name}', '']
        for item in content:
            if isinstance(item, bytes):
                out += ['(a picture, see report.html)', '']
            elif isinstance(item, str):
                out += [item, '']
            else:
                head, rows = item
                out += [_row(head), _row(['---'] * len(head)), *map(_row, rows), '']
    return '\n'.join(out)


def _row(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(str(c).replace('|', '\\|') for c in cells) + ' |'
