"""Analyses of one model that is split over the devices of two processes: the numbers of one."""

import json
import os
import subprocess
import sys

import jax
import numpy as np

from tests.train.test_processes import ROOT, free_port


def start(devices, **environ):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.across_processes", str(devices)],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def said(process):
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return next((json.loads(line) for line in text.splitlines() if line.startswith("{")), None)


def test_two_processes_with_half_of_a_model_each_give_the_numbers_of_one():
    address = f"127.0.0.1:{free_port()}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    both = [start(2, **common, JAX_PROCESS_ID=str(number)) for number in range(2)]
    whole = start(4)
    try:
        expected, (found, nothing) = said(whole), map(said, both)
    finally:
        for process in (whole, *both):
            process.kill()
    assert nothing is None
    assert len(found) == 8
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), found, expected
    )
