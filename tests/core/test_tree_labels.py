import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.models import make_params
from tlx.core import labels, tree

finite = st.floats(-1e6, 1e6, width=32)


@given(st.lists(finite, min_size=1, max_size=5), st.lists(finite, min_size=5, max_size=5))
def test_lerp_is_exact_at_both_ends(a, b):
    a = {"x": jnp.asarray(a, jnp.float32)}
    b = {"x": jnp.asarray(b[: len(a["x"])], jnp.float32)}
    np.testing.assert_array_equal(tree.lerp(a, b, 0.0)["x"], a["x"])
    np.testing.assert_array_equal(tree.lerp(a, b, 1.0)["x"], b["x"])


def test_lerp_keeps_dtypes_and_counters():
    a = {"w": jnp.ones(2, jnp.bfloat16), "n": jnp.asarray(3)}
    b = {"w": jnp.zeros(2, jnp.bfloat16), "n": jnp.asarray(3)}
    mid = tree.lerp(a, b, jnp.float32(0.25))
    assert mid["w"].dtype == jnp.bfloat16
    assert mid["n"] == 3
    np.testing.assert_array_equal(np.asarray(mid["w"], np.float32), 0.75)


def test_points_between_and_differences_meet_numpy():
    a, b = make_params(0), make_params(1)
    for t in (-0.5, 0.3, 1.25):
        for found, x, y in zip(*map(jax.tree.leaves, (tree.lerp(a, b, t), a, b)), strict=True):
            np.testing.assert_allclose(
                found, (1 - t) * np.float64(x) + t * np.float64(y), rtol=1e-5, atol=1e-6
            )
    for found, x, y in zip(*map(jax.tree.leaves, (tree.sub(a, b), a, b)), strict=True):
        np.testing.assert_allclose(found, np.float64(x) - np.float64(y), rtol=1e-6)


def test_lerp_is_exact_at_an_end_where_the_other_is_infinite():
    a, b = {"x": jnp.array([-jnp.inf, 1.0])}, {"x": jnp.array([2.0, jnp.inf])}
    np.testing.assert_array_equal(tree.lerp(a, b, 0.0)["x"], a["x"])
    np.testing.assert_array_equal(tree.lerp(a, b, 1.0)["x"], b["x"])


def test_dot_and_norm_meet_numpy():
    a, b = make_params(0), make_params(1)
    flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]).astype(float) for t in (a, b)]
    np.testing.assert_allclose(tree.dot(a, b), flat[0] @ flat[1], rtol=1e-5)
    np.testing.assert_allclose(tree.norm(a), np.linalg.norm(flat[0]), rtol=1e-6)
    assert tree.count(a) == 5 * 8 + 8 + 8 * 3 + 3


def test_names_keep_every_key_of_a_dict():
    assert tree.names({"a": {"value": 0}, "b": [1, 2]}) == ("a/value", "b/0", "b/1")


@given(st.integers(0, 2**4 - 1))
def test_merge_of_selections_is_the_identity(bits):
    params = make_params(0)
    names = iter(range(4))
    parts = labels.from_names(params, lambda _: "ab"[bits >> next(names) & 1])
    merged = labels.merge(*(labels.select(params, parts, x) for x in labels.unique(parts)))
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    assert all(x is y for x, y in zip(*map(jax.tree.leaves, (merged, params)), strict=True))


def test_rules_label_every_leaf_in_any_order():
    rules = ((r"^head/", "head"), (r"^hidden/", "body"))
    params = make_params(0)
    expected = {"head": {"bias": "head", "kernel": "head"}, "hidden": dict.fromkeys(
        ("bias", "kernel"), "body")}  # fmt: skip
    assert labels.from_rules(params, rules) == expected
    assert labels.from_rules(params, rules[::-1]) == expected
    assert labels.from_rules(params, rules[:1], default="body") == expected
    assert list(labels.groups(params, expected)) == ["head", "body"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("head", "head"),), "hidden/bias: no rule matches; add one, or give default="),
        ((("", "all"), ("conv", "conv")), "rule 'conv' → 'conv' matches no leaf"),
        (
            (("", "all"), ("bias", "slow")),
            "head/bias: labels all, slow by the rules '', 'bias'",
        ),
        ((("(", "x"),), "rules as regular expressions, got '('"),
    ],
)
def test_bad_rules(rules, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        labels.from_rules(make_params(0), rules)


def test_select_names_the_nearest_label():
    params = make_params(0)
    parts = labels.from_names(params, lambda n: n.split("/")[0])
    with pytest.raises(ValueError, match="unknown label 'heat'; did you mean 'head'"):
        labels.select(params, parts, "heat")


def test_labels_of_another_tree():
    params = make_params(0)
    parts = labels.from_names({"hidden": params["hidden"]}, lambda n: n)
    with pytest.raises(ValueError, match="leaves in one only: head/bias, head/kernel"):
        labels.groups(params, parts)


def test_merge_names_a_leaf_in_two_parts():
    params = make_params(0)
    with pytest.raises(ValueError, match="got head/bias in 2 of 2"):
        labels.merge(params, params)


def test_trees_that_differ_are_listed_leaf_by_leaf():
    a, b = make_params(0), make_params(0, width=9)
    del b["head"]["bias"]
    with pytest.raises(ValueError, match="with the same leaves") as error:
        tree.same_structure(a, b)
    message = str(error.value)
    for line in (
        "4 of 4 that differ",
        "head/bias: float32 3 in params_a, missing in params_b",
        "head/kernel: float32 8×3 in params_a, float32 9×3 in params_b",
        "hidden/kernel: float32 5×8 in params_a, float32 5×9 in params_b",
    ):
        assert line in message


def test_same_leaves_in_other_containers():
    with pytest.raises(ValueError, match="in different ones"):
        tree.same_structure([jnp.ones(1)], (jnp.ones(1),))


def test_stack():
    stacked = tree.stack([make_params(0), make_params(1)])
    assert stacked["head"]["kernel"].shape == (2, 8, 3)
    with pytest.raises(ValueError, match="at least one"):
        tree.stack([])
