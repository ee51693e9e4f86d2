"""Encoders of images: a backbone gives maps at several strides, a small top-down neck makes one grid of them.

Backbones are named (`chiasm.registry`): `efficientnet-lite0` (ImageNet weights from its package), `small-cnn` (from scratch, for
phantoms and small sizes), `hf:ID-or-folder` (any Hugging Face vision model), `monai:NAME` (2-D or 3-D, from scratch).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from chiasm.errors import RecipeError, first_line
from chiasm.models.image.efficientnet_lite import SameConv, read_pretrained
from chiasm.models.pretrained import fill, keep, read_kept, read_network, read_normalization, settings
from chiasm.recipe import ImageInput, encoder_names
from chiasm.registry import IMAGE_ENCODERS
from chiasm.study import View
from chiasm.tensors import Batch, Tokens


class Backbone(nn.Module):
    """Maps of an image, fine to coarse.

    Attributes:
        channels, strides: of each level that `forward` returns.
        pretrained: it begins with weights that were learned elsewhere. takes: what stands after the colon of its name in a
            recipe, in a word or two; "" if nothing does. ndims: of the images that it reads, 2 of pictures and 3 of volumes.
            tokens: what can be made of its maps (`inputs.image.tokens`).
        inputs: channels that a pretrained one takes. settings: what beside its weights decides its maps; both name the cache.

    `forward` takes [n, C, *S] float in 0..255 and returns a list of [n, c, *s]. A pretrained network takes `inputs` channels,
    and one channel in their place (`three_of`); one that is made here takes as many as it was told.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    pretrained: ClassVar[bool] = False
    takes: ClassVar[str] = ""
    ndims: ClassVar[tuple[int, ...]] = (2, 3)
    tokens: ClassVar[tuple[str, ...]] = ("grid", "territories")
    inputs: int = 3
    settings: str = ""

    @classmethod
    def build(cls, taken: str, ndim: int, channels: int) -> Backbone:
        """The network as a recipe names it, with `taken` after its colon, for images of these channels."""
        return cls(ndim, channels)

    @classmethod
    def keep(cls, taken: str, folder: Path) -> list[str]:
        """Write into a new folder what a run needs beside the weights to build the network again: nothing of most.

        `build` is then given the folder in the place of `taken`, and `fill` gives the weights, where training has not made them.

        Returns:
            sentences on what users must know.
        """
        return []

    def fill(self, folder: Path, taken: str) -> None:
        """Take the pretrained weights of `taken`, the very ones that stood there when `keep` wrote the folder."""

    def forward(self, pixels: Tensor) -> list[Tensor]:
        raise TypeError("Backbone is abstract")


class EfficientNetBackbone(Backbone):
    """EfficientNet-Lite0 with ImageNet weights, without its head.

    Batch norm keeps its ImageNet statistics here, frozen or not, so it is folded into the convolutions: the same numbers
    in half the time.
    """

    channels = (40, 112, 320)
    strides = (8, 16, 32)
    pretrained, ndims = True, (2,)
    _last_block = (4, 10, 15)  # the last block of each stride

    @classmethod
    def build(cls, taken: str, ndim: int, channels: int) -> Backbone:
        return cls()

    def __init__(self) -> None:
        super().__init__()
        net = read_pretrained()
        self.stem = _folded(net._conv_stem, net._bn0)
        self.blocks = nn.ModuleList(_FoldedBottleneck(block) for block in net._blocks)
        for weights in self.parameters():
            if weights.ndim == 4:  # depthwise convolutions run up to four times as fast on a CPU in this order
                weights.data = weights.data.contiguous(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = three_of((pixels - 127.0) / 128.0)
        x = F.relu6(self.stem(x))
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self._last_block:
                maps.append(x)
        return maps


class _FoldedBottleneck(nn.Module):
    """An inverted bottleneck of three convolutions, or of two where it does not expand."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        wide = [(block._expand_conv, block._bn0)] if block.expands else []
        self.wide = nn.ModuleList(_folded(*pair) for pair in [*wide, (block._depthwise_conv, block._bn1)])
        self.project = _folded(block._project_conv, block._bn2)
        self.residual = block.residual

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.wide:
            y = F.relu6(layer(y))
        projected: Tensor = self.project(y)
        return projected + x if self.residual else projected


def _folded(conv: SameConv, norm: nn.BatchNorm2d) -> nn.Module:
    """One convolution for a TensorFlow-"same" convolution and its batch norm in evaluation."""
    fused = fuse_conv_bn_eval(conv.eval(), norm.eval())
    left, right, *_ = conv.pad
    plain = nn.Conv2d(
        fused.in_channels, fused.out_channels, fused.kernel_size[0], fused.stride[0],
        padding=left if left == right else 0, groups=fused.groups,
    )  # fmt: skip
    plain.load_state_dict({"weight": fused.weight, "bias": fused.bias})
    # a stride of two pads one side more than the other, which a convolution cannot say
    return plain if left == right else nn.Sequential(nn.ZeroPad2d(conv.pad), plain)


class SmallCNN(Backbone):
    """Five stages of two convolutions with group norm, from scratch, 2-D or 3-D."""

    strides = (8, 16, 32)

    def __init__(self, ndim: int, channels: int = 1, width: int = 24) -> None:
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        widths = [channels, width, width * 2, width * 3, width * 4, width * 6]
        self.channels = tuple(widths[3:])
        self.stages = nn.ModuleList(
            nn.Sequential(
                conv(a, b, 3, stride=2, padding=1), nn.GroupNorm(4, b), nn.GELU(),
                conv(b, b, 3, padding=1), nn.GroupNorm(4, b), nn.GELU(),
            )
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )  # fmt: skip

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = (pixels - 127.0) / 64.0
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[2:]


class HuggingFaceBackbone(Backbone):
    """Any vision model of transformers: the stages of a pyramid, or the patch tokens of a ViT as one map.

    Pixels are shifted and scaled as the model's own preprocessing says. A run keeps configuration and preprocessing, so that
    neither hangs on the folder once training has begun.
    """

    mean: Tensor
    std: Tensor
    pretrained, takes, ndims = True, "ID-or-folder", (2,)

    @classmethod
    def build(cls, taken: str, ndim: int, channels: int) -> Backbone:
        return cls(taken)

    @classmethod
    def keep(cls, taken: str, folder: Path) -> list[str]:
        network = cls(taken)
        keep(network.net, folder, tuple(network.mean.flatten().tolist()), tuple(network.std.flatten().tolist()))
        return [] if network.told else [
            f"The model {taken} does not say how its images are normalized: ImageNet's mean and deviation are used."
        ]  # fmt: skip

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = read_network(name, "image")
        config = self.net.config
        self.inputs = int(getattr(config, "num_channels", None) or 3)
        kept = read_kept(name)
        mean, std, self.told = (kept.mean, kept.std, True) if kept else read_normalization(name, self.inputs)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.settings = f"{settings(self.net)} {mean} {std}"
        taken = inspect.signature(self.net.forward).parameters
        self.options: dict[str, Any] = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in taken else {}
        self.masks = getattr(config, "mask_ratio", None) is not None and "noise" in taken
        patch, width = getattr(config, "patch_size", None), getattr(config, "hidden_size", None)
        self.patch: int | None = None
        if isinstance(patch, int) and isinstance(width, int) and not hasattr(config, "depths"):
            self.patch, self.channels, self.strides = patch, (width,), (patch,)
        else:
            blank = torch.zeros(1, self.inputs, 64, 64)
            self.places, self.channels, self.strides = _measure(self.eval()._maps, blank, f"hf:{name}")

    def fill(self, folder: Path, taken: str) -> None:
        fill(self.net, folder, taken, "image")

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = (pixels.expand(-1, self.inputs, -1, -1) / 255.0 - self.mean) / self.std
        if self.patch is not None:
            return [self._patches(x, self.patch)]
        maps = self._maps(x)
        return [maps[place] for place in self.places]

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Every map of a pyramid."""
        out = self.net(pixel_values=x, output_hidden_states=True, **self.options)
        states = getattr(out, "reshaped_hidden_states", None) or out.hidden_states or ()
        if self.net.config.model_type == "hiera":  # its channels come last
            states = [h.movedim(-1, 1) for h in states]
        return [h for h in states if h.ndim == 4]

    def _patches(self, x: Tensor, patch: int) -> Tensor:
        """The tokens of patches where they lie; an image that is no whole number of patches is resized to one, never cut."""
        h, w = (max(1, round(side / patch)) for side in x.shape[2:])
        if (h * patch, w * patch) != x.shape[2:]:
            x = F.interpolate(x, (h * patch, w * patch), mode="bilinear", align_corners=False, antialias=True)
        options = dict(self.options)
        if self.masks:  # a masked autoencoder drops patches by noise: here none, in their order
            self.net.config.mask_ratio = 0.0
            options["noise"] = torch.arange(h * w, device=x.device, dtype=x.dtype).expand(len(x), -1)
        states: Tensor = self.net(pixel_values=x, **options).last_hidden_state
        if states.ndim == 4:
            return states
        config = self.net.config
        before = states.shape[1] - h * w  # class and register tokens come first
        known = {
            0,
            1,
            1 + int(getattr(config, "num_register_tokens", None) or 0),
            2 if config.model_type == "deit" else 1,
        }
        if before not in known:
            raise ValueError(f"{states.shape[1]} tokens for {h} x {w} patches: which are the patches is not known")
        return states[:, before:].transpose(1, 2).reshape(len(x), -1, h, w)


class MonaiBackbone(Backbone):
    """`monai:resnet10` ... `monai:resnet50` or `monai:efficientnet-b0` ..., 2-D or 3-D, from scratch."""

    takes = "NAME"

    @classmethod
    def build(cls, taken: str, ndim: int, channels: int) -> Backbone:
        return cls(taken, ndim, channels)

    def __init__(self, name: str, ndim: int, channels: int = 1) -> None:
        super().__init__()
        from monai.networks.nets import EfficientNetBNFeatures, ResNetFeatures

        if name in MONAI_RESNETS:
            self.net = ResNetFeatures(name, pretrained=False, spatial_dims=ndim, in_channels=channels)
        elif name in MONAI_EFFICIENTNETS:
            self.net = EfficientNetBNFeatures(name, pretrained=False, spatial_dims=ndim, in_channels=channels)
        else:
            raise RecipeError(
                "no such MONAI backbone",
                expected=", ".join(f"monai:{known}" for known in (*MONAI_RESNETS, *MONAI_EFFICIENTNETS)),
                got=f"monai:{name}",
                where="inputs.image.encoder",
            )
        blank = torch.zeros((1, channels, *(64,) * ndim))
        self.places, self.channels, self.strides = _measure(self.net.eval(), blank, f"monai:{name}")

    def forward(self, pixels: Tensor) -> list[Tensor]:
        maps = self.net((pixels - 127.0) / 64.0)
        return [maps[place] for place in self.places]


MONAI_RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50")
MONAI_EFFICIENTNETS = tuple(f"efficientnet-b{number}" for number in range(8))


@torch.no_grad()
def _measure(
    network: Callable[[Tensor], Sequence[Tensor]], blank: Tensor, encoder: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Which of a network's maps are used, the last of each stride of at least 8, fine to coarse; their channels and strides.

    Args:
        blank: an image of nothing, of a side that is a multiple of 32.

    Raises:
        RecipeError: it gives none.
    """
    try:
        maps = network(blank)
    except Exception as error:  # noqa: BLE001  a network of any kind
        raise _no_maps(encoder, first_line(error)) from None
    last = {blank.shape[2] // m.shape[2]: place for place, m in enumerate(maps)}
    strides = tuple(sorted(stride for stride in last if stride >= 8))
    if not strides:
        raise _no_maps(encoder, "none")
    places = tuple(last[stride] for stride in strides)
    return places, tuple(maps[place].shape[1] for place in places), strides


def _no_maps(encoder: str, got: str) -> RecipeError:
    return RecipeError(
        "the image encoder gives no maps",
        expected="a model of images whose stages or patches lie on a grid, of a stride of 8 or more",
        got=got,
        where=f"inputs.image.encoder: {encoder}",
        remedy="docs/encoders.md lists the families that were tried",
    )


class Voxels(Backbone):
    """No network and no maps: what reads the regions of an atlas has the voxels themselves."""

    channels, strides = (), ()
    ndims, tokens = (3,), ("territories",)

    def __init__(self, ndim: int = 3, channels: int = 1) -> None:
        super().__init__()

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return []


def three_of(x: Tensor) -> Tensor:
    """[n, 1 or 3, H, W] -> [n, 3, H, W]: one channel three times, or three as they are."""
    return x.expand(-1, 3, -1, -1)


class Mixed(Backbone):
    """A pretrained network behind a learned 1 x 1 layer that makes its channels of any number of them.

    The layer begins as the mean of all channels, once for each of the network's; 0 .. 255 stays 0 .. 255.
    """

    def __init__(self, inner: Backbone, channels: int) -> None:
        super().__init__()
        self.inner, self.mix = inner, nn.Conv2d(channels, inner.inputs, 1, bias=False)
        nn.init.constant_(self.mix.weight, 1 / channels)
        self.channels, self.strides, self.settings = inner.channels, inner.strides, inner.settings

    def fill(self, folder: Path, taken: str) -> None:
        self.inner.fill(folder, taken)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.inner(self.mix(pixels))
        return maps


def build_backbone(encoder: str, ndim: int, channels: int = 1) -> Backbone:
    """The backbone of a recipe's `inputs.image.encoder`, for images of so many channels.

    Raises:
        RecipeError: no such name, or a 2-D network for volumes.
    """
    name, _, taken = encoder.partition(":")
    part = IMAGE_ENCODERS[name]
    if ndim not in part.ndims:
        held = "volumes" if ndim == 3 else "2-D images"
        raise RecipeError(
            f"this image encoder takes {'2-D images' if ndim == 3 else 'volumes'}, the cohort holds {held}",
            got=encoder,
            where="inputs.image.encoder",
            remedy=f"choose {encoder_names(IMAGE_ENCODERS, ndims=ndim)}",
        )
    backbone: Backbone = part.build(taken, ndim, channels)
    return Mixed(backbone, channels) if part.pretrained and channels not in (1, backbone.inputs) else backbone


class Extractor(nn.Module):
    """A backbone and how many of its maps are used, the coarsest ones; what the cache of frozen features is made by."""

    def __init__(self, backbone: Backbone, levels: int, frozen: bool) -> None:
        super().__init__()
        self.backbone, self.levels = backbone, levels
        self._empty: dict[tuple[int, ...], list[Tensor]] = {}  # the shape of an image -> maps of no image
        frozen = frozen or not any(True for _ in backbone.parameters())
        self.backbone.requires_grad_(not frozen).train(not frozen)
        if isinstance(backbone, Mixed):  # the layer before a frozen network learns, so its maps change
            backbone.mix.requires_grad_(True)
        self.frozen = frozen and not isinstance(backbone, Mixed)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        # Batch statistics of small medical batches are worse than the pretrained ones, and would let studies of a
        # batch see each other.
        if mode:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
            if self.frozen:
                self.backbone.eval()
        return self

    def place(self, regions: NDArray[np.uint8]) -> None:
        """Take the atlas of a cohort [D, H, W], before the first step: nothing to one that reads no regions."""

    def standardize(self, batches: Iterable[Batch]) -> None:
        """Take from training images, before the first step, what is no weight: nothing to most."""

    def extract(self, pixels: Tensor) -> list[Tensor]:
        """The `levels` coarsest backbone maps of [n, C, *S] pixels in 0 .. 255, or of ones whose gradient is asked for.

        No network is called without an image. Of none, the maps are none of a blank image's: so the weights of a network that
        learns have a gradient in every process.
        """
        learns = torch.is_grad_enabled() and (pixels.requires_grad or not self.frozen)
        shape = tuple(pixels.shape[1:])
        if not len(pixels) and not learns and shape in self._empty:
            return [m.to(pixels.device) for m in self._empty[shape]]
        shown = pixels if len(pixels) else pixels.new_zeros((1, *shape))
        with torch.set_grad_enabled(learns):
            maps: list[Tensor] = [level[: len(pixels)] for level in self.backbone(shown.float())]
        # torch's group norm crashes in its backward pass on some maps whose channels come last
        maps = [m.contiguous() for m in maps[-self.levels :]]
        if not len(pixels) and not learns:
            self._empty[shape] = maps
        return maps


class ImageEncoder(Extractor):
    """Images [B, N, C, *S] to tokens [B, N * cells, D] on a grid (Lin et al. 2017, feature pyramid, one output level).

    Args:
        options: the recipe's image input.
        shape: stored pixels of an image, (H, W) or (D, H, W).
        grid: cells of the token grid.
        dim: width D. channels: C.
    """

    position: Tensor  # [cells, D]

    def __init__(
        self,
        options: ImageInput,
        shape: tuple[int, ...],
        grid: tuple[int, ...],
        dim: int,
        channels: int = 1,
        sequences: int = 0,
    ) -> None:
        """Args: sequences: how many names tell images apart, beside the views."""
        ndim = len(shape)
        backbone = build_backbone(options.encoder, ndim, channels)
        frozen = options.freeze and options.pretrained
        super().__init__(backbone, _levels_needed(shape, backbone.strides, grid), frozen)
        self.grid = grid
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        laterals = [conv(c, dim, 1) for c in self.backbone.channels]
        self.laterals = nn.ModuleList(laterals[-self.levels :])
        # statistics of pretrained maps differ by orders of magnitude between channels
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for c in self.backbone.channels[-self.levels :])
        self.smooth = nn.Sequential(
            conv(dim, dim, 3, padding=1), nn.GroupNorm(8, dim), nn.GELU(),
            conv(dim, dim, 3, padding=1), nn.GroupNorm(8, dim), nn.GELU(),
        )  # fmt: skip
        self.view = nn.Embedding(len(View) + sequences, dim)
        self.register_buffer("position", _positions(grid, dim), persistent=False)

    def forward(
        self, images: Tensor | None, image_mask: Tensor, view: Tensor, features: list[Tensor] | None = None
    ) -> Tokens:
        """[B, N, C, *S] (or the cached maps, each [B, N, c, *s]) -> tokens [B, N * cells, D]."""
        real = image_mask  # only real images are computed: padding costs nothing and changes nothing
        if features is not None:
            maps = [level[real].to(self.position.dtype) for level in features]
        else:
            assert images is not None
            maps = self.extract(images[real])
        if not real.any():
            maps = [m.float() for m in maps]
        x = self._merge(maps)  # [n, D, *grid]
        x = x.flatten(2).transpose(1, 2)  # [n, cells, D]
        x = x + self.position + self.view(view[real])[:, None]
        values = x.new_zeros((*real.shape, *x.shape[1:]))
        values[real] = x
        mask = real[:, :, None].expand(*real.shape, x.shape[1])
        return Tokens(values.flatten(1, 2), mask.flatten(1, 2), self.grid)

    def _merge(self, maps: list[Tensor]) -> Tensor:
        merged: Tensor | None = None
        for lateral, norm, level in reversed(list(zip(self.laterals, self.norms, maps, strict=True))):
            x = lateral(norm(level))
            merged = x if merged is None else x + F.interpolate(merged, size=x.shape[2:], mode="nearest")
        assert merged is not None
        if tuple(merged.shape[2:]) != self.grid:
            mode = "bilinear" if len(self.grid) == 2 else "trilinear"
            merged = F.interpolate(merged, size=self.grid, mode=mode, align_corners=False)
        # oneDNN runs a convolution of 3 x 3 about twice as fast with its channels last; a group norm wants them first
        last = torch.channels_last if merged.ndim == 4 else torch.channels_last_3d
        for layer in self.smooth:
            order = last if isinstance(layer, (nn.Conv2d, nn.Conv3d)) else torch.contiguous_format
            merged = layer(merged.contiguous(memory_format=order))
        return merged


def _levels_needed(shape: tuple[int, ...], strides: tuple[int, ...], grid: tuple[int, ...]) -> int:
    """How many levels, from the coarsest, until one is as fine as the grid: finer ones would teach nothing."""
    for count, stride in enumerate(reversed(strides), start=1):
        if all(math.ceil(side / stride) >= cells for side, cells in zip(shape, grid, strict=True)):
            return count
    return len(strides)


def _positions(grid: tuple[int, ...], dim: int) -> Tensor:
    """[cells, dim] sines and cosines of each axis (Vaswani et al. 2017), an equal share of the width per axis."""
    share = dim // (2 * len(grid)) * 2
    frequency = torch.exp(-math.log(100.0) * torch.arange(0, share, 2) / share) * math.pi
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in grid), indexing="ij")
    waves = [f(axis.flatten()[:, None] * frequency) for axis in axes for f in (torch.sin, torch.cos)]
    table = torch.cat(waves, dim=1)
    return F.pad(table, (0, dim - table.shape[1]))
