"""What decides an answer about runs: the parts of a record's key that the runs give.

The weights enter by the identity of their origin, the data by their content, so that a question
asked again is found and not computed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tlx import checkpoints
from tlx.data import loader
from tlx.studies.runs import Pair, Run


class Key(NamedTuple):
    """What decides an answer, besides the options of the question and its version.

    Attributes:
      inputs: names and kinds of the runs; records are looked up by them.
      data: identities of the weights and of the examples.
      options: that no config sets.
    """

    inputs: Mapping[str, Any]
    data: Mapping[str, Any]
    options: Mapping[str, Any] = {}


def of_pair(pair: Pair, *, on_images: bool = True, **options: Any) -> Key:
    """The key of two runs, on the first's test images unless it is of weights alone."""
    inputs = {
        "a": pair.a.name,
        "b": pair.b.name,
        "kind_a": pair.a.kind,
        "kind_b": pair.b.kind,
        "pair": f"{pair.a.kind} / {pair.b.kind}",
        "shuffle": pair.a.shuffle,
    }
    if on_images:
        inputs["split"] = "test"
    data = {"a": weights(pair.a), "b": weights(pair.b), "examples": examples(pair.a)}
    return Key(inputs, data, options)


def of_run(run: Run, split: str, *, by_step: bool, **options: Any) -> Key:
    """The key of a run on its images of a split; `by_step`: of all its checkpoints."""
    inputs = {**name_of(run), "replicate": run.replicate, "split": split}
    data: dict[str, Any] = {"run": weights(run), "examples": examples(run)}
    if by_step:
        data["checkpoints"] = weights_by_step(run)
    return Key(inputs, data, options)


def of_checkpoints(run: Run) -> Key:
    """The key of the weights of a run at all its checkpoints."""
    return Key(name_of(run), {"checkpoints": weights_by_step(run)})


def name_of(run: Run) -> dict[str, Any]:
    """What a run is called."""
    return {"run": run.name, "kind": run.kind, "shuffle": run.shuffle}


def data_of(runs: Sequence[Run]) -> dict[str, Any]:
    """The data of several runs on the images of the first."""
    return {run.name: weights(run) for run in runs} | {"examples": examples(runs[0])}


def examples(run: Run) -> dict[str, Any]:
    """What a run's examples are now; those of training decide batch statistics."""
    return {split: loader.data_key(run.spec.data, split) for split in ("train", "test")}


def weights(run: Run) -> dict[str, Any]:
    """What a run's last weights are."""
    return {"weights": weights_at(run, run.spec.num_steps)}


def weights_by_step(run: Run) -> dict[str, Any]:
    """What the weights of all checkpoints of a run are, by step."""
    return {str(step): weights_at(run, step) for step in checkpoints.steps(run.workdir)}


def weights_at(run: Run, step: int) -> str:
    """What the weights of a run after a step are."""
    return checkpoints.identity(checkpoints.origin(run.workdir, step))
