import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from tests.helpers import tiny_models
from tests.helpers.tolerances import rtol
from tlx.adapters import equinox as equinox_adapter
from tlx.adapters import haiku as haiku_adapter
from tlx.adapters import linen as linen_adapter
from tlx.adapters import nnx as nnx_adapter
from tlx.core import evaluate, metrics, partition, streams, tree

RTOL = rtol("float32")


@pytest.fixture(params=tiny_models.FRAMEWORKS)
def tiny(request):
    return tiny_models.make(request.param, seed=0)


def test_apply_is_the_net_in_evaluation_mode(tiny):
    inputs, _ = tiny_models.make_inputs(6)
    expected = tiny_models.reference(tiny, inputs)[tiny.layers[-1]]
    for apply_fn in (tiny.apply_fn, jax.jit(tiny.apply_fn)):
        got = apply_fn(tiny.params, inputs)
        np.testing.assert_allclose(got, expected, rtol=RTOL, atol=1e-6)


def test_every_row_depends_on_its_input_alone(tiny):
    inputs, _ = tiny_models.make_inputs(6)
    whole = tiny.apply_fn(tiny.params, inputs)
    changed = inputs.copy()
    changed[3:] = 100.0
    np.testing.assert_allclose(tiny.apply_fn(tiny.params, changed)[:3], whole[:3], rtol=RTOL)


def test_params_hold_every_number_that_decides_the_output(tiny):
    assert set(tree.names(tiny.params)) >= set(tiny.roles.values())
    inputs, _ = tiny_models.make_inputs(6)
    zero = jax.tree.map(jnp.zeros_like, tiny.params)
    np.testing.assert_array_equal(tiny.apply_fn(zero, inputs), 0)


def test_features_are_the_layers_in_order(tiny):
    inputs, _ = tiny_models.make_inputs(6)
    expected = tiny_models.reference(tiny, inputs)
    got = jax.jit(tiny.features())(tiny.params, inputs)
    assert [name for name in got if name in tiny.layers] == list(tiny.layers)
    assert list(got)[-1] == "output"
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=RTOL, atol=1e-6)


def test_features_by_name_and_pattern(tiny):
    inputs, _ = tiny_models.make_inputs(6)
    named = tiny.features(("head", "hidden"))(tiny.params, inputs)
    assert list(named) == ["head", "hidden"]
    assert list(tiny.features(("h.*", "hidden"))(tiny.params, inputs)) == ["hidden", "head"]


def test_an_unknown_layer_lists_the_known_ones(tiny):
    inputs, _ = tiny_models.make_inputs(6)
    with pytest.raises(ValueError, match="unknown layer 'hiden'; did you mean 'hidden'") as error:
        tiny.features(("hiden",))(tiny.params, inputs)
    for name in tiny.layers:
        assert name in str(error.value)


def test_layers_must_be_a_sequence_of_names(tiny):
    with pytest.raises(TypeError, match="expected layers as a sequence of str, or None"):
        tiny.features("hidden")


def test_features_leave_the_classes_as_they_were(tiny):
    inputs, _ = tiny_models.make_inputs(6)
    before = nnx.Linear.__call__, type(tiny.params)
    tiny.features()(tiny.params, inputs)
    with pytest.raises(ValueError, match="unknown layer"):
        tiny.features(("none",))(tiny.params, inputs)
    assert before == (nnx.Linear.__call__, type(tiny.params))


class _Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(5, name="dense")
        self.sow("intermediates", "seen", x)
        return dense(dense(x))


def test_linen_second_call_and_sown_values():
    inputs, _ = tiny_models.make_inputs(4)
    model = _Twice()
    params = {"params": model.init(jax.random.key(0), inputs)["params"]}
    got = linen_adapter.features(model)(params, inputs)
    assert set(got) == {"seen", "dense", "dense:1", "output"}
    np.testing.assert_array_equal(got["seen"], inputs)
    np.testing.assert_array_equal(got["dense:1"], got["output"])


class _Named(nn.Module):
    @nn.compact
    def features(self, x):
        hidden = nn.Dense(4, name="hidden")(x)
        return {"z_hidden": hidden, "a_logits": nn.Dense(2, name="head")(hidden)}

    def __call__(self, x):
        return self.features(x)["a_logits"]


def test_linen_model_with_its_own_features_keeps_its_order_under_jit():
    inputs, _ = tiny_models.make_inputs(4)
    model = _Named()
    params = model.init(jax.random.key(0), inputs)
    got = jax.jit(linen_adapter.features(model))(params, inputs)
    assert list(got) == ["z_hidden", "a_logits"]
    np.testing.assert_array_equal(got["a_logits"], model.apply(params, inputs))


def test_linen_layers_within_a_model_with_its_own_features():
    inputs, _ = tiny_models.make_inputs(4)
    model = _Named()
    params = model.init(jax.random.key(0), inputs)
    got = jax.jit(linen_adapter.features(model, ["head", "z_.*"]))(params, inputs)
    assert list(got) == ["head", "z_hidden"]
    np.testing.assert_array_equal(got["head"], model.apply(params, inputs))
    # a pattern that fits layers that the model names takes no others
    assert list(linen_adapter.features(model, [".*hidden"])(params, inputs)) == ["z_hidden"]
    with pytest.raises(ValueError, match="unknown layer 'heads'; did you mean 'head'"):
        linen_adapter.features(model, ["heads"])(params, inputs)


def test_linen_equal_modules_share_compiled_code():
    one, other = (linen_adapter.adapt(nn.Dense(3), {"params": {}}) for _ in range(2))
    assert one.apply_fn == other.apply_fn
    assert hash(one.apply_fn) == hash(other.apply_fn)
    assert linen_adapter.features(nn.Dense(3)) == linen_adapter.features(nn.Dense(3))
    assert linen_adapter.features(nn.Dense(3)) != linen_adapter.features(nn.Dense(4))


def test_linen_params_without_their_collection():
    with pytest.raises(
        ValueError, match=r"with the collection 'params', got the keys \['kernel'\]"
    ):
        linen_adapter.adapt(nn.Dense(3), {"kernel": np.zeros((5, 3))})


def test_nnx_leaves_the_model_in_training_mode_and_random_state_apart():
    class Net(nnx.Module):
        def __init__(self):
            self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
            self.norm = nnx.BatchNorm(5, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.drop(self.norm(x))

    model = Net()
    _, params = nnx_adapter.adapt(model)
    assert not model.norm.use_running_average
    assert not model.drop.deterministic
    assert set(tree.names(params)) == {
        "params/norm/scale",
        "params/norm/bias",
        "state/norm/mean",
        "state/norm/var",
    }


def test_nnx_inherited_calls_are_seen():
    class Mine(nnx.Linear):
        pass

    model = nnx.Sequential(Mine(5, 4, rngs=nnx.Rngs(0)), Mine(4, 3, rngs=nnx.Rngs(1)))
    _, params = nnx_adapter.adapt(model)
    got = nnx_adapter.features(model)(params, tiny_models.make_inputs(4)[0])
    assert list(got) == ["layers/0", "layers/1", "output"]


def test_equinox_stateless_list_of_layers():
    import equinox as eqx

    model = eqx.nn.MLP(5, 3, 4, 2, key=jax.random.key(0))
    inputs, _ = tiny_models.make_inputs(4)
    apply_fn, params = equinox_adapter.adapt(model)
    got = equinox_adapter.features(model)(params, inputs)
    assert list(got) == ["layers/0", "layers/1", "layers/2", "output"]
    np.testing.assert_array_equal(got["output"], apply_fn(params, inputs))
    np.testing.assert_allclose(apply_fn(params, inputs), jax.vmap(model)(inputs), rtol=RTOL)


def test_haiku_with_and_without_state_and_key():
    import haiku as hk

    inputs, _ = tiny_models.make_inputs(4)
    net = hk.transform(lambda x: hk.nets.MLP([4, 3])(x))
    params = net.init(jax.random.key(0), inputs)
    expected = net.apply(params, None, inputs)
    for transformed in (net, hk.without_apply_rng(net)):
        adapted = haiku_adapter.adapt(transformed, params)
        np.testing.assert_array_equal(adapted.apply_fn(adapted.params, inputs), expected)
        got = haiku_adapter.features(transformed)(adapted.params, inputs)
        assert list(got) == ["mlp/~/linear_0", "mlp/~/linear_1", "mlp", "output"]
    with pytest.raises(ValueError, match="expected no state with Transformed"):
        haiku_adapter.adapt(net, params, {})
    with pytest.raises(ValueError, match="expected a state with TransformedWithState"):
        haiku_adapter.adapt(hk.transform_with_state(lambda x: x), params)


def test_calls_and_outputs_of_one_s_own():
    inputs, _ = tiny_models.make_inputs(4)
    model = nn.Dense(3)
    variables = model.init(jax.random.key(0), inputs)
    given = {"x": inputs, "scale": np.full((4, 1), 2.0, np.float32)}
    options = {
        "call": lambda m, x: {"y": m(x["x"]) * x["scale"], "n": x["scale"]},
        "output": lambda out: out["y"],
    }
    apply_fn, params = linen_adapter.adapt(model, variables, **options)
    expected = 2 * model.apply(variables, inputs)
    np.testing.assert_allclose(apply_fn(params, given), expected, rtol=RTOL)
    again, _ = linen_adapter.adapt(model, variables, **options)
    assert apply_fn == again
    other, _ = linen_adapter.adapt(model, variables)
    assert apply_fn != other
    got = linen_adapter.features(model, **options)(params, given)
    assert list(got) == ["output"]  # the model is a layer itself: its call is the whole
    np.testing.assert_allclose(got["output"], expected, rtol=RTOL)


class _Config:
    """Of a plain class with equality, so without a hash."""

    def __eq__(self, other):
        return isinstance(other, _Config)

    __hash__ = None


class _Configured(nn.Module):
    config: _Config

    @nn.compact
    def __call__(self, x, key=None):
        noise = 0 if key is None else jax.random.normal(key, x.shape)
        return nn.Dense(3)(x + noise)


def test_what_cannot_be_hashed_is_equal_to_itself_alone():
    inputs, labels = tiny_models.make_inputs(4)
    model = _Configured(_Config())
    variables = model.init(jax.random.key(0), inputs)
    one, params = linen_adapter.adapt(model, variables)
    other, _ = linen_adapter.adapt(model, variables)
    keyed, _ = linen_adapter.adapt(nn.Dense(3), {"params": {}}, key=jax.random.key(0))
    for function in (one, other, keyed):
        assert function == function
        assert hash(function) == hash(function)
    assert one != other
    stream = streams.from_arrays(inputs, labels, batch_size=4)
    with_key, _ = linen_adapter.adapt(model, variables, key=jax.random.key(1))
    found = [evaluate(f, metrics.classification(), params, stream)["loss"] for f in (one, with_key)]
    assert np.isfinite(found).all()
    assert found[0] != found[1]
    assert len(repr(one)) < 100


class _Tuples(nn.Module):
    @nn.compact
    def __call__(self, x):
        x, cache = _Cached(name="block")(x)
        return {"logits": nn.Dense(2, name="head")(x), "cache": cache}


class _Cached(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(4, name="0")(x)  # a submodule with the name of a place in the output
        return y, {"k": y + 1, "end": jnp.zeros((), jnp.int32)}


def test_every_array_of_a_layer_by_its_place():
    inputs, _ = tiny_models.make_inputs(6)
    model = _Tuples()
    params = model.init(jax.random.key(0), inputs)
    feature_fn = linen_adapter.features(model)
    with pytest.warns(UserWarning, match=r"left out: block/1/end \[\], output/cache/end \[\]"):
        got = feature_fn(params, inputs)
    assert set(got) == {
        "block/0", "block/output/0", "block/1/k", "head", "output/cache/k", "output/logits"
    }  # fmt: skip
    np.testing.assert_array_equal(got["block/0"], got["block/output/0"])
    np.testing.assert_allclose(got["block/1/k"], got["block/0"] + 1, rtol=RTOL)
    named = linen_adapter.features(model, ["block/1/k"])(params, inputs)
    assert list(named) == ["block/1/k"]
    with pytest.raises(ValueError, match=r"for each of 6 inputs, got block/1/end \[\]; leave it"):
        linen_adapter.features(model, ["block/1/end"])(params, inputs)


def test_state_stands_beside_its_layer():
    for framework in ("nnx", "equinox", "haiku"):
        params = tiny_models.make(framework, 0).params
        assert set(params) == {"params", "state"}
        labels = partition.by_depth(params, 1)
        modules = set(jax.tree.leaves(labels))
        assert modules == {"hidden", "norm", "head"}
        of_state = {
            label for name, label in tree.named_leaves(labels).items() if name.startswith("state/")
        }
        assert of_state == {"norm"}


def test_equinox_that_forgets_its_state():
    import equinox as eqx

    class Net(eqx.Module):
        norm: eqx.nn.BatchNorm

        def __call__(self, x, state):
            return self.norm(x, state)[0]

    make = eqx.nn.make_with_state(lambda: Net(eqx.nn.BatchNorm(5, axis_name="b", mode="batch")))
    model, state = make()
    apply_fn, params = equinox_adapter.adapt(model, state)
    with pytest.raises(TypeError, match=r"to return \(outputs, state\), got"):
        apply_fn(params, tiny_models.make_inputs(4)[0])


def test_layers_inside_of_a_transformation_are_left_out_with_a_warning():
    import equinox as eqx

    class Net(eqx.Module):
        embed: eqx.nn.Linear
        head: eqx.nn.Linear

        def __call__(self, x):
            return self.head(jax.vmap(self.embed)(x).mean(0))

    keys = jax.random.split(jax.random.key(0))
    model = Net(eqx.nn.Linear(2, 3, key=keys[0]), eqx.nn.Linear(3, 4, key=keys[1]))
    _, params = equinox_adapter.adapt(model)
    inputs = jnp.ones((5, 6, 2))
    with pytest.warns(UserWarning, match=r"inside of jax\.vmap, .* are left out: embed$"):
        found = equinox_adapter.features(model)(params, inputs)
    assert {name: x.shape for name, x in found.items()} == {"head": (5, 4), "output": (5, 4)}


def test_outputs_that_are_several_arrays_say_how_to_choose():
    inputs, labels = tiny_models.make_inputs(4)
    stream = streams.from_arrays(inputs, labels, batch_size=4)

    def apply_fn(params, x):
        return {"logits": x @ params, "aux": x}

    with pytest.raises(TypeError, match=r"got dict with aux \[4, 5\], logits \[4, 3\]; choose"):
        evaluate(apply_fn, metrics.classification(), jnp.ones((5, 3)), stream)
