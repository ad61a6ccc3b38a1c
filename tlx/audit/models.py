"""The checkpoints of an audit: weights, and where the model is known what is computed with them."""

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx import checkpoints
from tlx.adapters import linen
from tlx.checkpoints import foreign
from tlx.core import labels as labels_lib
from tlx.core import partition, tree
from tlx.core.types import ApplyFn, FeatureFn, Labels, Params
from tlx.train import importing, workdir
from tlx.train.spec import HEAD, ModelSpec
from tlx.train.step import make_apply_fn

HEADS = re.compile(r"(^|/)(head|heads|fc|classifier|lm_head|logits|last_linear|score)(/|$)")
"""Names of the last layer in files of which nothing else is known."""


class Model(NamedTuple):
    """A checkpoint.

    Attributes:
      name: as the page calls it.
      params: pytree of arrays.
      layout: of its kernels, "HWIO" (inputs before outputs) or "OIHW".
      apply_fn: `(params, inputs) -> outputs`; None where the model is not known.
      feature_fn: `(params, inputs) -> {layer: array}`; None where it is not known.
      modules: labels in the order of the forward pass; None where it is not known.
      head: the label of the last module; None where it is not known.
    """

    name: str
    params: Params
    layout: str
    apply_fn: ApplyFn | None = None
    feature_fn: FeatureFn | None = None
    modules: tuple[str, ...] | None = None
    head: str | None = None


def load(
    paths: Mapping[str, str], *, model: str | None = None, key: str | None = None
) -> dict[str, Model]:
    """The checkpoints to compare, by their part in the audit.

    Args:
      paths: "a", "b" and perhaps "parent" to a file of weights, a workdir of tlx, or whatever the
        function of `model` takes.
      model: what the weights are of: a name in `tlx.models` with options ("resnet50"), or
        "module:function" of one's own, `path -> (apply_fn, params)` or
        `path -> (apply_fn, params, feature_fn)`. None: as a workdir says, or not known.
      key: where in the files the weights are; None: detected.

    Raises:
      ValueError: in one sentence, for a path twice, a file that is not there or does not fit the
        model, a function that cannot be imported or returns something else, and models that
        differ in more than the head.
    """
    seen: dict[str, str] = {}
    for part, path in paths.items():
        place = os.path.realpath(path) if os.path.exists(path) else path
        if place in seen:
            raise ValueError(
                f"expected different checkpoints, got {path} for {seen[place]} and {part}"
            )
        seen[place] = part
    read: Callable[[str], Model] = _reader(model, key)
    names = short_names(paths)
    found = {part: read(path)._replace(name=names[part]) for part, path in paths.items()}
    first = next(iter(found.values()))
    head = first.head or _head(list(found.values()))
    for part, other in found.items():
        _same_body(first, other, head, names[next(iter(paths))], names[part])
    return {part: each._replace(head=head) for part, each in found.items()}


def short_names(paths: Mapping[str, str]) -> dict[str, str]:
    """The shortest ends of the paths that tell them apart, without endings of files."""
    parts = {part: _stem(path) for part, path in paths.items()}
    for number in range(1, 1 + max(map(len, parts.values()))):
        names = {part: "/".join(words[-number:]) for part, words in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return dict(paths)


def _stem(path: str) -> list[str]:
    words = [word for word in re.split(r"[/\\]", path) if word]
    return [
        *words[:-1],
        re.sub(r"\.(pth|pt|bin|safetensors|npz|msgpack|index\.json)$", "", words[-1]),
    ]


def labels_of(model: Model) -> Labels:
    """The module of each leaf: those of the registry, else blocks, else layers."""
    if model.modules is not None:
        return partition.by_depth(model.params, 1)
    try:
        return partition.by_level(model.params, "block")
    except ValueError:
        return partition.by_level(model.params, "layer")


def modules_of(model: Model, labels: Labels, inputs: Any = None) -> tuple[str, ...]:
    """The modules from the input to the head, as far as that is known."""
    known = labels_lib.unique(labels)
    if model.modules is not None:
        ordered = [name for name in model.modules if name in known]
        return (*ordered, *(name for name in known if name not in ordered))
    if model.apply_fn is not None and inputs is not None:
        return partition.in_forward_order(model.apply_fn, model.params, inputs, labels)
    if isinstance(model.params, dict) and all("." in name for name in model.params):
        return tuple(dict.fromkeys(jax.tree.leaves(labels)[i] for i in _file_order(model.params)))
    return tuple(sorted(known, key=lambda name: (HEADS.search(name) is not None, _natural(name))))


def _file_order(params: dict[str, Any]) -> list[int]:
    """The places of the leaves, which are sorted, in the order of the file."""
    sorted_names = sorted(params)
    places = {name: i for i, name in enumerate(sorted_names)}
    return [places[name] for name in params]


def _natural(name: str) -> list[Any]:
    return [(1, int(w), "") if w.isdigit() else (0, 0, w) for w in re.split(r"(\d+)", name)]


def _reader(model: str | None, key: str | None) -> Callable[[str], Model]:
    if model is not None and ":" in model:
        return functools.partial(_of_function, _function(model), model)
    spec = None if model is None else importing.parse_model(model)
    return functools.partial(_of_path, spec, key)


def _of_path(spec: ModelSpec | None, key: str | None, path: str) -> Model:
    if not os.path.exists(path):
        raise ValueError(f"expected a file of weights or a workdir, got {path}, which is not there")
    if os.path.isdir(path):
        imported = importing.read(path)
        if spec is None:
            spec = (
                workdir.read_config(path).model
                if imported is None
                else ModelSpec(**imported["model"])
            )
        variables = checkpoints.restore(path, checkpoints.resolve(path, "last"), as_numpy=True)
        kernel = tree.named_leaves(variables).get(importing.KERNEL)
        return _of_registry(path, spec, variables, 0 if kernel is None else np.shape(kernel)[-1])
    if spec is not None:
        read = importing.read_variables(path, model=spec, key=key)
        return _of_registry(path, spec, read.variables, read.num_classes)
    tensors = foreign.read_tensors(path, key=key)
    params: Any = {name: np.asarray(x) for name, x in tensors.items()}
    torch = any(name.endswith(".weight") or name == "weight" for name in params)
    if not torch:
        params = tree.nested(params)
    return Model(path, params, "OIHW" if torch else "HWIO")


def _of_registry(path: str, spec: ModelSpec, variables: Params, num_classes: int) -> Model:
    module = importing.module_of(spec, num_classes)
    names = tuple(getattr(module, "module_names", ())) or None
    if not num_classes:
        return Model(path, variables, "HWIO", modules=names, head=HEAD)
    return Model(
        path, variables, "HWIO", make_apply_fn(module), linen.features(module), names, HEAD
    )


def _function(text: str) -> Callable[[str], Any]:
    """The function that a command line names.

    Raises:
      ValueError: if it cannot be imported.
    """
    where, _, name = text.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it
    try:
        found = importlib.import_module(where)
    except ImportError as error:
        raise ValueError(f"--model={text}: cannot import {where}: {error}") from error
    function = getattr(found, name, None)
    if not callable(function):
        raise ValueError(
            f"--model={text}: expected a function {name} in {where}, got "
            f"{'none' if function is None else type(function).__name__}"
        )
    return function


def _of_function(function: Callable[[str], Any], text: str, path: str) -> Model:
    try:
        found = function(path)
    except Exception as error:  # of a function of the user's, who is told where to look
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"--model={text}: of {path}: {type(error).__name__}: {first}") from error
    is_there = isinstance(found, tuple) and len(found) in (2, 3) and callable(found[0])
    if not is_there:
        raise ValueError(
            f"--model={text}: expected it to return (apply_fn, params) or (apply_fn, params, "
            f"feature_fn), got {type(found).__name__}"
        )
    apply_fn, params, *rest = found
    names = tree.names(params)
    outputs_first = any(name.endswith("weight") for name in names)
    return Model(path, params, "OIHW" if outputs_first else "HWIO", apply_fn, *rest)


def _head(models: Sequence[Model]) -> str | None:
    """The label of what looks like the head: by its name, else the only part that differs."""
    labels = labels_of(models[0])
    known = labels_lib.unique(labels)
    named = [name for name in known if HEADS.search(name.replace(".", "/"))]
    return named[-1] if named else None


def _same_body(first: Model, other: Model, head: str | None, name: str, other_name: str) -> None:
    """Checks that two models differ in the head alone, if at all.

    Raises:
      ValueError: naming the first leaves that differ.
    """
    shapes = []
    for model in (first, other):
        labels = dict(zip(tree.names(model.params), jax.tree.leaves(labels_of(model)), strict=True))
        leaves = tree.named_leaves(model.params)
        shapes.append({n: list(np.shape(x)) for n, x in leaves.items() if labels[n] != head})
    one, two = shapes
    apart = [n for n in (*one, *(m for m in two if m not in one)) if one.get(n) != two.get(n)]
    if apart:
        some = ", ".join(
            f"{n} {one.get(n, 'missing')} against {two.get(n, 'missing')}" for n in apart[:3]
        )
        more = f" and {len(apart) - 3} more" if len(apart) > 3 else ""
        raise ValueError(
            f"expected {name} and {other_name} to be of one architecture (up to the head), got "
            f"{some}{more}"
        )
