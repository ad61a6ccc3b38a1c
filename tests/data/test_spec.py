"""DataSpec: everything that is wrong, in words, without opening any data."""

import dataclasses

import pytest

from tlx.data.spec import DataSpec, parse_augment, parse_shuffle

GOOD = DataSpec(name="digits", image_size=32, channels=1, mean=(0.3,), std=(0.4,))


def changed(**values):
    return dataclasses.replace(GOOD, **values).problems()


def test_good_specs_have_no_problems_and_are_hashable():
    assert GOOD.problems() == []
    assert GOOD.unavailable() == []
    assert changed(shuffle="block:8", augment=("flip", "crop:2"), train_size=500) == []
    assert changed(channels=3, mean=(0.1, 0.2, 0.3), std=(1, 1, 1), shuffle="pixel") == []
    assert changed(name="tfds/cifar10:3.0.2", train_split="train[:80%]") == []
    assert hash(GOOD) == hash(dataclasses.replace(GOOD))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "digit"},
            "name: unknown source 'digit'; did you mean 'digits'? Known: ",
        ),
        (
            {"name": "tfds/"},
            "name: expected tfds/NAME with the name of a dataset, got 'tfds/'",
        ),
        (
            {"test_split": "tests"},
            "test_split: unknown split of 'digits' 'tests'; did you mean 'test'? "
            "Known: test, train",
        ),
        ({"train_size": 0}, "train_size: expected 1 or more, got 0"),
        ({"batch_size": -3}, "batch_size: expected 1 or more, got -3"),
        ({"batch_size": "64"}, "batch_size: expected int, got '64' (str)"),
        ({"batch_size": True}, "batch_size: expected int, got True (bool)"),
        ({"train_size": 0.5}, "train_size: expected int or None, got 0.5 (float)"),
        ({"mean": [0.3]}, "mean: expected tuple, got [0.3] (list)"),
        ({"mean": ("a",)}, "mean: expected a tuple of float, got ('a',)"),
        ({"augment": (1,)}, "augment: expected a tuple of str, got (1,)"),
        ({"mean": (0.1, 0.2)}, "mean: expected one number, one a channel, got (0.1, 0.2)"),
        ({"mean": (float("nan"),)}, "mean: expected finite numbers, got (nan,)"),
        ({"std": (0.0,)}, "std: expected numbers above 0, got (0.0,)"),
        ({"shuffle_seed": -1}, "shuffle_seed: expected 0 to 2**32 - 1, got -1"),
        (
            {"augment": ("flipp",)},
            "augment: unknown augmentation 'flipp'; did you mean 'flip'? Known: affine, ",
        ),
        (
            {"fit": ("float", "equalize", "pad:32")},
            "fit: expected only center_crop, resize_long, pad, blur after 'float', got equalize",
        ),
        (
            {"fit": ("float", "pad:32"), "augment": ("resized_crop",)},
            "fit: expected no 'float' with augment 'resized_crop', which takes the place of fit",
        ),
        ({"augment": ("flip:2",)}, "augment: expected 'flip' without a number, got 'flip:2'"),
        (
            {"augment": ("crop:40",)},
            "augment: expected 'crop' with a padding of 1 to 32, got 'crop:40'",
        ),
        (
            {"augment": ("crop", "crop:2")},
            "augment: expected each kind once, got ('crop', 'crop:2')",
        ),
        (
            {"shuffle": "blocks:8"},
            "shuffle: unknown shuffle 'blocks'; did you mean 'block'? "
            "Known: block, channel_block, none, pixel",
        ),
        (
            {"shuffle": "block"},
            "shuffle: expected 'block' with a block size, as block:8, got 'block'",
        ),
        (
            {"shuffle": "block:0"},
            "shuffle: expected 'block' with a block size, as block:8, got 'block:0'",
        ),
        ({"shuffle": "pixel:3"}, "shuffle: expected 'pixel' without a size, got 'pixel:3'"),
        (
            {"shuffle": "channel_block:5"},
            "shuffle: expected a block size that divides image_size 32, got 'channel_block:5'; "
            "use one of channel_block:1, channel_block:2, channel_block:4, "
            "channel_block:8, channel_block:16, channel_block:32",
        ),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_each_problem_is_named(values, message):
    (found,) = changed(**values)
    assert found.startswith(message)  # other tests may have registered further sources


def test_channels_are_named_once():
    assert changed(channels=2) == ["channels: expected 1 (grey) or 3 (colour), got 2"]


def test_all_problems_come_at_once():
    found = changed(name="mnist", image_size=0, shuffle="block:3", std=(-1.0,), batch_size=0)
    assert [text.partition(":")[0] for text in found] == ["name", "image_size", "batch_size", "std"]


def test_parsing():
    assert parse_shuffle("none") == ("none", 0)
    assert parse_shuffle("channel_block:16") == ("channel_block", 16)
    assert parse_augment("crop", 4) == ("crop", 1)
    assert parse_augment("crop:3", 32) == ("crop", 3)
    assert parse_augment("flip", 32) == ("flip", 0)
