"""The line between two checkpoints: of one run from its start or its best, and between bests."""

import dataclasses
from typing import ClassVar, NamedTuple

from tlx import checkpoints
from tlx.records import results
from tlx.studies import keys, lines, trained
from tlx.studies.question import CONFIDENCE, arrays
from tlx.studies.runs import Plan, Run


class Checkpoint(NamedTuple):
    """A run at a step, or at its "best" or "last" one."""

    run: Run
    step: int | str

    @property
    def at(self) -> int:
        """The number of the step; of a run that is done."""
        return checkpoints.resolve(self.run.workdir, self.step)


class Ends(NamedTuple):
    """The ends of a line."""

    a: Checkpoint
    b: Checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointInterpolation(lines.LineQuestion):
    """Loss and accuracy on the target's test images along the line between two checkpoints.

    From the start of a run to its end it is that of WiSE-FT (M. Wortsman et al., Robust fine-tuning
    of zero-shot models, 2022). The best checkpoint is the one with the highest accuracy on images
    held out, without those on the test images; only runs that keep it have one.
    """

    version: ClassVar[int] = 1
    replicates: ClassVar[int] = 1

    def subjects(self, plan: Plan) -> list[Ends]:
        """Of the first runs of each kind: start to last, best to last; best to best of two."""
        found = []
        for kind in plan.kinds():
            runs = plan.compared(kind, most=3)
            found += [Ends(Checkpoint(run, 0), Checkpoint(run, "last")) for run in runs]
            if not runs[0].spec.checkpoint.keep_best:
                continue
            found += [Ends(Checkpoint(run, "best"), Checkpoint(run, "last")) for run in runs]
            found += [
                Ends(Checkpoint(a, "best"), Checkpoint(b, "best"))
                for a, b in plan.pairs_of(kind, most=3)
            ]
        return found

    def key(self, ends: Ends) -> keys.Key:
        """Of two checkpoints."""
        (a, step_a), (b, step_b) = ends
        inputs = {
            "a": a.name,
            "b": b.name,
            "kind_a": a.kind,
            "kind_b": b.kind,
            "at": f"{'start' if step_a == 0 else step_a} / {step_b}",
            "split": "test",
        }
        data = {
            "a": keys.weights_at(a, ends.a.at),
            "b": keys.weights_at(b, ends.b.at),
            "examples": keys.examples(a),
        }
        return keys.Key(inputs, data, {"confidence": CONFIDENCE})

    def answer(self, ends: Ends) -> results.CheckpointInterpolation:
        """The line, and the barrier on it."""
        a, b = (trained.params(end.run, end.at) for end in ends)
        line = lines.line(ends.a.run, a, b, self.num_alphas)
        return arrays(results.CheckpointInterpolation, **lines.measured(line))
