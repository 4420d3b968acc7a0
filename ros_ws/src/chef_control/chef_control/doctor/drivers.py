# SPDX-License-Identifier: Apache-2.0
"""All drivers that a cell's config can name, with their settings, as the code has them."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

from chef_control import devices


def manual() -> Iterator[str]:
    """Lines of text."""
    for (role, name), driver in sorted(devices.DRIVERS.items()):
        module, _, attribute = driver.device.partition(':')
        where = f'devices.{role}' + ('.<camera>' if role == devices.CAMERAS else '')
        yield f'{where}: driver: {name}' + ('' if driver.fake else '   (without a fake)')
        try:
            cls = getattr(importlib.import_module(module), attribute)
        except ImportError as e:
            yield f'    cannot be used here: {e}'
            continue
        yield f'    {_first_line(importlib.import_module(module).__doc__)}'
        yield from _settings(cls.Settings, '    ')
        yield ''
    yield f'A device of your own: driver: module:Class. Filled in from the cell: {", ".join(devices.FILLED)}.'


def _settings(cls: Any, indent: str) -> Iterator[str]:
    for field in dataclasses.fields(cls):
        default = 'required' if field.default is field.default_factory is dataclasses.MISSING else field.default
        if dataclasses.is_dataclass(default):
            yield f'{indent}{field.name}: {field.metadata.get("doc", "")}'
            yield from _settings(type(default), indent + '    ')
            continue
        shown = list(default) if isinstance(default, tuple) else repr(default) if default != 'required' else default
        yield f'{indent}{field.name} ({shown}): {field.metadata.get("doc", "")}'


def _first_line(text: str | None) -> str:
    return (text or '').strip().split('\n')[0]
