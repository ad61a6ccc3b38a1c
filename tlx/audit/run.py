"""An audit from paths to findings."""

from collections.abc import Callable
from typing import Any

from tlx.audit import behaviour, data, findings, models, weights
from tlx.audit.page import Audit


def run(
    paths: dict[str, str],
    *,
    model: str | None = None,
    key: str | None = None,
    data_path: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
    **data_options: Any,
) -> Audit:
    """Compares two checkpoints, and each with their parent where one is given.

    Args:
      paths: "a", "b" and perhaps "parent"; see `models.load`.
      model: what the weights are of; see `models.load`.
      key: where in the files the weights are.
      data_path: labelled examples; None: from the weights alone. See `data.read`.
      tell: called with what is done next.
      **data_options: of `data.read`.

    Returns:
      `Audit`; `page.write` writes it.

    Raises:
      ValueError: in one sentence, before anything is computed, for what does not fit.
    """
    tell("reading")
    loaded = models.load(paths, model=model, key=key)
    first = loaded["a"]
    stream, number, inputs = None, 0, None
    notes: list[str] = []
    if data_path is not None:
        unknown = [m.name for m in loaded.values() if m.apply_fn is None]
        if unknown:
            raise ValueError(
                f"expected a model for data, got weights of {', '.join(unknown)} alone: say by "
                "--model what they are of (a name in tlx.models, or module:function)"
            )
        read = data.read(data_path, **data_options)
        stream, number = read.stream, read.num_examples
        behaviour.check(loaded, stream, read.classes)
        if read.note:
            notes.append(read.note)
        inputs = next(iter(stream()))["inputs"]
    labels = models.labels_of(first)
    modules = models.modules_of(first, labels, inputs)
    if first.head is None and inputs is not None:
        loaded = {part: m._replace(head=modules[-1]) for part, m in loaded.items()}
    tell("weights")
    a, b = loaded["a"], loaded["b"]
    pairs = {"a and b": weights.compare(a, b, labels, modules)}
    if "parent" in loaded:
        for part in ("a", "b"):
            pairs[f"parent and {part}"] = weights.compare(
                loaded["parent"], loaded[part], models.labels_of(loaded["parent"]), modules
            )
        reordered = pairs["a and b"].of_kind.get("reordered", [])
        pairs["parent and b"] = weights.in_known_order(pairs["parent and b"], reordered)
    found = findings.of_weights(loaded, pairs)
    done = None
    if stream is not None:
        done = behaviour.compare(loaded, stream, number, labels, modules, tell=tell)
        found += findings.of_behaviour(loaded, done)
        if done.line.statistics not in ("none", "interpolated"):
            notes.append(
                "Batch statistics are taken anew, from these examples, at each point of a line."
            )
    return Audit(
        names={part: m.name for part, m in loaded.items()},
        paths=dict(paths),
        findings=tuple(found),
        pairs=pairs,
        behaviour=done,
        notes=tuple(notes),
    )
