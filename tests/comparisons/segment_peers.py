"""A training step of our U-Net beside plain PyTorch ones of the same widths, float32 and channels-first.

    python tests/comparisons/segment_peers.py [--height 180] [--width 240] [--batch 8] [--features 32]

Forward, cross-entropy, backward and AdamW on random pictures. ``same layers`` has our layers one by one as
PyTorch gives them; ``usual`` is the U-Net that is found most often (two convolutions a block, bilinear
enlargement before the first convolution of the way up). Ours runs as `attn segment` trains: bf16 autocast
where the machine has it, channels-last. Prints medians of interleaved rounds in milliseconds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.bench.timing import interleave
from attncli.models.vision.unet import UNet
from attncli.models.vision.unet_config import UNetConfig
from attncli.ops.allocator import keep_freed_memory
from attncli.recipe.segment import LossSection
from attncli.tasks.segment_losses import mask_counts, mask_losses

CLASSES = 11


def unit(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Gate(nn.Module):
    """The additive gate of Attention U-Net."""

    def __init__(self, skip: int, gating: int) -> None:
        super().__init__()
        self.of_skip = nn.Conv2d(skip, skip // 2, 2, stride=2, bias=False)
        self.of_gating = nn.Conv2d(gating, skip // 2, 1)
        self.score = nn.Conv2d(skip // 2, 1, 1)

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        factor = torch.sigmoid(self.score(F.relu(self.of_skip(skip) + self.of_gating(gating))))
        return skip * F.interpolate(factor, scale_factor=2, mode="bilinear", align_corners=False)


class Plain(nn.Module):
    """A U-Net as PyTorch's layers make it; ``narrow`` as ours, with a 1x1 convolution before enlarging."""

    def __init__(self, widths: tuple[int, ...], gates: bool, narrow: bool) -> None:
        super().__init__()
        self.narrow = narrow
        pairs = list(zip((3, *widths), widths, strict=False))
        self.down = nn.ModuleList(nn.Sequential(unit(a, b), unit(b, b)) for a, b in pairs)
        below = list(itertools.pairwise(widths))
        self.gates = nn.ModuleList(Gate(c, d) for c, d in below) if gates else None
        self.before = nn.ModuleList(unit(d, c, 1) if narrow else nn.Identity() for c, d in below)
        self.up = nn.ModuleList(
            nn.Sequential(unit(2 * c if narrow else c + d, c), unit(c, c)) for c, d in below
        )
        self.output = nn.Conv2d(widths[0], CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        step = 2 ** len(self.up)
        x = F.pad(x, (0, -width % step, 0, -height % step), mode="replicate")
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for level in reversed(range(len(self.up))):
            skip = skips[level] if self.gates is None else self.gates[level](skips[level], x)
            mode = {"mode": "nearest"} if self.narrow else {"mode": "bilinear", "align_corners": True}
            x = F.interpolate(self.before[level](x), scale_factor=2, **mode)
            x = self.up[level](torch.cat([skip, x], 1))
        return self.output(x)[:, :, :height, :width]


def plain_step(model: nn.Module, images: Tensor, masks: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = (images.contiguous().float() - 127) / 64, masks.long()

    def step() -> None:
        loss = F.cross_entropy(model(x), y, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def our_step(model: UNet, images: Tensor, masks: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    section = LossSection()

    def step() -> None:
        counts = mask_counts(masks, section, None, CLASSES)
        with torch.autocast("cpu", torch.bfloat16):
            losses = mask_losses(model(images)[0], masks, section, None)
        optimizer.zero_grad()
        (losses["cross_entropy"] / counts["cross_entropy"]).backward()
        optimizer.step()

    return step


def busy(step: Callable[[], None]) -> Callable[[], float]:
    """A step that tells the processor time it took, for machines that do other things too."""

    def timed() -> float:
        began = time.process_time()
        step()
        return time.process_time() - began

    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("height", 180), ("width", 240), ("batch", 8), ("features", 32), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--busy", action="store_true", help="count processor time, not the clock")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_float32_matmul_precision("medium")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    shape = args.batch, args.height, args.width
    images = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    masks = torch.randint(0, CLASSES, shape, dtype=torch.uint8)
    widths = tuple(min(args.features * 2**level, 8 * args.features) for level in range(5))
    for gates in (False, True):
        ours = UNet(UNetConfig(classes=CLASSES, widths=widths, gates=gates))
        peers = {"same layers": Plain(widths, gates, True), "usual": Plain(widths, gates, False)}
        cases = {"ours": our_step(ours, images, masks)}
        cases |= {name: plain_step(model, images, masks) for name, model in peers.items()}
        if args.busy:
            cases = {name: busy(step) for name, step in cases.items()}
        timed = interleave(cases, rounds=args.rounds, warmup=1)
        own = timed["ours"].median
        name = "attention U-Net" if gates else "U-Net"
        rate = f"{args.batch / own:.1f} images/s (spread {timed['ours'].spread:.0%})"
        print(f"{name}: ours {1e3 * own:.0f} ms, {rate}")
        for peer, model in peers.items():
            other, parameters = timed[peer].median, sum(p.numel() for p in model.parameters())
            ratio = f"{other / own:.2f} times as long"
            print(f"  {peer:12} {1e3 * other:6.0f} ms ({parameters:,} parameters): {ratio}")


if __name__ == "__main__":
    main()
