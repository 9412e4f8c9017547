"""Millions of rows into numpy, without a Python object for each: COPY in PostgreSQL's binary format.

Every column has a fixed width and is never NULL, so a row is a record and a chunk of rows is an array of them. Reading
goes to libpq itself: psycopg's own iterator takes ten times as long for rows this small.
"""

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
from django.db import connection
from numpy.typing import NDArray
from psycopg import errors, pq

Columns = dict[str, NDArray[Any]]

_TYPES = {"int4": ">i4", "int8": ">i8", "float8": ">f8", "bool": "?"}
_NATIVE = {"int4": np.int64, "int8": np.int64, "float8": np.float64, "bool": np.bool_}
_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER = len(_SIGNATURE) + 8
"""Signature, flags and the length of an extension that nobody uses."""
CHUNK = 1 << 24
"""Bytes held beside the arrays."""
WORK_MEM = "64MB"
"""What the server may hash and sort a hundred thousand frames in; with its usual 4 MB it writes them to disk."""


def copied(select: str, parameters: Mapping[str, object], columns: Mapping[str, str]) -> Columns:
    """The rows of ``select`` as one array for each of ``columns``: name -> int4, int8, float8 or bool, in the order of
    the select list. Raises ValueError where a column is NULL or of another type, and what the database raises."""
    record = np.dtype(
        [("fields", ">i2")]
        + [part for name, kind in columns.items() for part in ((f"{name}:", ">i4"), (name, _TYPES[kind]))]
    )
    with closing(_chunks(select, parameters, record.itemsize)) as come:
        chunks = [_parse(chunk, record, columns) for chunk in come]
    if not chunks:
        return {name: np.zeros(0, _NATIVE[kind]) for name, kind in columns.items()}
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in columns}


def _parse(chunk: bytearray, record: "np.dtype[Any]", columns: Mapping[str, str]) -> Columns:
    if len(chunk) % record.itemsize:
        raise ValueError("A column is NULL or not of the type that was named for it.")
    rows = np.frombuffer(chunk, record)
    for name in columns:
        if not bool(np.all(rows[f"{name}:"] == record[name].itemsize)):
            raise ValueError(f"The column {name} is NULL or not {columns[name]}.")
    return {name: rows[name].astype(_NATIVE[kind]) for name, kind in columns.items()}


def _chunks(select: str, parameters: Mapping[str, object], width: int) -> Generator[bytearray]:
    with connection.cursor() as cursor, connection.wrap_database_errors:
        cursor.execute("SELECT set_config('work_mem', %s, true)", [WORK_MEM])  # within a transaction, to its end
        query = cursor.mogrify(f"COPY ({select}) TO STDOUT (FORMAT BINARY)", parameters)
        pgconn = cursor.connection.pgconn
        result = pgconn.exec_(query.encode())
        if result.status != pq.ExecStatus.COPY_OUT:
            raise errors.error_from_result(result)
        rows = max(1, CHUNK // width)
        chunk, over, get = bytearray(), False, pgconn.get_copy_data
        try:
            size, data = get(0)
            over = size <= 0
            chunk += bytes(data)[_HEADER:]
            while not over:
                for _ in range(rows):
                    size, data = get(0)
                    if size <= 0:
                        over = True
                        break
                    chunk += data
                if not over:
                    yield chunk
                    chunk = bytearray()
        finally:  # whatever happened to the rows, the connection is done with them
            while not over:
                over = get(0)[0] <= 0
            results = list(iter(pgconn.get_result, None))
        if not results or results[-1].status != pq.ExecStatus.COMMAND_OK:
            raise errors.error_from_result(results[-1]) if results else errors.OperationalError("The copy broke off.")
        del chunk[-2:]  # the trailer: a row of -1 fields
        if chunk:
            yield chunk
