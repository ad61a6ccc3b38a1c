"""What is recorded of the layers of a run."""

import numpy as np

from tlx.analyses.parameters import spectra
from tlx.studies.questions.spectra import QUANTILES, _quantiles


def test_quantiles_are_those_of_all_values():
    values, times = np.array([5.0, 3.0, 2.0, 1.0]), np.array([1, 5, 1, 4])
    found = spectra.Spectra(
        ("conv",), "circular", np.array([True]), {"conv": values}, {"conv": times}, {}, None, ()
    )
    every = np.repeat(values, times)
    place = np.floor(QUANTILES * (len(every) - 1)).astype(int)
    np.testing.assert_array_equal(_quantiles(found, "conv"), every[place])
