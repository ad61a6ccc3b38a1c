"""Records: what a study measured, as npz + JSON, readable with numpy alone.

A record answers one question about named inputs. It is keyed by a digest of the
question, options, inputs, data and version, written whole or not at all, and looked up before
the work is done, so that asking again costs nothing.

    [record] = query("runs/mini/records", "interpolation", a="p_t_0", b="p_t_1")
    record.barrier_chord

What a record of each kind holds is in `tlx.records.results`; `make_record` and `save` write one.
"""

from tlx.records.query import query, scan
from tlx.records.results import KINDS, incomplete
from tlx.records.schema import Record, canonical_json, digest, make_record, plain, record_digest
from tlx.records.store import find, load, outdated, save, set_aside, sweep

__all__ = [
    "KINDS",
    "Record",
    "canonical_json",
    "digest",
    "find",
    "incomplete",
    "load",
    "make_record",
    "outdated",
    "plain",
    "query",
    "record_digest",
    "save",
    "scan",
    "set_aside",
    "sweep",
]
