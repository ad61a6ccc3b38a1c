"""Learning rates as plain numbers of the step, computed on the host.

The compiled step takes the rate as an argument, so runs that differ only in their
schedule share its code.
"""

import math

from tlx.train.spec import OptimSpec


def rate_at(optim: OptimSpec, step: int, num_steps: int) -> float:
    """The learning rate of a step.

    Args:
      optim: base rate, schedule and warm-up.
      step: number of updates done before this one, 0 … num_steps − 1.
      num_steps: updates of the entire run.

    Returns:
      The rate, at least 0. During warm-up `rate·(step + 1)/warmup_steps`. Then "constant":
      `rate`; "step": `rate·factor^(number of boundaries ≤ step)`; "cosine":
      `rate·(1 + cos(π·t))/2` with t from 0 at the end of warm-up to 1 at `num_steps`
      (reached by no update).

    >>> [rate_at(OptimSpec(rate=1.0, schedule="cosine"), n, 4) for n in (0, 2)]
    [1.0, 0.5]
    """
    if step < optim.warmup_steps:
        return optim.rate * (step + 1) / optim.warmup_steps
    if optim.schedule == "step":
        return optim.rate * optim.factor ** sum(step >= b for b in optim.boundaries)
    if optim.schedule == "cosine":
        t = (step - optim.warmup_steps) / max(num_steps - optim.warmup_steps, 1)
        return optim.rate * (1 + math.cos(math.pi * t)) / 2
    return optim.rate
