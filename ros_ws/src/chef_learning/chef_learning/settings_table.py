# SPDX-License-Identifier: Apache-2.0
"""`python -m chef_learning.settings_table FILE`: writes the table of all learner settings anew into a manual."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, get_type_hints

from chef_learning.config import LearnerConfig

BEGIN = '<!-- written by python -m chef_learning.settings_table docs/learner.md -->'
END = '<!-- end of the settings -->'


def table(config: type = LearnerConfig) -> str:
    """A Markdown table, a row a setting: name, default, what values it may have, meaning."""
    rows = ['| setting | default | values | meaning |', '|---|---|---|---|']
    return '\n'.join(rows + [f'| `{name}` | `{json.dumps(value)}` | {_values(rule)} | {rule["doc"]} |'
                             for name, value, rule in settings_of(config)])


def settings_of(config: type, where: str = '') -> list[tuple[str, Any, dict]]:
    """(dotted name, default, the rest of what `option` was told) of every setting, those of parts last."""
    types, own, parts = get_type_hints(config), [], []
    for f in dataclasses.fields(config):
        if dataclasses.is_dataclass(types[f.name]):
            parts += settings_of(types[f.name], f'{where}{f.name}.')
        else:
            own.append((where + f.name, f.default, dict(f.metadata)))
    return own + parts


def _values(rule: dict) -> str:
    if rule['choices']:
        return ', '.join(f'`{c}`' for c in rule['choices'])
    words = {'low': 'at least', 'above': 'above', 'high': 'at most', 'below': 'below'}
    return ', '.join(f'{word} {rule[key]}' for key, word in words.items() if rule[key] is not None)


def insert(text: str) -> str:
    """A manual with the table between its two marks; ValueError if it has none."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f'it has no lines {BEGIN} and {END}')
    return f'{head}{BEGIN}\n{table()}\n{END}{tail}'


def main() -> int:
    """Returns the exit code: 0, or 2 for wrong input."""
    if len(sys.argv) != 2 or sys.argv[1].startswith('-'):
        print('usage: python -m chef_learning.settings_table FILE', file=sys.stderr)
        return 2
    path = Path(sys.argv[1])
    try:
        path.write_text(insert(path.read_text(encoding='utf-8')), encoding='utf-8')
    except OSError as e:
        print(f'settings_table: {path}: {e.strerror}', file=sys.stderr)
        return 2
    except ValueError as e:
        print(f'settings_table: {path}: {e}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
