"""The specification of an optimiser: a frozen dataclass, with its problems in words."""

import dataclasses

from tlx.config import problems as check
from tlx.config import serial

OPTIMIZERS = ("sgd", "adamw", "lamb")
SCHEDULES = ("constant", "step", "cosine")
DECAY_ON = ("all", "kernels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimSpec:
    """SGD or AdamW as PyTorch defines them, or LAMB, with rules by name.

    With `g` the gradient, `w` the weights, `w0` the initial ones and
    `d = weight_decay·w + l2_to_init·(w − w0)`:

    - "sgd": `buf = momentum·buf + g + d`, `u = buf`, or `g + d + momentum·buf` with `nesterov`;
    - "adamw": `u = m / (√v + epsilon) + d`, with m and v the averages of g and g² that decay by
      `momentum` and `beta2` a step, each over what its decay leaves of 1 (I. Loshchilov, F. Hutter,
      Decoupled weight decay regularization, 2019);
    - "lamb": that u times ‖w‖ / ‖u‖ of its tensor, 1 where either is 0 (Y. You et al., Large batch
      optimization for deep learning, 2020);

    and `w −= rate(step)·multiplier·u`.

    Attributes:
      rate: base learning rate, above 0.
      name: "sgd", "adamw" or "lamb".
      momentum: of "sgd" in [0, 1]; of the others the decay of m, β₁, in [0, 1).
      beta2: the decay of v in [0, 1); of "adamw" and "lamb".
      epsilon: above 0; likewise.
      nesterov: whether to look ahead; of "sgd".
      weight_decay: at least 0.
      weight_decay_on: "all" leaves (as the paper's code), or "kernels": leaves whose last
        name is "kernel" or "embedding".
      schedule: "constant", "step" (times `factor` at each of `boundaries`) or "cosine"
        (from `rate` after the warm-up to 0 at the end).
      boundaries: steps of "step", increasing.
      factor: the factor by which "step" multiplies the rate.
      warmup_steps: step n below it has rate·(n + 1)/warmup_steps.
      rules: pairs (regular expression that matches within the leaf name "params/head/bias",
        multiplier of the rate); multiplier 0 freezes. Leaves that no rule matches have 1;
        a leaf that two rules match with different multipliers, or a rule that matches
        nothing, is an error when the run starts.
      freeze: modules (of the model's `module_names`) whose function does not change: their
        weights and batch statistics stay bit for bit, batch normalisation in them uses its running
        statistics in training too, and they need neither gradients of their weights nor optimiser
        state.
      l2_to_init: strength of the pull towards the initial weights, at least 0.
      grad_clip: largest global norm of the gradient (before decay), above 0; None: no clipping.
    """

    rate: float
    name: str = serial.later("sgd")
    momentum: float = 0.9
    beta2: float = serial.later(0.999)
    epsilon: float = serial.later(1e-8)
    nesterov: bool = False
    weight_decay: float = 1e-4
    weight_decay_on: str = "all"
    schedule: str = "constant"
    boundaries: tuple[int, ...] = ()
    factor: float = 0.1
    warmup_steps: int = 0
    rules: tuple[tuple[str, float], ...] = ()
    freeze: tuple[str, ...] = ()
    l2_to_init: float = 0.0
    grad_clip: float | None = None

    def problems(self) -> list[str]:
        """Every problem with the values, in words."""
        found = check.single("rate", self.rate, low=0, open_low=True)
        found += check.choice("name", self.name, OPTIMIZERS)
        found += check.single("momentum", self.momentum, low=0, high=1)
        found += check.single("beta2", self.beta2, low=0, high=1)
        found += check.single("epsilon", self.epsilon, low=0, open_low=True)
        found += check.flag("nesterov", self.nesterov)
        if not found and self.name != "sgd":
            decays = {"momentum": self.momentum, "beta2": self.beta2}
            found += [
                f"{n}: expected below 1 for {self.name!r}, got 1"
                for n, x in decays.items()
                if x == 1
            ]
            if self.nesterov:
                found.append(f"nesterov: expected False for {self.name!r}, got True")
        found += check.single("weight_decay", self.weight_decay, low=0)
        found += check.choice("weight_decay_on", self.weight_decay_on, DECAY_ON)
        found += check.choice("schedule", self.schedule, SCHEDULES)
        found += check.increasing("boundaries", self.boundaries, low=1)
        found += check.number("factor", self.factor, low=0)
        found += check.integer("warmup_steps", self.warmup_steps, low=0)
        found += check.single("l2_to_init", self.l2_to_init, low=0)
        if self.grad_clip is not None:
            found += check.single("grad_clip", self.grad_clip, low=0, open_low=True)
        if self.schedule == "step" and not self.boundaries:
            found.append(
                "boundaries: expected at least one step for schedule 'step', got none; "
                "give the steps, or use schedule 'constant'"
            )
        if self.schedule in ("constant", "cosine") and self.boundaries:
            found.append(
                f"boundaries: expected none for schedule {self.schedule!r}, "
                f"got {self.boundaries!r}; use schedule 'step', or leave them out"
            )
        return found + check.rules("rules", self.rules) + check.names("freeze", self.freeze)
