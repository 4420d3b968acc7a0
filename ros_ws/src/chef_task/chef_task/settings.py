# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses from mappings, checked: every bad key or value is one ValueError that names it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from chef_task.yaml_file import short

T = TypeVar('T')
REQUIRED = dataclasses.MISSING      # as an option's default: there is none


def option(default: Any, doc: str, *, low: float | None = None, high: float | None = None,
           above: float | None = None, below: float | None = None, choices: tuple | None = None,
           size: int | None = None) -> Any:
    """A dataclass field with its meaning and unit (`doc`) and the values it may have.

    low, high: inclusive bounds; above, below: exclusive ones; both also bind the items of a tuple.
    size: how many items a tuple must have.
    """
    bounds = {'low': low, 'high': high, 'above': above, 'below': below, 'choices': choices, 'size': size}
    return dataclasses.field(default=default, metadata={'doc': doc, **bounds})


def build(cls: type[T], values: Any, where: str = '') -> T:
    """`cls` from a mapping; fields that are missing keep their defaults.

    Args:
      cls: dataclass whose fields are int, float, bool, str, tuples of one of them or such a dataclass; a field
        without a default is required.
      values: what a YAML or JSON file holds; None stands for an empty mapping.
      where: dotted path of the enclosing key, for messages.

    Raises:
      ValueError: values is not a mapping, lacks a required key, has an unknown one, or a value of wrong type or range.
    """
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise ValueError(f'{where or "the file"} must be a mapping of settings, not {short(values)}')
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            known = ', '.join(sorted(fields))
            raise ValueError(f'unknown key {short(_join(where, key))}, known are {known}')
    types = get_type_hints(cls)
    out = {}
    for name, value in values.items():
        path, kind = _join(where, name), types[name]
        if dataclasses.is_dataclass(kind):
            out[name] = build(kind, value, path)
        else:
            out[name] = _convert(value, kind, path)
            _check(out[name], fields[name].metadata, path)
    for name, field in fields.items():
        if name not in out and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f'{_join(where, name)} is missing')
    try:
        return cls(**out)
    except ValueError as e:     # of a __post_init__, which knows the keys only
        raise ValueError(_join(where, str(e))) from None


def to_dict(config: Any) -> dict:
    """Plain values for JSON and YAML; `build` reads them back."""
    return {k: list(v) if isinstance(v, tuple) else to_dict(v) if dataclasses.is_dataclass(v) else v
            for k, v in ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))}


def _join(where: str, key: Any) -> str:
    return f'{where}.{key}' if where else f'{key}'


def _convert(value: Any, kind: Any, path: str) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    if kind is float and not isinstance(value, bool):
        number = _float(value)
        if number is not None:
            return number
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(v, get_args(kind)[0], f'{path}[{i}]') for i, v in enumerate(value))
    name = {bool: 'true or false', str: 'text', int: 'a whole number', float: 'a finite number',
            tuple[int, ...]: 'a list of whole numbers', tuple[float, ...]: 'a list of numbers',
            tuple[str, ...]: 'a list of texts'}
    raise ValueError(f'{path} must be {name[kind]}, not {short(value)}')


def _float(value: Any) -> float | None:
    # YAML 1.1 reads 1e-4 (no dot) as text
    try:
        number = float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None
    return number if number is not None and math.isfinite(number) else None


def _check(value: Any, rule: Mapping, path: str) -> None:
    if not rule:    # a field that is no option
        return
    if rule['choices'] is not None and value not in rule['choices']:
        raise ValueError(f'{path} must be one of {", ".join(map(str, rule["choices"]))}, not {short(value)}')
    if rule['size'] is not None and len(value) != rule['size']:
        raise ValueError(f'{path} must hold {rule["size"]} values, not {short(list(value))}')
    for v in value if isinstance(value, tuple) else (value,):
        for key, holds, text in (
            ('low', lambda v, b: v >= b, 'at least'), ('high', lambda v, b: v <= b, 'at most'),
            ('above', lambda v, b: v > b, 'above'), ('below', lambda v, b: v < b, 'below'),
        ):
            if rule[key] is not None and not holds(v, rule[key]):
                raise ValueError(f'{path} must be {text} {rule[key]}, not {short(value)}')
