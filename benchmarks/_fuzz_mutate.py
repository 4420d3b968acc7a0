# SPDX-License-Identifier: Apache-2.0
"""Mutations for `fuzz.py`: of bytes, of text, and of the trees that YAML and JSON files hold.

Everything random comes from the `random.Random` that is handed in, so an input is a function of its number.
"""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

import yaml

_SIZES = (0, 1, 2, 7, 127, 128, 255, 256, 4095, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1,
          2**63, 2**64 - 1)
_DEEP = 3000
_FastDumper = getattr(yaml, 'CSafeDumper', yaml.SafeDumper)
# Stand-ins for what no dumper would write; `text_of` puts the text in their place.
_RAW = {
    '@deep': '[' * _DEEP + ']' * _DEEP,
    '@deepmap': '{a: ' * _DEEP + '1' + '}' * _DEEP,
    '@digits': '9' * 6000,
    '@bomb': '[&a0 [1, 1], ' + ', '.join(f'&a{i + 1} [*a{i}, *a{i}]' for i in range(40)) + ']',
    '@merge': '[&m0 {k0: 1}, ' + ', '.join(f'&m{i + 1} {{<<: [*m{i}, *m{i}], k{i + 1}: 1}}' for i in range(40)) + ']',
    '@self': '&s [*s]',
    '@selfmap': '&s {s: *s}',
    '@alias': '*nowhere',
    '@tag': '!!python/object/apply:os.system ["true"]',
    '@binary': '!!binary "!"',
    '@date': '2001-13-45',
    '@sexagesimal': '190:20:30',
    '@set': '!!set {1, 2}',
    '@float': '!!float "x"',
    '@key': '{[1]: 2}',
}
_LEAVES = (None, True, False, '', 'x', '0', 'nan', '\x00', 'a\nb', '\ud800', '~', 0, 1, -1, 7, 2**31, 2**63, -2**63, 2**64,
           10**400, 0.5, -0.0, 5e-324, 1e308, math.nan, math.inf, -math.inf, [], {}, [[]], {'': ''}, {'a': {'b': [1]}},
           'é' * 300, 'x' * 5000, [0] * 2000, [1.0] * 3, [1.0] * 7, *_RAW)


def mutate_bytes(rng: random.Random, data: bytes, other: bytes = b'', times: int | None = None) -> bytes:
    """`data` after 1 to 4 edits; `other` is what splices come from."""
    out = bytearray(data)
    for _ in range(times or rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out)) if out else 0
        kind = rng.randrange(9)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at] = rng.randrange(256)
        elif kind in (2, 3):        # a length, a count, an offset
            width = rng.choice((1, 2, 4, 4, 8))
            at -= at % rng.choice((1, 4))
            value = rng.choice(_SIZES) if rng.random() < 0.8 else rng.randrange(len(out) + 1)
            out[at:at + width] = (value % 256**width).to_bytes(width, rng.choice(('little', 'little', 'big')))
        elif kind == 4:
            del out[at:]
        elif kind == 5:
            del out[at:at + rng.choice((1, 4, 8, 100, 5000))]
        elif kind == 6:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 9, 200)))
        elif kind == 7:
            start = rng.randrange(len(out) + 1)
            out[at:at] = out[start:start + rng.choice((1, 8, 64, 3000))]
        elif other:
            start = rng.randrange(len(other))
            piece = other[start:start + rng.choice((4, 40, 400, 4000))]
            out[at:at + len(piece)] = piece
    return bytes(out)


def mutate_text(rng: random.Random, text: str) -> str:
    """A text after one edit; may hold what cannot be printed or encoded."""
    at = rng.randrange(len(text) + 1)
    piece = rng.choice(('', ' ', '\n', '\x00', '\x1b[2J', '\ud800', 'é', "'", '"', '/', '..', ':=', ':', '-', '{', '%s', '9' * 40,
                        '٣', 'A' * 2000, '\n  ', '&a', '*a', '<<', '!!', '\t', 'nan', '[4000000000]', '=' * 80 + '\n'))
    return text[:at] + piece + text[at + rng.choice((0, 0, 1, 5, 10**6)):]


def _places(tree: Any, found: list | None = None) -> list[tuple[Any, Any]]:
    """(container, key) of every value in it."""
    found = [] if found is None else found
    for key in (tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()):
        found.append((tree, key))
        _places(tree[key], found)
    return found


def mutate_tree(rng: random.Random, tree: Any) -> Any:
    """A copy of nested dicts and lists after 1 to 3 edits: of keys, of values, of the shape."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(tree)
        if not places or rng.random() < 0.01:
            return copy.deepcopy(rng.choice(_LEAVES))
        place, key = rng.choice(places)
        kind, value = rng.randrange(8), place[key]
        if kind == 0:
            del place[key]
        elif kind == 1:
            other, at = rng.choice(places)
            place[key] = json.loads(json.dumps(other[at]))
        elif kind == 2 and isinstance(value, (int, float)):
            place[key] = rng.choice((-value, value * 1e6, value / 1e9, str(value), [value], value + 0.5))
        elif kind == 3 and isinstance(value, str):
            place[key] = mutate_text(rng, value)
        elif kind == 4 and isinstance(place, dict):
            place[rng.choice(('', 'x', '\x00', '@deep', '@self', '@date', 'y' * 500, 'null', '1', '<<', '@key'))] = place.pop(key)
        elif kind == 5:
            place[key] = [copy.deepcopy(value) for _ in range(rng.choice((0, 1, 2, 500)))]
        else:
            place[key] = copy.deepcopy(rng.choice(_LEAVES))
    return tree


def text_of(rng: random.Random, tree: Any, syntax: str) -> bytes:
    """The tree as a file of 'yaml' or 'json', sometimes damaged further as text."""
    if syntax == 'json':
        text = json.dumps(tree, indent=rng.choice((None, 1)), allow_nan=True)
    else:
        style = rng.choice((None, False, True))
        try:
            text = yaml.dump(tree, Dumper=_FastDumper, sort_keys=False, width=10**6, default_flow_style=style)
        except UnicodeEncodeError:      # a lone surrogate
            text = yaml.safe_dump(tree, sort_keys=False, width=10**6, default_flow_style=style)
    for name, raw in _RAW.items():
        for quoted in (f"'{name}'", f'"{name}"'):
            if quoted in text:
                text = text.replace(quoted, raw if text.count(quoted) < 3 else '0')
    data = text.encode('utf-8', 'surrogatepass')
    if rng.random() < 0.2:
        data = mutate_bytes(rng, data)
    return data
