"""A training step and a detection of the blood cell recipe's model, beside the same model written plainly.

    python tests/comparisons/detection_plain.py [--threads 2] [--rounds 5] [--batch 8]

Plainly: float32, channels first, PyTorch's own norms, RoIAlign by ``grid_sample`` over sample points, greedy
suppression in a loop over boxes. The weights are equal and so are, up to rounding, the losses: that is
checked first. The two take turns, and medians are shown.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.data.boxes.batches import NOTHING
from attncli.models.vision.detection import proposals, regions
from attncli.models.vision.detection.detections import Objects
from attncli.models.vision.detection.faster_rcnn import FasterRcnn
from attncli.models.vision.detection.resnet import GroupNorm
from attncli.ops.allocator import keep_freed_memory
from attncli.ops.boxes import pairwise_iou
from attncli.recipe.detect import DetectEvaluate
from attncli.recipe.loading import load_recipe


def plain_nms(boxes: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Greedy, box by box, of each picture."""
    kept = torch.zeros_like(valid)
    for row in range(len(boxes)):
        over = pairwise_iou(boxes[row], boxes[row]) > threshold
        free = valid[row].clone()
        for at in range(len(free)):
            if free[at]:
                kept[row, at] = True
                free &= ~over[at]
    return kept


def plain_roi_align(
    features: Tensor, boxes: Tensor, image: Tensor, *, size: int, scale: float, sampling: int = 2
) -> Tensor:
    """Samples by ``grid_sample``, then their means; samples outside the map aside, the same."""
    out = features.new_zeros(len(boxes), features.shape[1], size, size)
    height, width = features.shape[2:]
    steps = (torch.arange(size * sampling, device=boxes.device) + 0.5) / (size * sampling)
    for number in range(len(features)):
        mine = (image == number).nonzero().squeeze(1)
        if not len(mine):
            continue
        box = boxes[mine] * scale
        x = box[:, :1] + steps * (box[:, 2:3] - box[:, :1])  # [K, size * sampling]
        y = box[:, 1:2] + steps * (box[:, 3:] - box[:, 1:2])
        grid = torch.stack(
            [
                (2 * x / width - 1).unsqueeze(1).expand(-1, y.shape[1], -1),
                (2 * y / height - 1).unsqueeze(2).expand(-1, -1, x.shape[1]),
            ],
            -1,
        )
        whole = features[number : number + 1].expand(len(mine), -1, -1, -1)
        sampled = F.grid_sample(whole, grid, padding_mode="border", align_corners=False)
        out[mine] = F.avg_pool2d(sampled, sampling)
    return out


def written_plainly(model: FasterRcnn) -> FasterRcnn:
    """The same weights with PyTorch's own layers, channels first."""
    plain = copy.deepcopy(model)
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, GroupNorm):
                setattr(module, name, _PlainNorm(child))
    return plain.to(memory_format=torch.contiguous_format)


class _PlainNorm(nn.Module):
    def __init__(self, norm: GroupNorm) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm.num_groups, norm.num_channels)
        self.norm.load_state_dict(norm.state_dict())
        self.weight = self.norm.weight

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        y = self.norm(x.contiguous())
        return F.relu(y) if relu else y


class Plain:
    """Within it, both families' parts are the plain ones."""

    def __enter__(self) -> None:
        self.before = proposals.nms_of_pictures, regions.roi_align
        proposals.nms_of_pictures, regions.roi_align = plain_nms, plain_roi_align

    def __exit__(self, *_: object) -> None:
        proposals.nms_of_pictures, regions.roi_align = self.before


def objects_of(batch: int, size: tuple[int, int]) -> Objects:
    """Thirteen boxes a picture, about as large as cells."""
    height, width = size
    low = torch.rand(batch, 13, 2) * torch.tensor([width - 80.0, height - 80.0])
    boxes = torch.cat([low, low + 25 + torch.rand(batch, 13, 2) * 50], -1)
    labels = torch.randint(0, 3, (batch, 13))
    labels[:, -2:] = NOTHING
    return Objects(boxes, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    recipe = load_recipe("detect", "bccd", []).recipe
    torch.manual_seed(0)
    ours = FasterRcnn(recipe.model, 3)
    plain = written_plainly(ours)
    frame = tuple(-(-side // 32) * 32 for side in recipe.image.size)
    images = torch.randint(0, 255, (options.batch, *frame, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    sizes = torch.tensor([recipe.image.size]).expand(options.batch, 2)
    objects = objects_of(options.batch, frame)

    def step(model: FasterRcnn, half: bool) -> float:
        began = time.perf_counter()
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            terms = model.losses(images, sizes, objects)
        counts = model.counts(objects.labels)
        sum(terms[name] / counts[name] for name in terms).backward()
        model.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    def find(model: FasterRcnn, half: bool) -> float:
        began = time.perf_counter()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            model.detect(images[:1], sizes[:1], DetectEvaluate())
        return time.perf_counter() - began

    with torch.no_grad():
        torch.manual_seed(1)
        a = ours.losses(images, sizes, objects)
        torch.manual_seed(1)
        with Plain():
            b = plain.losses(images, sizes, objects)
    for name in a:
        assert abs(float(a[name]) - float(b[name])) < 2e-2 * abs(float(a[name])), (
            name,
            float(a[name]),
            float(b[name]),
        )
    print(f"losses agree: {', '.join(f'{name} {float(a[name]):.4f} {float(b[name]):.4f}' for name in a)}")
    for what, act in (("training step", step), ("detection", find)):
        times: dict[str, list[float]] = {"ours, bf16": [], "ours, float32": [], "plain, float32": []}
        for _ in range(options.rounds + 1):
            times["ours, bf16"].append(act(ours, True))
            times["ours, float32"].append(act(ours, False))
            with Plain():
                times["plain, float32"].append(act(plain, False))
        best = {name: statistics.median(one[1:]) for name, one in times.items()}
        for name, value in best.items():
            print(f"{what}, {name}: {1000 * value:.0f} ms, {best['plain, float32'] / value:.2f} times plain")


if __name__ == "__main__":
    main()
