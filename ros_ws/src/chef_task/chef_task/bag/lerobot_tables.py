# SPDX-License-Identifier: Apache-2.0
"""The Parquet files of a LeRobot dataset: rows of data, episodes and tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from chef_task.bag.errors import BagError

try:
    import pyarrow as pa
    from pyarrow import parquet
except ImportError as e:
    raise BagError('exporting needs pyarrow: pip install pyarrow') from e

CHUNK_FILES = 1000
DATA_FILE_MB = 100
FILE = 'chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
_BUFFERED_EPISODES = 100
_IMAGE = pa.struct({'bytes': pa.binary(), 'path': pa.string()})


def _type(feature: dict) -> pa.DataType:
    if feature['dtype'] == 'image':
        return _IMAGE
    kind = {'float32': pa.float32(), 'int64': pa.int64(), 'bool': pa.bool_()}[feature['dtype']]
    return kind if feature['shape'] == [1] else pa.list_(kind, feature['shape'][0])


class DataFiles:
    """`data/chunk-*/file-*.parquet`: an episode is a row group, a new file begins at 100 MB.

    Args:
      folder: of the dataset.
      features: as in info.json.
    """

    def __init__(self, folder: Path, features: dict[str, dict]):
        self._folder = folder
        self._schema = pa.schema([(k, _type(f)) for k, f in features.items()])
        self._number, self._bytes = -1, 0
        self._writer: parquet.ParquetWriter | None = None

    def write(self, values: dict[str, np.ndarray], images: dict[str, list[bytes]]) -> tuple[int, int]:
        """Writes an episode; returns the indices of its chunk and of its file within."""
        columns = []
        for key in self._schema.names:
            kind = self._schema.field(key).type
            if key in images:
                columns.append(pa.array([{'bytes': b} for b in images[key]], kind))
            elif pa.types.is_fixed_size_list(kind):
                flat = pa.array(np.ascontiguousarray(values[key]).reshape(-1), kind.value_type)
                columns.append(pa.FixedSizeListArray.from_arrays(flat, kind.list_size))
            else:
                columns.append(pa.array(values[key][:, 0], kind))
        table = pa.Table.from_arrays(columns, schema=self._schema)
        if self._writer is None or self._bytes + table.nbytes > DATA_FILE_MB << 20:
            self._next_file()
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._bytes += table.nbytes
        return divmod(self._number, CHUNK_FILES)

    def _next_file(self) -> None:
        self.close()
        self._number, self._bytes = self._number + 1, 0
        chunk, file = divmod(self._number, CHUNK_FILES)
        path = self._folder / 'data' / FILE.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        # statistics are what a reader chooses row groups by; those of images would be whole images
        self._writer = parquet.ParquetWriter(
            path, self._schema, compression='snappy', use_dictionary=False,
            write_statistics=['frame_index', 'episode_index', 'index', 'task_index'])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class EpisodeFile:
    """`meta/episodes/chunk-000/file-000.parquet`: a row an episode."""

    def __init__(self, folder: Path):
        self._path = folder / 'meta' / 'episodes' / FILE.format(chunk_index=0, file_index=0)
        self._path.parent.mkdir(parents=True)
        self._rows: list[dict] = []
        self._writer: parquet.ParquetWriter | None = None

    def add(self, row: dict) -> None:
        """Appends a row of plain values; all rows have the keys of the first."""
        self._rows.append(row)
        if len(self._rows) == _BUFFERED_EPISODES:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        table = pa.Table.from_pylist(self._rows, self._writer and self._writer.schema)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, table.schema, compression='snappy')
        self._writer.write_table(table)
        self._rows.clear()

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def write_tasks(folder: Path, sentences: list[str]) -> None:
    """`meta/tasks.parquet`: task_index by instruction, which is the index of a pandas table."""
    def column(name, kind, dtype):
        return {'name': name, 'field_name': name, 'pandas_type': kind, 'numpy_type': dtype, 'metadata': None}

    pandas = {'index_columns': ['task'], 'pandas_version': '2.0.0',
              'columns': [column('task_index', 'int64', 'int64'), column('task', 'unicode', 'object')],
              'column_indexes': [{**column(None, 'unicode', 'object'), 'metadata': {'encoding': 'UTF-8'}}]}
    schema = pa.schema([('task_index', pa.int64()), ('task', pa.string())], {'pandas': json.dumps(pandas)})
    table = pa.table({'task_index': list(range(len(sentences))), 'task': sentences}, schema)
    parquet.write_table(table, folder / 'meta' / 'tasks.parquet')


def count_rows(folder: Path) -> int:
    """Rows in all data files, read from them."""
    return sum(parquet.read_metadata(p).num_rows for p in (folder / 'data').glob('*/*.parquet'))
