import contextlib
import errno
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx import checkpoints
from tlx.checkpoints import owner, packing, select

ORIGIN = checkpoints.make_origin("run", "P", "d" * 64, None)


def variables(value: float) -> dict[str, Any]:
    return {
        "params": {
            "stem": {"kernel": jnp.full((3, 2), value), "bias": jnp.full((1,), -value)},
            "head": {"kernel": jnp.full((2, 4), value, jnp.bfloat16)},
        },
        "batch_stats": {"norm": {"mean": jnp.full((2,), value)}},
    }


def resume(value: int) -> tuple[Any, ...]:
    return ({"momentum": jnp.full((3,), value, jnp.float32)}, jnp.uint32(value))


def fill(folder: Path, scores: dict[int, float | None], **options: Any) -> None:
    options = {"scheduled": frozenset({0, 4}), **options}
    with checkpoints.Writer(folder, **options) as writer:
        for step, score in scores.items():
            writer.save(
                step,
                variables(step),
                origin=checkpoints.at(ORIGIN, step, score),
                resume=resume(step),
            )


SCORES = {0: 0.1, 1: 0.5, 2: 0.3, 4: None, 5: 0.5, 6: float("-inf"), 7: 0.2}


def test_scheduled_best_and_last_stay(tmp_path: Path) -> None:
    fill(tmp_path, SCORES)
    assert checkpoints.steps(tmp_path) == (0, 1, 4, 6, 7)
    assert checkpoints.resolve(tmp_path, "best") == 1
    assert checkpoints.resolve(tmp_path, "last") == 7
    fill(tmp_path / "no_best", SCORES, keep_best=False)
    assert checkpoints.steps(tmp_path / "no_best") == (0, 4, 6, 7)
    checkpoints.tidy(tmp_path, scheduled=frozenset({0, 4}))
    assert checkpoints.steps(tmp_path) == (0, 1, 4, 7)
    assert not list(tmp_path.glob("checkpoints/*/resume"))


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    fill(tmp_path, SCORES)
    for step in (0, 1, 4, 7):
        restored = checkpoints.restore(tmp_path, step)
        jax.tree.map(np.testing.assert_array_equal, restored, variables(step))
        assert jax.tree.map(lambda x: x.dtype, restored) == jax.tree.map(
            lambda x: x.dtype, variables(step)
        )
        assert checkpoints.origin(tmp_path, step)["score"] == SCORES[step]
    as_numpy = checkpoints.restore(tmp_path, "last", as_numpy=True)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(as_numpy))


def test_only_the_newest_two_can_be_gone_on_from(tmp_path: Path) -> None:
    fill(tmp_path, SCORES)
    for step in (6, 7):
        found = checkpoints.restore_resume(tmp_path, step, jax.eval_shape(lambda: resume(0)))
        jax.tree.map(np.testing.assert_array_equal, found, resume(step))
    folders = {p.name for p in tmp_path.glob("checkpoints/*") if (p / "resume").exists()}
    assert folders == {"6", "7"}
    with pytest.raises(ValueError, match="0/momentum: float32 3 in the checkpoint of step 7"):
        checkpoints.restore_resume(tmp_path, 7, ({"momentum": jnp.zeros(4)}, jnp.uint32(0)))


def test_a_writer_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, {0: 0.1, 1: 0.5, 2: 0.3})
    fill(tmp_path, {2: 0.3, 3: 0.4, 5: 0.1})
    assert checkpoints.steps(tmp_path) == (0, 1, 3, 5)
    with pytest.raises(ValueError, match="expected a step above 5, the newest saved, got 4"):
        fill(tmp_path, {4: 0.9})


def test_an_interrupted_save_does_not_count(tmp_path: Path) -> None:
    fill(tmp_path, {0: 0.1})
    rest = tmp_path / "checkpoints" / "1.orbax-checkpoint-tmp"
    rest.mkdir()
    (rest / "half").write_text("written")
    assert checkpoints.steps(tmp_path) == (0,)
    fill(tmp_path, {1: 0.2})
    assert checkpoints.steps(tmp_path) == (0, 1)


def test_steps_that_were_being_dropped_are(tmp_path: Path) -> None:
    fill(tmp_path, {0: 0.1, 1: 0.2})
    dropped = tmp_path / "checkpoints" / checkpoints.DROPPED
    (dropped / "5" / "meta").mkdir(parents=True)  # killed in the middle
    checkpoints.tidy(tmp_path, scheduled=frozenset({0, 1}))
    assert not dropped.exists()
    assert checkpoints.steps(tmp_path) == (0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["weights", "resume"])
def test_nothing_non_finite_is_saved(value: float, where: str, tmp_path: Path) -> None:
    fill(tmp_path, {0: 0.1})
    bad = {"params": {"stem": {"kernel": jnp.asarray([1.0, value])}}}
    good = {"params": {"stem": {"kernel": jnp.ones(2)}}}
    with (
        checkpoints.Writer(tmp_path, scheduled=frozenset({0})) as writer,
        pytest.raises(checkpoints.NonFiniteError, match=r"step 1, .*params/stem/kernel"),
    ):
        writer.save(
            1,
            bad if where == "weights" else good,
            origin=checkpoints.at(ORIGIN, 1, None),
            resume=bad,
        )
    assert checkpoints.steps(tmp_path) == (0,)


def test_a_save_does_not_see_later_changes(tmp_path: Path) -> None:
    leaf = np.zeros(2**19, np.float32)
    small = np.zeros(3, np.float32)
    with checkpoints.Writer(tmp_path, scheduled=frozenset()) as writer:
        writer.save(0, {"params": {"big": leaf, "small": small}}, origin=ORIGIN)
        leaf += 1
        small += 1
    for found in jax.tree.leaves(checkpoints.restore(tmp_path)):
        assert not found.any()


def test_a_save_is_written_behind_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed, digest = threading.Event(), packing.digest

    def held(leaves: Any) -> str:
        assert followed.wait(10)
        return digest(leaves)

    monkeypatch.setattr(packing, "digest", held)
    with checkpoints.Writer(tmp_path, scheduled=frozenset()) as writer:
        writer.save(0, variables(0), origin=ORIGIN)
        assert checkpoints.steps(tmp_path) == ()
        followed.set()
    assert checkpoints.steps(tmp_path) == (0,)


def full(leaves: Any) -> str:
    """In place of what is done while a step is written."""
    raise OSError(errno.ENOSPC, "full")


def test_what_fails_behind_is_raised_once_and_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with checkpoints.Writer(tmp_path, scheduled=frozenset({0})) as writer:
        writer.save(0, variables(0), origin=ORIGIN)
        writer.wait()
        with monkeypatch.context() as patch:
            patch.setattr(packing, "digest", full)
            writer.save(1, variables(1), origin=ORIGIN)
            with pytest.raises(OSError, match="full"):
                writer.save(2, variables(2), origin=ORIGIN)
        assert writer.last == 0
        writer.wait()
        writer.save(1, variables(1), origin=ORIGIN)  # now there is room
    assert checkpoints.steps(tmp_path) == (0, 1)


def test_what_fails_behind_is_seen_by_a_check_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "digest", full)
    with checkpoints.Writer(tmp_path, scheduled=frozenset()) as writer:
        writer.check()
        writer.save(0, variables(0), origin=ORIGIN)

        def until_it_has_failed() -> None:
            while True:
                writer.check()

        with pytest.raises(OSError, match="full"):
            until_it_has_failed()
        writer.check()


def test_the_error_of_a_run_is_not_hidden_by_that_of_its_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packing, "digest", full)
    writer = checkpoints.Writer(tmp_path, scheduled=frozenset())

    def go() -> None:
        with writer:
            writer.save(0, variables(0), origin=ORIGIN)
            raise KeyError("of the run")

    with caplog.at_level("ERROR", "tlx"), pytest.raises(KeyError) as error:
        go()
    assert caplog.messages == ["the last checkpoint could not be written: [Errno 28] full"]
    assert error.value.__notes__ == [
        "and the last checkpoint could not be written: [Errno 28] full"
    ]
    with pytest.raises(ValueError, match="one that was closed"):
        writer.save(0, variables(0), origin=ORIGIN)


def test_nothing_is_written_into_a_folder_that_was_lost_meanwhile(tmp_path: Path) -> None:
    is_lost = False

    def require() -> None:
        if is_lost:
            raise owner.LostError("lost")

    def go() -> None:
        nonlocal is_lost
        with checkpoints.Writer(tmp_path, scheduled=frozenset(), require=require) as writer:
            writer.save(0, variables(0), origin=ORIGIN)
            writer.wait()
            is_lost = True
            writer.save(1, variables(1), origin=ORIGIN)

    with pytest.raises(owner.LostError):
        go()
    assert checkpoints.steps(tmp_path) == (0,)


def test_a_program_that_closes_no_writer_is_told_what_it_lost(tmp_path: Path) -> None:
    code = f"""
import numpy as np
from tlx import checkpoints
writer = checkpoints.Writer({str(tmp_path)!r}, scheduled=frozenset())
origin = checkpoints.make_origin("run", "P", "d" * 64, None)
for step in range(2):
    writer.save(step, {{"params": {{"w": np.ones(2**20)}}}}, origin=origin)
"""
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert checkpoints.steps(tmp_path) == (0, 1) or "its last save is lost" in out.stderr


def test_errors_name_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train it first"):
        checkpoints.restore(tmp_path / "absent")
    fill(tmp_path, {0: None, 1: None})
    with pytest.raises(ValueError, match=r"a checkpoint of step 3 .*, got 0, 1"):
        checkpoints.restore(tmp_path, 3)
    with pytest.raises(ValueError, match="did you mean 'best'"):
        checkpoints.restore(tmp_path, "bst")
    with pytest.raises(ValueError, match="with a test accuracy"):
        checkpoints.restore(tmp_path, "best")


def test_scheduled() -> None:
    assert sorted(checkpoints.scheduled(100)) == [0, 100]
    assert sorted(checkpoints.scheduled(20, rule="log2")) == [0, 1, 2, 4, 8, 16, 20]
    assert sorted(checkpoints.scheduled(16, rule="log2")) == [0, 1, 2, 4, 8, 16]
    assert sorted(checkpoints.scheduled(9, every=4, steps=(3, 50))) == [0, 3, 4, 8, 9]
    assert sorted(checkpoints.scheduled(0, rule="log2", every=3)) == [0]
    with pytest.raises(ValueError, match="did you mean 'log2'"):
        checkpoints.scheduled(1, rule="log")


@given(st.dictionaries(st.integers(0, 50), st.none() | st.floats()))
def test_best_of(scores: dict[int, float | None]) -> None:
    best = select.best_of(scores)
    valid = {step: s for step, s in scores.items() if s is not None and s == s}
    assert (best is None) == (not valid)
    if best is not None:
        top = max(valid.values())
        assert best == min(step for step, score in valid.items() if score == top)


def test_chain_and_identity() -> None:
    parent = checkpoints.at(ORIGIN, 7, 0.5)
    child = checkpoints.make_origin("child", "P-T", "e" * 64, parent)
    assert [link["run"] for link in checkpoints.chain(child)] == ["child", "run"]
    renamed = checkpoints.make_origin("x", "y", "e" * 64, parent | {"run": "z", "score": None})
    assert checkpoints.identity(renamed) == checkpoints.identity(child)
    for other in (
        checkpoints.at(child, 1, None),
        checkpoints.make_origin("child", "P-T", "e" * 64, None),
        checkpoints.make_origin("child", "P-T", "e" * 64, checkpoints.at(ORIGIN, 8, None)),
    ):
        assert checkpoints.identity(other) != checkpoints.identity(child)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["float32", "int32", "bfloat16", "bool"]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=8,
    ),
    st.sampled_from([1, 16, 2**20]),
)
def test_unpack_is_the_inverse_of_pack(shapes: Any, big: int) -> None:
    leaves = {
        f"a/{i}": np.arange(np.prod(shape)).reshape(shape).astype(jnp.dtype(dtype))
        for i, (dtype, shape) in enumerate(shapes)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BIG_BYTES", big)
        found = packing.unpack(*packing.pack(leaves))
    assert list(found) == list(leaves)
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(found[name], leaf)
        assert (found[name].dtype, found[name].shape) == (leaf.dtype, leaf.shape)


FULL = """
import errno, resource, sys
import jax.numpy as jnp
from tlx import checkpoints
origin = checkpoints.make_origin("run", "P", "d" * 64, None)
def save(writer, step, size):
    params = {"params": {"head": {"kernel": jnp.arange(float(size))}}}
    writer.save(step, params, origin=checkpoints.at(origin, step, None))
writer = checkpoints.Writer(sys.argv[1], scheduled=frozenset({0}))
save(writer, 0, 10)
writer.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    save(writer, 1, 100_000)
    writer.wait()
except OSError as error:
    assert error.errno == errno.EFBIG, error
    assert error.filename == sys.argv[1] + "/checkpoints", error.filename
    print("told")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert checkpoints.steps(sys.argv[1]) == (0,)
with checkpoints.Writer(sys.argv[1], scheduled=frozenset({0})) as writer:
    save(writer, 1, 100_000)
assert checkpoints.steps(sys.argv[1]) == (0, 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit on the size of files")
def test_what_the_system_refuses_is_told_with_its_place(tmp_path: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (out.returncode, out.stdout) == (0, "told\n"), out.stderr


@pytest.mark.parametrize("is_full", [False, True])
def test_a_signal_while_a_save_is_waited_for(
    is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being saved is known all the time, and so is what becomes of it."""
    may_go, digest, result = threading.Event(), packing.digest, futures.Future.result

    def slow(leaves: Any) -> str:
        may_go.wait()
        return full(leaves) if is_full else digest(leaves)

    def signalled(self: Any, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "digest", slow)
    writer = checkpoints.Writer(tmp_path, scheduled=frozenset({0}))
    writer.save(0, variables(0), origin=ORIGIN)
    monkeypatch.setattr(futures.Future, "result", signalled)
    with pytest.raises(KeyboardInterrupt):
        writer.wait()
    monkeypatch.setattr(futures.Future, "result", result)
    assert writer.last == 0
    may_go.set()
    with pytest.raises(OSError, match="full") if is_full else contextlib.nullcontext():
        writer.close()
    assert checkpoints.steps(tmp_path) == (() if is_full else (0,))
