"""What training changed in a matrix, against planted changes and numpy."""

import numpy as np
import pytest

from tlx.analyses.parameters import change
from tlx.analyses.parameters.spectra import Layer

RNG = np.random.default_rng(0)
I, O = 40, 24  # noqa: E741


def matrix(*shape):
    return RNG.standard_normal(shape).astype(np.float64)


W = matrix(I, O)
ORTHONORMAL = np.linalg.qr(matrix(I, O))[0] * np.linspace(3, 1, O)  # with its axes for directions


def changed(before, after, **options):
    found = change.of_layers({"w": before}, {"w": after}, **options)
    return {
        name: value[0] if name not in ("layers", "summaries") else value
        for name, value in found._asdict().items()
    }


def test_no_change():
    found = changed(W, W)
    assert (found["relative"], found["rank"], found["intruders"]) == (0, 0, 0)
    np.testing.assert_allclose([found["cosine"], found["scale"]], 1)
    assert found["spectra"] == 0
    np.testing.assert_allclose(found["nearest"], 1)


def test_a_change_of_low_rank():
    added = sum(np.outer(matrix(I), matrix(O)) for _ in range(3))
    found = changed(W, W + 0.01 * added)
    assert found["rank"] <= 3
    assert found["full_rank"] == O
    np.testing.assert_allclose(
        found["relative"], 0.01 * np.linalg.norm(added) / np.linalg.norm(W), rtol=1e-9
    )
    values = np.linalg.svd(added, compute_uv=False)
    np.testing.assert_allclose(
        found["summaries"].stable_rank[0], np.sum(values**2) / values[0] ** 2, rtol=1e-9
    )


def test_noise_has_the_stable_rank_of_noise():
    found = changed(matrix(400, 300), matrix(400, 300))
    assert found["rank"] > 150
    np.testing.assert_allclose(found["summaries"].stable_rank[0], found["as_noise"], rtol=0.05)
    assert abs(found["cosine"]) < 4 * found["chance"]


def test_a_planted_direction_is_an_intruder_and_no_other_is():
    direction = np.ones(O) / np.sqrt(O)  # 0.2 with each axis
    found = changed(ORTHONORMAL, ORTHONORMAL + 30 * np.outer(np.ones(I) / np.sqrt(I), direction))
    assert found["intruders"] == 1
    assert np.argmin(found["nearest"]) == 0
    np.testing.assert_allclose(found["nearest"][0], 1 / np.sqrt(O), atol=0.05)
    none = changed(ORTHONORMAL, ORTHONORMAL + 0.01 * matrix(I, O))
    assert none["intruders"] == 0
    assert changed(ORTHONORMAL, ORTHONORMAL, below=1.0, top=40)["nearest"].shape == (40,)


def test_scale_and_order():
    found = changed(W, 3 * W)
    np.testing.assert_allclose([found["scale"], found["cosine"], found["relative"]], [3, 1, 2])
    assert found["intruders"] == 0
    moved = changed(W, W[:, RNG.permutation(O)])
    assert moved["spectra"] < 1e-12
    assert moved["cosine"] < 0.5


def test_degenerate_matrices():
    zero = np.zeros((I, O))
    both, grown, gone = changed(zero, zero), changed(zero, W), changed(W, zero)
    assert np.isnan([both["relative"], both["cosine"], both["scale"], both["spectra"]]).all()
    assert np.isinf(grown["relative"])
    assert grown["intruders"] == 10
    assert (gone["relative"], gone["scale"], gone["intruders"]) == (1, 0, 0)
    bad = changed(W, np.where(W > 1, np.nan, W))
    assert np.isnan([bad["relative"], bad["cosine"], *bad["nearest"]]).all()
    assert (bad["rank"], bad["intruders"]) == (0, 0)
    empty = change.of_layers({"b": np.ones(3)}, {"b": np.ones(3)})
    assert empty.layers == ()
    assert empty.nearest.shape == (0, 10)


def test_layouts_and_given_layers_are_the_same_matrix():
    kernel, new = matrix(3, 3, 5, 8), matrix(3, 3, 5, 8)
    ours = changed(kernel, new)
    theirs = changed(*(x.transpose(3, 2, 0, 1) for x in (kernel, new)), layout="OIHW")
    rows = {"w": Layer("dense", (0, 1), (45, 8))}
    flat = change.of_layers({"w": kernel.reshape(45, 8)}, {"w": new.reshape(45, 8)}, rows)
    for name in ("relative", "cosine", "nearest", "spectra"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9)
        np.testing.assert_allclose(ours[name], getattr(flat, name)[0], rtol=1e-9)
    # a direction of the outputs, not of the inputs, is what is looked for
    turned = np.linalg.qr(matrix(O, O))[0]
    assert changed(ORTHONORMAL, ORTHONORMAL @ turned)["intruders"] > 3
    assert changed(ORTHONORMAL, np.linalg.qr(matrix(I, I))[0] @ ORTHONORMAL)["intruders"] == 0


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"w: \[40, 24\] in start, \[24, 40\] in end"):
        change.of_layers({"w": W}, {"w": W.T})
    with pytest.raises(ValueError, match=r"w: \[40, 24\] in start, missing in end"):
        change.of_layers({"w": W}, {"v": W})
    for options in ({"share": 1.0}, {"below": 2.0}, {"top": 0}):
        with pytest.raises(ValueError, match="expected a share between 0 and 1"):
            change.of_layers({"w": W}, {"w": W}, **options)
    with pytest.raises(ValueError, match="unknown layout 'IO'"):
        change.of_layers({"w": W}, {"w": W}, layout="IO")
