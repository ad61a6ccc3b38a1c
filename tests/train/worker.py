"""Trains tiny runs in a process of its own: `python -m tests.train.worker ROOT DEVICES DELAY VARIANT…`.

Several such processes form one run where the variables of `tlx.train.distributed` say so.
"""  # noqa: E501

import sys
import time
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", int(sys.argv[2]))

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": {
        "mixup": 0.7,
        "accumulate": 2,
        "data": {"augment": ("flip", "crop:1")},
        "model": {"options": {"normalise": True}},
    },
    "long": {"num_steps": 40, "eval_every": 5, "checkpoint": {"every": 4}},
}


def main() -> None:
    from tlx.train.distributed import initialize_if_cluster, leave

    initialize_if_cluster()
    from tests.train.tiny import make_spec
    from tlx.train.loop import train
    from tlx.train.stopping import Stopped

    root, delay = Path(sys.argv[1]), float(sys.argv[3])

    def progress(step: int, num_steps: int, numbers: Any) -> None:
        print(step, flush=True)
        time.sleep(delay)

    for variant in sys.argv[4:]:
        try:
            print(train(make_spec(**VARIANTS[variant]), root / variant, progress=progress))
        except OSError as error:
            leave(1, f"{error}\n")
            raise
        except Stopped as stopped:
            print(stopped, flush=True)
            sys.exit(128 + stopped.signum)


if __name__ == "__main__":
    main()
