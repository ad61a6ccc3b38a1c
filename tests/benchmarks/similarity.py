"""What the similarity of all pairs of layers costs: `python -m tests.benchmarks.similarity`.

Prints a line of JSON for each benchmark: a ratio, its aim, and what was compared.

- `forwards`: all pairs of layers over two bare jitted passes that return the same features.
- `peers`: the same beside PyPI's pytorch-cka and torch_cka, same weights, same images, same
  layers, all in memory. The errors are to float64. The packages do not centre features, which
  costs them their digits in float32, also on these random images; in float64 they give ours.
- `faults`: small cases with a known value, on which the packages are wrong. The ratio is our
  error over 1e-3.
- `memory`: peak memory by examples and by batch, and a million examples streamed through.
- `published`: the two set-ups that pytorch-cka publishes for an H100, random images for
  CIFAR-10's. On an accelerator, or where asked for; on CPU with a tenth of the images.

The packages come with `pip install '.[benchmark]'`. `--quick` only shows that all of it
runs. Where other work shares the cores, times say little.
"""

import argparse
import statistics
import sys

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import models as model_benchmarks
from tests.benchmarks import similarity_memory, timing
from tests.benchmarks.similarity_nets import NETS, Setting, captured, normal, published_paths
from tlx import models
from tlx.analyses.features.similarity import cka_matrix
from tlx.core import streams

RESAMPLES = 200
BENCHMARKS = ("forwards", "peers", "faults", "memory", "published")
PUBLISHED_SECONDS = {"18": 1.16, "all": 2.33}
PUBLISHED_IMAGES = (500, 4500, 500, 4500)
PUBLISHED_BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, help="these benchmarks only")
    parser.add_argument("--net", nargs="+", choices=NETS, default=tuple(NETS), help="of forwards")
    parser.add_argument("--repeats", type=int, default=11, help="pairs of runs a ratio")
    parser.add_argument("--published", action="store_true", help="that set-up on CPU too")
    parser.add_argument("--quick", action="store_true", help="few images, one repeat")
    args = parser.parse_args()
    on_cpu = jax.default_backend() == "cpu"
    chosen = args.only or [b for b in BENCHMARKS if b != "published" or not on_cpu]
    chosen += ["published"] if args.published and "published" not in chosen else []
    repeats = 1 if args.quick else args.repeats
    if "forwards" in chosen:
        for net in args.net:
            forwards(net, args.quick, repeats)
    if "peers" in chosen:
        for images in (64, 60) if args.quick else (512, 500):
            peers(images, 32 if args.quick else 128, repeats)
    if "faults" in chosen:
        faults()
    if "memory" in chosen:
        similarity_memory.run(args.quick)
    if "published" in chosen:
        published(1 if not on_cpu else 100 if args.quick else 10, repeats)


def forwards(net: str, quick: bool, repeats: int) -> None:
    """All pairs of layers over two bare passes that return the same features."""
    resamples = {"num_resamples": RESAMPLES, "key": jax.random.key(0)}
    for layers in ("named", "inner"):
        for batch in (16,) if quick else (64, 128):
            setting = Setting(net, layers, 32 if quick else 512, batch)
            facts = {"which": layers, **setting.facts}
            found = _over_forwards(setting, repeats)
            timing.emit(benchmark="cka_over_two_forwards", aim=1.15, **found, **facts)
        found = _over_forwards(setting, repeats, **resamples)
        facts["resamples"] = RESAMPLES
        timing.emit(benchmark="cka_with_intervals_over_two_forwards", aim=1.5, **found, **facts)


def _over_forwards(setting: Setting, repeats: int, **options):
    forward = jax.jit(setting.features)
    batches = [jax.device_put(b["inputs"]) for b in setting.stream()]

    def bare():
        for x in batches:  # one batch's features alive at a time, as in the analysis
            jax.block_until_ready((forward(setting.a, x), forward(setting.b, x)))

    return timing.ratio(lambda: setting.cka(**options).values, bare, repeats=repeats)


def peers(images: int, batch: int, repeats: int) -> None:
    """The inner layers of two Fixup ResNet-18 by each of the packages."""
    setting = Setting("fixup_resnet18", "inner", images, batch)
    peer = _torch_packages()
    if peer is None:
        return
    torch, packages = peer
    ours = np.asarray(setting.module.apply(setting.a, setting.images[:batch]))
    theirs = packages.logits(torch, setting)
    assert np.abs(ours - theirs).max() < 1e-4, "the two nets differ in their logits"
    by_size, alike = float64(setting)
    ours = np.asarray(setting.cka().values)
    for package in packages.PACKAGES:
        call, memory_format = packages.fastest(torch, package, setting)
        theirs, exact = call(), packages.in_float64(torch, package, setting)
        facts = {
            "package": packages.version(package),
            "our_error": _largest(ours, by_size),
            "their_error": _largest(theirs, by_size),
            "their_pairs_within_1e-3": int((np.abs(theirs - by_size) < 1e-3).sum()),
            "negative_pairs": [int((found < 0).sum()) for found in (ours, theirs)],
            # a package that clamps is right, if at all, where the value is not negative
            "difference_to_theirs_in_float64": _largest(ours, exact, where=by_size > 0),
            "their_error_in_float64_were_batches_alike": _largest(exact, alike, where=alike > 0),
            "memory_format": memory_format,
        }
        if images % batch == 0:
            assert facts["difference_to_theirs_in_float64"] < 1e-5, facts
        if package == "torch_cka":
            facts["labels_in_order_of_rows"] = packages.labels_in_order(torch, setting)
        found = model_benchmarks._race(
            lambda: np.asarray(setting.cka().values), call, max(1, repeats // 2)
        )
        facts = {**found, **facts, **setting.facts, "last_batch": images % batch or batch}
        timing.emit(benchmark="cka_over_torch_package", aim=1.0, **facts)


def float64(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """The debiased CKA of our features in float64: batches weighed by n(n − 3), and all alike.

    Written from Song et al. 2012, eq. 5, on Gram matrices of centred features.
    """
    forward, sums = jax.jit(setting.features), {"by_size": 0.0, "alike": 0.0}
    for start in range(0, len(setting.images), setting.batch):
        x = setting.images[start : start + setting.batch]
        found = [forward(params, x).values() for params in (setting.a, setting.b)]
        hsic = _hsic64([np.asarray(z, np.float64).reshape(len(x), -1) for m in found for z in m])
        sums["by_size"] += hsic * len(x) * (len(x) - 3)
        sums["alike"] += hsic
    half = len(setting.paths)
    norms = {name: np.sqrt(np.diag(total)) for name, total in sums.items()}
    ratios = [total / np.outer(norms[name], norms[name]) for name, total in sums.items()]
    return ratios[0][:half, half:], ratios[1][:half, half:]


def _hsic64(layers: list[np.ndarray]) -> np.ndarray:
    n = len(layers[0])
    centred = [z - z.mean(0) for z in layers]
    off = np.stack([(z @ z.T) * (1 - np.eye(n)) for z in centred])
    rows, flat = off.sum(1), off.reshape(len(off), -1)
    total = rows.sum(1)
    products = flat @ flat.T + np.outer(total, total) / ((n - 1) * (n - 2))
    return (products - 2 / (n - 2) * rows @ rows.T) / (n * (n - 3))


def faults() -> None:
    """Pairs of layers x·w + offset, by the packages and by us, beside float64."""
    peer = _torch_packages()
    if peer is None:
        return
    w, noise = normal(1, 16, 64) / 4, normal(2, 16, 64) / 4
    apart, zero = np.eye(64, 32, dtype=np.float32), np.zeros(64, np.float32)
    related, x, below = (w, w + noise), normal(3, 512, 16), normal(10, 128, 64)
    cases = [
        (f"offset of {size} spreads", related, zero + size, x, "nothing")
        for size in (0, 10, 30, 100)
    ]
    cases += [
        ("constant features", (w, 0 * w), zero, x, "nothing"),
        ("unrelated, below zero by chance", (apart, apart[::-1]), zero[:32], below, "nothing"),
        ("last batch of 6", related, zero, x[:134], "nothing"),
        ("last batch of 3", related, zero, x[:131], "nothing"),
        ("relu in place after the layer", related, zero, x[:128], "relu"),
    ]
    for name, weights, offset, inputs, then in cases:
        _fault(peer, name, [(each, offset) for each in weights], inputs, then)


def _fault(peer, name: str, layers, inputs: np.ndarray, then: str, batch: int = 128) -> None:
    torch, packages = peer
    sums = np.zeros((2, 2))
    for start in range(0, len(inputs), batch):
        x = inputs[start : start + batch].astype(np.float64)
        if len(x) > 3:
            sums += _hsic64([x @ w + offset for w, offset in layers]) * len(x) * (len(x) - 3)
    norms = np.sqrt(sums[0, 0] * sums[1, 1])
    right = sums[0, 1] / norms if norms else np.nan
    a, b = ([jnp.asarray(part) for part in layer] for layer in layers)
    stream = streams.from_arrays(inputs, batch_size=batch)
    ours = cka_matrix.cka_matrix(_affine, a, _affine, b, stream)
    value = float(ours.values[0, 0])
    error = float(np.isnan(value) != np.isnan(right)) if np.isnan(right) else abs(value - right)
    facts = {"case": name, "float64": packages.readable(right), "ours": packages.readable(value)}
    facts |= {"ours_left_out": int(ours.num_left_out)}
    facts |= packages.affine(torch, layers, inputs, batch, then)
    timing.emit(benchmark="cka_fault", ratio=round(error / 1e-3, 4), aim=1.0, **facts)


def _affine(params, x):
    return {"0": jnp.matmul(x, params[0], precision="highest") + params[1][None, :]}


def published(fraction: int, repeats: int) -> None:
    """Two ResNet-18 with a 3×3 stem over four loaders, as pytorch-cka's notebooks have them.

    There: CIFAR-10's images, decoded one by one as they are read, batches of 1,000; every
    module, 67 of them, is "all". A relu that is called twice and containers that end with
    their last layer repeat the same values there: 51 are distinct, and the others are given here
    under two names, as there.
    """
    module = models.make("resnet18", num_classes=10, stem="small")
    init = jax.jit(module.init)
    a, b = (dict(init(jax.random.key(seed), jnp.zeros((1, 32, 32, 3)))) for seed in range(2))
    counts = [n // fraction for n in PUBLISHED_IMAGES]
    size = PUBLISHED_BATCH // fraction
    loaders = [
        streams.from_arrays(normal(i, n, 32, 32, 3), batch_size=min(n, size))
        for i, n in enumerate(counts)
    ]
    for which, theirs in PUBLISHED_SECONDS.items():
        features = captured(module, published_paths(module.stage_sizes, which))

        def ours(features=features):
            return [cka_matrix.cka_matrix(features, a, features, b, s).values for s in loaders]

        first = timing.seconds(ours)
        seconds = statistics.median(timing.seconds(ours) for _ in range(repeats))
        facts = {"seconds": round(seconds, 3), "published_seconds": theirs, "published_on": "H100"}
        facts |= {"seconds_with_compilation": round(first, 3), "images": counts, "batch": size}
        facts |= {"layers": len(jax.eval_shape(features, a, np.zeros((1, 32, 32, 3), np.float32)))}
        facts |= {"device": jax.devices()[0].device_kind, "fraction_of_images": f"1/{fraction}"}
        ratio = round(seconds * fraction / theirs, 3)
        timing.emit(benchmark="cka_over_published", ratio=ratio, aim=1.0, **facts)


def _largest(a: np.ndarray, b: np.ndarray, where=True) -> float:
    return float(f"{np.abs(a - b).max(where=where, initial=0):.2g}")


def _torch_packages():
    """PyTorch and the module that runs its packages, None where they are not installed."""
    try:
        import cka
        import torch
        import torch_cka

        from tests.benchmarks import torch_similarity

        del cka, torch_cka
    except ImportError as error:
        print(f"skipped: {error}; pip install '.[benchmark]'", file=sys.stderr)
        return None
    if torch.cuda.is_available() != (jax.default_backend() != "cpu"):
        print("skipped: PyTorch and JAX are not on the same kind of device", file=sys.stderr)
        return None
    return torch, torch_similarity


if __name__ == "__main__":
    main()
