"""Import of other libraries' weights as a workdir to start runs from, and export for them."""

import ast
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

import tlx
from tlx import checkpoints, models
from tlx.checkpoints import foreign, packing
from tlx.config.typed import tuples
from tlx.core import tree
from tlx.models import torch_names
from tlx.train import metrics_log
from tlx.train import workdir as workdir_lib
from tlx.train.spec import HEAD, ModelSpec

FILE = "imported.json"
KERNEL = f"params/{HEAD}/kernel"
NO_HEAD = "not in the file; runs start with a fresh head"


def parse_model(text: str) -> ModelSpec:
    """The model of a command line: its name, then its options.

    Raises:
      ValueError: an option that is not NAME=VALUE, or that the model does not have.

    >>> parse_model("fixup_resnet,width=8,stage_sizes=(1,1)").options["stage_sizes"]
    (1, 1)
    """
    name, *words = _split(text)
    options: dict[str, Any] = {}
    for word in words:
        option, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"--model: expected NAME,OPTION=VALUE, got {word!r} in {text!r}")
        try:
            options[option] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[option] = value
    model = ModelSpec(name=name, options=options)
    problems = model.problems()
    if problems:
        raise ValueError("\n".join(f"--model: {problem}" for problem in problems))
    return model


def _split(text: str) -> list[str]:
    """The parts between commas that are not within parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def import_weights(
    file: str | Path,
    workdir: str | Path,
    *,
    model: ModelSpec,
    key: str | None = None,
    name: str = "P",
) -> dict[str, Any]:
    """The description of a new workdir whose only checkpoint, step 0, has a file's weights.

    Args:
      file: of `tlx.checkpoints.foreign.read_tensors`; names are PyTorch's, or ours as
        "params/stem/conv/kernel".
      workdir: a folder that does not exist yet.
      model: the model of the weights; the number of classes is read from the file. If it has
        no head, the checkpoint has none either, and runs start from it with a new one.
      key: where in the file the weights are; None: detected.
      name: the model's name in records.

    Returns:
      The content of the workdir's imported.json: `file` (its name), `sha256`, `model`,
      `num_classes` (0: no head), `tensors` and `parameters` (how many were read) and `skipped`
      (name -> reason).

    Raises:
      ValueError: if the workdir exists, the file cannot be read, a tensor is missing, extra, of
        another shape, not of floats or not finite. Nothing is written then.
    """
    target = Path(workdir)
    if target.exists():
        raise ValueError(
            f"expected a new workdir, got {target}; choose another, or remove that one"
        )
    read_in = read_variables(file, model=model, key=key)
    leaves = tree.named_leaves(read_in.variables)
    found = {
        "file": Path(file).name,
        "sha256": foreign.digest(file),
        "model": {"name": model.name, "options": dict(model.options)},
        "num_classes": read_in.num_classes,
        "tensors": len(leaves),
        "parameters": sum(leaf.size for leaf in leaves.values()),
        "skipped": read_in.skipped,
        "tlx": tlx.__version__,
    }
    identity = {name: found[name] for name in ("sha256", "model")} | {"key": key}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    _write(target, read_in.variables, checkpoints.make_origin(name, "P", digest, None), found)
    return found


class Variables(NamedTuple):
    """The weights of a file as a model's variables.

    Attributes:
      variables: pytree of arrays.
      num_classes: of the head; 0 where the file has none, and then the variables neither.
      skipped: name to reason, of what was left out.
    """

    variables: Any
    num_classes: int
    skipped: dict[str, str]


def read_variables(file: str | Path, *, model: ModelSpec, key: str | None = None) -> Variables:
    """The weights in a file as a model's variables.

    Args:
      file: of `tlx.checkpoints.foreign.read_tensors`; names are PyTorch's, or ours.
      model: the model of the weights; the number of classes is read from the file.
      key: where in the file the weights are; None: detected.

    Raises:
      ValueError: if the file cannot be read, a tensor is missing, extra, of another shape, not of
        floats or not finite.
    """
    tensors: Mapping[str, Any] = foreign.read_tensors(file, key=key)
    skipped: dict[str, str] = {}
    if not _are_ours(tensors):
        tensors = torch_names.unprefixed(_module(model, 1), tensors)
    num_classes = _num_classes(model, tensors)
    module = _module(model, num_classes or 1)
    if _are_ours(tensors):
        variables = _ours(tensors, module, has_head=num_classes > 0)
    else:
        head = "keep" if num_classes else "drop"
        variables, skipped = torch_names.from_torch(module, tensors, head=head)
    if not num_classes:
        skipped |= dict.fromkeys(_head_names(module, tensors), NO_HEAD)
    bad = packing.non_finite(tree.named_leaves(variables))
    if bad:
        raise ValueError(
            f"{file}: expected finite weights, got NaN or infinity in {', '.join(bad[:8])}"
        )
    return Variables(variables, num_classes, skipped)


def module_of(model: ModelSpec, num_classes: int) -> nn.Module:
    """The module of a model; without classes one that has a head of one."""
    return _module(model, num_classes or 1)


def _write(target: Path, variables: Any, origin: Any, found: Mapping[str, Any]) -> None:
    """Writes the workdir, completely or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with checkpoints.Writer(temporary, scheduled=frozenset({0})) as writer:
            writer.save(0, variables, origin=origin)
        metrics_log.replace_text(temporary / FILE, json.dumps(found, indent=2) + "\n")
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read(workdir: str | Path) -> dict[str, Any] | None:
    """What `import_weights` returned for a workdir; None for that of a run."""
    path = Path(workdir) / FILE
    return json.loads(path.read_text()) if path.exists() else None


def export_weights(
    workdir: str | Path,
    out: str | Path,
    *,
    step: int | str = "last",
    names: str | None = None,
) -> int:
    """The number of tensors of a step, written as safetensors with PyTorch's names.

    Args:
      workdir: of a run, or of `import_weights`.
      out: a file that does not exist.
      step: one that was kept, "last" or "best".
      names: the library whose names to use, "torchvision" or "timm"; None: torchvision's, and
        for Fixup ResNets the authors'.

    Returns:
      The number of tensors.

    Raises:
      ValueError: if there is no such checkpoint, the model has no PyTorch names or none of that
        library, or the file exists.
    """
    imported = read(workdir)
    if imported is None:
        model = workdir_lib.read_config(workdir).model
    else:
        model = ModelSpec(**imported["model"])
    number = checkpoints.resolve(workdir, step)
    variables = checkpoints.restore(workdir, number, as_numpy=True)
    module = _module(model, _num_classes(model, tree.named_leaves(variables)) or 1)
    tensors = torch_names.to_torch(module, variables, names)
    origin = checkpoints.origin(workdir, number)
    metadata = {
        "format": "pt",
        "tlx": tlx.__version__,
        "run": origin["run"],
        "step": str(number),
        "digest": origin["digest"],
    }
    foreign.write_safetensors(out, tensors, metadata)
    return len(tensors)


def _module(model: ModelSpec, num_classes: int) -> nn.Module:
    return models.make(model.name, num_classes=num_classes, **tuples(model.options))


def _num_classes(model: ModelSpec, tensors: Mapping[str, Any]) -> int:
    """The number of classes by the head's shape, in our names or PyTorch's; 0 without a head."""
    heads = _head_names(_module(model, 1), tensors)
    if not any(name in tensors for name in heads):
        return 0
    kernel = tensors.get(heads[0])
    if kernel is None or np.ndim(kernel) < 2:
        raise ValueError(
            f"expected a classifier {' or '.join(dict.fromkeys((heads[0], KERNEL)))} among the "
            f"{len(tensors)} tensors, beside "
            f"{', '.join(name for name in heads if name in tensors)}, got "
            f"{', '.join(list(tensors)[:8])} …"
        )
    return int(np.shape(kernel)[-1 if _are_ours(tensors) else 0])


def _head_names(module: nn.Module, tensors: Mapping[str, Any]) -> list[str]:
    """The names of the head's leaves in the scheme of the tensors, the kernel first."""
    leaves = [name for name in torch_names.shapes(module) if name.startswith(torch_names.HEAD)]
    leaves.sort(key=lambda name: name != KERNEL)
    if _are_ours(tensors):
        return leaves
    library = torch_names.library_of(module, tensors)
    return [torch_names.torch_name(module, leaf, library) for leaf in leaves]


def _are_ours(tensors: Mapping[str, Any]) -> bool:
    return any(name.startswith("params/") for name in tensors)


def _ours(tensors: Mapping[str, Any], module: nn.Module, *, has_head: bool) -> Any:
    stem = np.shape(tensors.get(torch_names.STEM, ()))
    channels = int(stem[2]) if len(stem) == 4 else 3
    like = torch_names.shapes(module, channels)
    if not has_head:
        like = {name: leaf for name, leaf in like.items() if not name.startswith(torch_names.HEAD)}
    problems = torch_names.not_floats(tensors)
    if problems:
        raise ValueError(
            "\n  ".join((f"expected weights, got {len(problems)} other tensors", *problems[:20]))
        )
    values = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
    tree.same_structure(values, like, names=("the file", "the model"))
    return tree.nested(values)
