import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.core import models
from tests.helpers import tiny_models
from tlx.analyses.landscape.modules import rewinding
from tlx.core import evaluate, metrics, sharding, streams
from tlx.core import labels as labels_lib

N = 26
METRIC = metrics.classification()
MODELS = [models.make_params(seed) for seed in range(3)]
TRAINED = MODELS[0]
LABELS = labels_lib.from_names(TRAINED, lambda name: name.split("/")[0])


def _stream(batch_size=8):
    return streams.from_arrays(*models.make_data(N), batch_size=batch_size)


def _rewound(references=MODELS, trained=TRAINED, stream=None, **options):
    return rewinding.rewind(
        models.apply_fn, METRIC, trained, references, _stream() if stream is None else stream,
        **{"labels": LABELS} | options,
    )  # fmt: skip


def test_oracle():
    inputs, y = models.make_data(N)
    found = _rewound()
    expected = models.numpy_classification(TRAINED, inputs, y)
    np.testing.assert_allclose(found.trained["loss"], expected[0], rtol=1e-5)
    for m, module in enumerate(found.modules):
        for t, reference in enumerate(MODELS):
            loss, accuracy = models.numpy_classification(
                {**TRAINED, module: reference[module]}, inputs, y
            )
            np.testing.assert_allclose(found.results["loss"][m, t], loss, rtol=1e-5)
            np.testing.assert_allclose(
                found.drops["accuracy"][m, t], expected[1] - accuracy, atol=1e-6
            )
            assert found.results["count"][m, t] == found.drops["count"][m, t] == N


def test_rewinding_to_the_trained_weights_changes_nothing_to_the_bit():
    found = _rewound([TRAINED, MODELS[1], TRAINED])
    for name in ("loss", "accuracy"):
        assert (found.drops[name][:, [0, 2]] == 0).all()
        assert (found.drops["loss"][:, 1] != 0).all()
    assert found.trained["loss"] == evaluate(models.apply_fn, METRIC, TRAINED, _stream())["loss"]


def test_rewinding_everything_is_the_reference():
    labels = labels_lib.from_names(TRAINED, lambda name: "all")
    found = _rewound(labels=labels)
    for t, reference in enumerate(MODELS):
        whole = evaluate(models.apply_fn, METRIC, reference, _stream())
        assert found.results["loss"][0, t] == whole["loss"]


def test_a_head_of_another_shape_may_stay_out():
    pretrained = {**MODELS[1], "head": models.make_params(1, classes=7)["head"]}
    found = _rewound([pretrained], modules=["hidden"])
    np.testing.assert_array_equal(
        found.results["loss"], _rewound([MODELS[1]], modules=["hidden"]).results["loss"]
    )
    with pytest.raises(ValueError, match=r"head/bias: float32 3 in trained, float32 7 in ref"):
        _rewound([MODELS[1], pretrained])


@pytest.mark.parametrize("options", [{"chunk": 2}, {"stream": _stream(5)}])
def test_chunk_and_batch_size_change_nothing(options):
    np.testing.assert_allclose(
        _rewound(**options).results["loss"], _rewound().results["loss"], rtol=1e-5
    )


def test_devices_change_nothing():
    mesh = sharding.make_mesh()
    placed = [sharding.replicate(x, mesh) for x in MODELS]
    stream = _stream()
    found = _rewound(placed, placed[0], lambda: (sharding.shard_batch(b, mesh) for b in stream()))
    np.testing.assert_allclose(found.results["loss"], _rewound().results["loss"], rtol=1e-5)


@pytest.mark.parametrize("source", ["interpolate", "stream"])
def test_batch_statistics(source):
    a, b = (tiny_models.make("linen", seed) for seed in range(2))
    labels = labels_lib.from_names(a.params, lambda name: tiny_models.module_of(a, name))
    stream = streams.from_arrays(*tiny_models.make_inputs(20), batch_size=20)
    found = rewinding.rewind(
        a.apply_fn, METRIC, a.params, [a.params, b.params], stream, labels=labels,
        statistics=stream if source == "stream" else source,
    )  # fmt: skip
    at = found.modules.index("norm")
    mixed = jax.tree.map(
        lambda x, y, label: y if label == "norm" else x, a.params, b.params, labels
    )
    expected = evaluate(a.apply_fn, METRIC, mixed, stream)["loss"]
    if source == "interpolate":
        np.testing.assert_allclose(found.results["loss"][at, 1], expected, rtol=1e-6)
        assert found.statistics == "interpolated"
    else:  # the reference's running statistics have no part
        assert abs(found.results["loss"][at, 1] - expected) > 1e-3
        assert found.statistics == "re-estimated"
    np.testing.assert_allclose(found.drops["loss"][:, 0], 0, atol=1e-6)


def test_an_empty_stream_is_undefined():
    found = _rewound(stream=lambda: iter([]))
    assert jnp.isnan(found.results["loss"]).all()
    assert jnp.isnan(found.drops["loss"]).all()


def test_errors():
    with pytest.raises(ValueError, match="at least one reference to rewind to, got none"):
        _rewound([])
    with pytest.raises(ValueError, match="expected at least one module, got none"):
        _rewound(modules=[])
    with pytest.raises(ValueError, match="unknown label 'hiden'; did you mean 'hidden'"):
        _rewound(modules=["hiden"])
    other = {"hidden": TRAINED["hidden"]}
    with pytest.raises(ValueError, match=r"head/bias: float32 3 in trained, missing in ref"):
        _rewound([other])
    with pytest.raises(ValueError, match=r"'interpolate' \(a module's move with it\)"):
        _rewound(statistics="a")
