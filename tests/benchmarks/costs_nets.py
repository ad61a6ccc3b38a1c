"""Three networks counted by hand: their weights, the flops of an example and its activations."""

from collections.abc import Iterator
from typing import NamedTuple


class Op(NamedTuple):
    """A layer with weights, or the products of attention.

    Attributes:
      module: the part of the model that it belongs to.
      params: numbers, batch statistics among them.
      flops: of an example: two for each product that is added.
      kept: numbers of an example that its gradient needs.
      is_attention: whether activations are multiplied with each other.
    """

    module: str
    params: int
    flops: int
    kept: int
    is_attention: bool = False


class Net(NamedTuple):
    """A network as a cost.

    Attributes:
      name: of the table.
      ops: in the order of the forward pass.
      layers: the sizes of the layers' features, of an example.
      live: numbers of an example that are alive at once in a forward pass.
      example: numbers of an example's input.
      remat: whether the inside of a module is computed again for its gradient.
    """

    name: str
    ops: tuple[Op, ...]
    layers: tuple[int, ...]
    live: int
    example: int
    remat: bool = False

    @property
    def params(self) -> int:
        """P."""
        return sum(op.params for op in self.ops)

    @property
    def largest(self) -> int:
        """The numbers of the largest layer."""
        return max(op.params for op in self.ops)

    @property
    def flops(self) -> int:
        """F, of the forward pass of an example."""
        return self.linear + self.attention

    @property
    def linear(self) -> int:
        """Of products with weights."""
        return sum(op.flops for op in self.ops if not op.is_attention)

    @property
    def attention(self) -> int:
        """Of products of activations."""
        return sum(op.flops for op in self.ops if op.is_attention)

    @property
    def first(self) -> int:
        """Of the first layer, whose inputs have no derivative."""
        return self.ops[0].flops

    @property
    def kept(self) -> int:
        """Numbers of an example between the two passes, and those at work where that is more."""
        if not self.remat:
            return sum(op.kept for op in self.ops)
        of_module = dict.fromkeys(self.modules, 0)
        for op in self.ops:
            of_module[op.module] += op.kept
        return sum(self.layers[:-1]) + max(of_module.values())

    @property
    def again(self) -> int:
        """Flops that are computed again for the gradient: all of a block but its last product."""
        if not self.remat:
            return 0
        inside = [op for op in self.ops if op.module.startswith("block")]
        last = {op.module: op.flops for op in inside}
        return sum(op.flops for op in inside) - sum(last.values())

    @property
    def modules(self) -> tuple[str, ...]:
        """In the order of the forward pass."""
        return tuple(dict.fromkeys(op.module for op in self.ops))

    @property
    def after(self) -> float:
        """The share of the forward pass from a module on, summed over the modules."""
        total = 0
        for module in self.modules:
            start = [op.module for op in self.ops].index(module)
            total += sum(op.flops for op in self.ops[start:])
        return total / self.flops


def resnet50(size: int = 224, num_classes: int = 1000, width: int = 64) -> Net:
    """ResNet-50 with batch normalisation; stride on the 3x3 convolutions."""
    stages = (3, 4, 6, 3)
    side = size // 2
    ops = [_conv("stem", 7, 3, width, size, 2)]
    side //= 2
    channels, layers = width, [width * side**2]
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            inner, name = width * 2**stage, f"stage{stage + 1}_block{block + 1}"
            ops += _bottleneck(name, channels, inner, side, stride)
            side, channels = side // stride, 4 * inner
            layers.append(channels * side**2)
    ops.append(Op("head", (channels + 1) * num_classes, 2 * channels * num_classes, channels))
    live = 3 * width * (size // 2) ** 2  # the stem's output, normalised, and its largest part
    return Net("ResNet-50", tuple(ops), (*layers, channels, num_classes), live, 3 * size**2)


def _bottleneck(name: str, channels: int, inner: int, side: int, stride: int) -> Iterator[Op]:
    yield _conv(name, 1, channels, inner, side, 1)
    yield _conv(name, 3, inner, inner, side, stride)
    yield _conv(name, 1, inner, 4 * inner, side // stride, 1)
    if stride > 1 or channels != 4 * inner:
        yield _conv(name, 1, channels, 4 * inner, side, stride)


def _conv(name: str, size: int, channels: int, out: int, side: int, stride: int) -> Op:
    """A convolution and its normalisation, which keeps its input and its output."""
    flops = 2 * channels * out * _taps(side, size, stride) ** 2
    params = size**2 * channels * out + 4 * out
    return Op(name, params, flops, 2 * out * (-(-side // stride)) ** 2)


def _taps(side: int, size: int, stride: int) -> int:
    """Pairs of an output and an input that it reads along one axis; padding is not read."""
    starts = range(-(size // 2), side - size // 2, stride)
    return sum(min(start + size, side) - max(start, 0) for start in starts)


def vit(
    size: int = 224, patch: int = 16, width: int = 768, depth: int = 12, heads: int = 12,
    num_classes: int = 1000,
) -> Net:  # fmt: skip
    """ViT with biases, layer norms and gelu; B/16 by default."""
    d, grid = width, (size // patch) ** 2
    t = grid + 1
    stem = (3 * patch**2 + 1) * d
    ops = [Op("stem", stem + (1 + t) * d, 2 * grid * 3 * patch**2 * d, grid * 3 * patch**2)]
    for i in range(depth):
        name = f"block{i + 1}"
        ops += [
            Op(name, 2 * d + 3 * d * (d + 1), 6 * t * d * d, 2 * t * d),
            Op(name, 0, 4 * t * t * d, 3 * t * d + 3 * heads * t * t, is_attention=True),
            Op(name, d * (d + 1), 2 * t * d * d, t * d),
            Op(name, 2 * d + 4 * d * (d + 1), 8 * t * d * d, 2 * t * d),
            Op(name, d * (4 * d + 1), 8 * t * d * d, 2 * 4 * t * d),
        ]
    ops += [Op("norm", 2 * d, 0, d), Op("head", (d + 1) * num_classes, 2 * d * num_classes, d)]
    live = t * d + max(2 * heads * t * t + 4 * t * d, 2 * 4 * t * d)
    layers = (*[t * d] * (depth + 1), d, num_classes)
    return Net("ViT-B/16", tuple(ops), layers, live, 3 * size**2)


def decoder(
    layers: int = 32, width: int = 4096, inner: int = 11008, heads: int = 32,
    vocabulary: int = 32000, length: int = 2048,
) -> Net:  # fmt: skip
    """A decoder with RMS norms, rotary positions and gated networks, without biases."""
    d, t = width, length
    ops = [Op("embedding", vocabulary * d, 0, 0)]
    for i in range(layers):
        name = f"block{i:02}"
        ops += [
            Op(name, d + 3 * d * d, 6 * t * d * d, 2 * t * d),
            Op(name, 0, 4 * t * t * d, 5 * t * d + 3 * heads * t * t, is_attention=True),
            Op(name, d * d, 2 * t * d * d, t * d),
            Op(name, d + 2 * d * inner, 4 * t * d * inner, 2 * t * d),
            Op(name, d * inner, 2 * t * d * inner, 3 * t * inner),
        ]
    ops += [Op("norm", d, 0, t * d)]
    ops += [Op("head", d * vocabulary, 2 * t * d * vocabulary, t * d + 2 * t * vocabulary)]
    live = max(heads * t * t + 4 * t * d, 3 * t * inner + t * d, 2 * t * vocabulary)
    features = (*[t * d] * (layers + 1), t * vocabulary)
    return Net("decoder, 7 B", tuple(ops), features, live, t, remat=True)


NETS = {"resnet50": resnet50, "vit_b16": vit, "decoder_7b": decoder}
