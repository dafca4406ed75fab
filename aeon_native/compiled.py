"""The compiled kernels under the names of their twins. Importing this compiles them or loads them from the cache."""

from __future__ import annotations

from . import reference
from .checksum import crc32c, records_checksum, rows_checksum, rows_verify
from .cluster import dot_table, split_rows
from .int8 import (
    dot_f32,
    dot_int8,
    dot_int8_int8,
    dot_rows_f32,
    dot_rows_int8,
    normalize,
    prepare_query,
    quantize,
)
from .page_writing import clear_lanes, closer_rows, copy_lanes, encode_lanes, insert_rows
from .scan import finish_topk, scan_f32, scan_int8
from .sketch import name_rows, nearest_pages, rotate_rows, search_one, search_pages, search_rows
from .working_set import likeness, nearest, rescore

__all__ = [
    "clear_lanes",
    "closer_rows",
    "copy_lanes",
    "crc32c",
    "dot_f32",
    "dot_int8",
    "dot_int8_int8",
    "dot_rows_f32",
    "dot_rows_int8",
    "dot_table",
    "encode_lanes",
    "finish_topk",
    "insert_rows",
    "likeness",
    "name_rows",
    "nearest",
    "nearest_pages",
    "normalize",
    "prepare_query",
    "quantize",
    "records_checksum",
    "rescore",
    "rotate_rows",
    "rows_checksum",
    "rows_verify",
    "scan_f32",
    "scan_int8",
    "search_one",
    "search_pages",
    "search_rows",
    "split_rows",
]

for _name in __all__:
    globals()[_name].__doc__ = getattr(reference, _name).__doc__
