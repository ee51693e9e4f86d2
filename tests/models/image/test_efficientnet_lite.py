"""EfficientNet-Lite0 against the published counts and shapes, and against numbers of the package its weights were converted with."""

import pytest
import torch
import torch.nn.functional as F

from chiasm.models.image.efficientnet_lite import EfficientNetLite0, InvertedBottleneck, SameConv, read_pretrained

# the last block of each stage: its channels, and how often it halved the image (Tan & Le 2019, table 1)
STAGES = {0: (16, 2), 2: (24, 4), 4: (40, 8), 7: (80, 16), 10: (112, 16), 14: (192, 32), 15: (320, 32)}
# mean, standard deviation and first number of the same blocks for `_picture`, in float64, of efficientnet_lite_pytorch 0.1
FINGERPRINT = {
    0: (-0.7498382430, 10.7398293916, 4.2075597783),
    2: (1.1485234468, 13.6423318956, 5.3732160696),
    4: (0.7600784067, 11.1879306363, 12.9230588487),
    7: (-1.3897430553, 9.7160601606, -9.3276225653),
    10: (0.7314632387, 7.7273841945, -11.7687697926),
    14: (0.2405565133, 11.0489214040, -3.4068254749),
    15: (-0.1265240362, 4.4417328700, 2.4250468516),
}


def _picture(side=64):
    """[1, 3, side, side] gray: (y x + 7 x) mod 256 at row y and column x."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    gray = (y * x + 7 * x) % 256
    return ((gray - 127) / 128).expand(1, 3, side, side).double()


def _maps(net, pixels):
    x = F.relu6(net._bn0(net._conv_stem(pixels)))
    maps = [x := block(x) for block in net._blocks]
    return {number: maps[number] for number in STAGES}


def test_the_parameters_are_as_many_as_counted_by_hand():
    count = 3 * 9 * 32 + 2 * 32  # stem and the two numbers of its norm for each channel
    channels = 32
    for kernel, expansion, *widths in (
        (3, 1, 16), (3, 6, 24, 24), (5, 6, 40, 40), (3, 6, 80, 80, 80),
        (5, 6, 112, 112, 112), (5, 6, 192, 192, 192, 192), (3, 6, 320),
    ):  # fmt: skip
        for width in widths:
            wide = channels * expansion
            count += channels * wide + 2 * wide if expansion > 1 else 0
            count += wide * kernel**2 + 2 * wide
            count += wide * width + 2 * width
            channels = width
    count += 320 * 1280 + 2 * 1280  # head
    count += 1280 * 1000 + 1000  # classifier
    assert count == 4_652_008  # 4.7 M as published
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == count


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_each_stage_gives_its_channels_at_its_stride(size):
    with torch.no_grad():
        maps = _maps(EfficientNetLite0().eval(), torch.zeros(1, 3, *size))
    for number, (channels, stride) in STAGES.items():
        assert maps[number].shape == (1, channels, size[0] // stride, size[1] // stride)


@pytest.mark.parametrize(
    ("kernel", "stride", "expected"),
    [
        (3, 2, [[9, 6], [6, 4]]),  # one pixel of padding, right and below
        (5, 2, [[16, 12], [12, 9]]),  # one before, two after
        (3, 1, [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]),
    ],
)
def test_same_padding_counts_the_pixels_under_the_kernel(kernel, stride, expected):
    conv = SameConv(1, 1, kernel, stride)
    torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        assert conv(torch.ones(1, 1, 4, 4))[0, 0].tolist() == expected


@pytest.mark.parametrize(("outputs", "stride", "passes"), [(8, 1, True), (8, 2, False), (12, 1, False)])
def test_a_block_adds_its_input_where_shapes_allow(outputs, stride, passes):
    block = InvertedBottleneck(8, outputs, 3, stride, 6).eval()
    torch.nn.init.zeros_(block._project_conv.weight)
    x = torch.arange(8.0 * 16).reshape(1, 8, 4, 4)
    with torch.no_grad():
        y = block(x)
    assert torch.equal(y, x if passes else torch.zeros_like(y))


@pytest.fixture(scope="module")
def net():
    return read_pretrained().double().eval()


def test_pretrained_maps_are_those_of_the_package_that_converted_the_weights(net):
    with torch.no_grad():
        maps = _maps(net, _picture())
    for number, expected in FINGERPRINT.items():
        x = maps[number]
        assert (x.mean().item(), x.std().item(), x[0, 0, 0, 0].item()) == pytest.approx(expected, abs=1e-8)


def test_pretrained_logits_are_those_of_the_package_that_converted_the_weights(net):
    with torch.no_grad():
        logits = net(_picture())[0]
    assert logits.argmax() == 828
    assert logits[:3].tolist() == pytest.approx([3.4103, -0.2577, -6.1492], abs=1e-4)
    assert logits.std().item() == pytest.approx(5.9042, abs=1e-4)
