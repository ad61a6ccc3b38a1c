"""What setting a module back costs has an interval over the test images."""

import numpy as np

from tlx.analyses.function import inference
from tlx.studies.questions.rewinding import _drop_interval


def test_the_interval_of_a_cost_is_that_of_two_models_on_the_same_images():
    rng = np.random.default_rng(0)
    trained = (rng.random(60) < 0.1).astype(np.float32)
    rewound = (rng.random((2, 3, 60)) < 0.4).astype(np.float32)
    rewound[1, 2] = trained
    low, high = _drop_interval(trained, rewound)
    assert low.shape == high.shape == (2, 3)
    for at in np.ndindex(2, 3):
        found = inference.difference_of_examples(1 - trained, 1 - rewound[at])
        np.testing.assert_allclose((low[at], high[at]), (found.low, found.high))
        assert low[at] <= rewound[at].mean() - trained.mean() <= high[at]
    assert low[1, 2] < 0 < high[1, 2]


def test_images_that_were_not_seen_are_left_out_and_shares_have_a_t_interval():
    rng = np.random.default_rng(1)
    trained, rewound = rng.random(40), rng.random((1, 1, 40))
    unseen = np.append(trained, np.nan), np.append(rewound, [[[np.nan]]], axis=-1)
    found = np.ravel(_drop_interval(*unseen))
    np.testing.assert_array_equal(found, np.ravel(_drop_interval(trained, rewound)))
    apart = rewound[0, 0] - trained
    half = 2.0227 * apart.std(ddof=1) / np.sqrt(40)  # Student's t of 39 degrees
    np.testing.assert_allclose(found, apart.mean() + half * np.array([-1, 1]), rtol=1e-4)
