"""Records made by hand in the form of their kind: what is not given is undefined."""

import numpy as np

from tlx.records import KINDS, incomplete, make_record


def record_of(kind, *, inputs, results, options=None, meta=None):
    typed = incomplete(KINDS[kind].results, **results)
    return make_record(kind, inputs=inputs, options=options, results=typed, meta=meta)


def changed(record, *, inputs=None, options=None, **results):
    """The record with other inputs, options or results."""
    return record_of(
        record.question,
        inputs={**record.inputs, **(inputs or {})},
        options={**record.options, **(options or {})},
        results={**record.results._asdict(), **results},
    )


def without(record, is_gone):
    """The record where the results are undefined whose names are gone."""
    kept = {n: v for n, v in record.results._asdict().items() if not is_gone(n)}
    return record_of(record.question, inputs=record.inputs, options=record.options, results=kept)


def nan(record, *names):
    """The record with NaN at every place of some results."""
    gone = {n: np.full(np.shape(getattr(record.results, n)), np.nan) for n in names}
    return changed(record, **gone)
