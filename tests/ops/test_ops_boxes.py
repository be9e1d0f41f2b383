"""Boxes, suppression and RoIAlign against slow float64 formulas; torchvision where it is installed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.ops import boxes as ops
from attncli.ops.nms import nms
from attncli.ops.roi_align import roi_align


def random_boxes(count, seed, size=100.0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, size, (count, 2))
    return torch.from_numpy(np.concatenate([low, low + rng.uniform(0.5, size / 2, (count, 2))], 1)).to(dtype)


def slow_iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union


def slow_giou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union - (hull - union) / hull


def slow_ciou(a, b):
    overlap = slow_iou(a, b)
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    turn = math.atan((b[2] - b[0]) / (b[3] - b[1])) - math.atan((a[2] - a[0]) / (a[3] - a[1]))
    shape = 4 / math.pi**2 * turn**2
    return overlap - apart / diagonal - shape**2 / (1 - overlap + shape)


@pytest.mark.parametrize(
    ("fast", "slow"), [(ops.iou, slow_iou), (ops.giou, slow_giou), (ops.ciou, slow_ciou)]
)
def test_overlaps_are_the_published_formulas(fast, slow):
    a, b = random_boxes(40, 1), random_boxes(40, 2)
    b[:10] = a[:10] + 1.5  # some that surely overlap
    found = fast(a.unsqueeze(1), b.unsqueeze(0))
    wanted = torch.tensor([[slow(x, y) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)
    assert torch.allclose(found, wanted, atol=1e-9)


def test_published_values_of_giou():
    """The two cases of torchvision's documentation and tests, to their digits."""
    a = torch.tensor([[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 50.0, 50.0], [200.0, 200.0, 300.0, 300.0]])
    b = torch.tensor([[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 50.0, 50.0], [200.0, 200.0, 300.0, 300.0]])
    wanted = [[1.0, 0.25, -0.7778], [0.25, 1.0, -0.8611], [-0.7778, -0.8611, 1.0]]
    assert torch.allclose(ops.giou(a[:, None], b[None]), torch.tensor(wanted), atol=1e-4)
    assert torch.allclose(ops.pairwise_iou(a, b)[0], torch.tensor([1.0, 0.25, 0.0]))


def test_overlaps_have_gradients_that_pull_boxes_together():
    target = torch.tensor([[20.0, 20.0, 40.0, 40.0]])
    for score in (ops.giou, ops.ciou):
        box = torch.tensor([[60.0, 60.0, 70.0, 70.0]], requires_grad=True)
        for _ in range(600):
            (grad,) = torch.autograd.grad((1 - score(box, target)).sum(), box)
            assert grad.isfinite().all()
            box = (box - 0.3 * grad / grad.norm()).detach().requires_grad_()
        assert ops.iou(box, target) > 0.9


def test_boxes_without_area_overlap_nothing_and_have_finite_gradients():
    flat = torch.tensor([[5.0, 5.0, 5.0, 9.0]], requires_grad=True)
    for score in (ops.iou, ops.giou, ops.ciou):
        value = score(flat, torch.tensor([[5.0, 5.0, 5.0, 9.0]]))
        assert value.isfinite().all()
        (grad,) = torch.autograd.grad(value.sum(), flat)
        assert grad.isfinite().all()
    assert ops.area(torch.tensor([3.0, 3.0, 1.0, 9.0])) == 0


def test_inside_and_clip():
    a = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    assert ops.pairwise_inside(a, torch.tensor([[5.0, 0.0, 50.0, 50.0]]))[0, 0] == 0.5
    boxes = torch.tensor([[-5.0, 2.0, 30.0, 40.0], [1.0, 1.0, 2.0, 2.0]])
    assert ops.clip(boxes, (20, 25)).tolist() == [[0, 2, 25, 20], [1, 1, 2, 2]]
    each = ops.clip(boxes, torch.tensor([[20, 25], [1, 1]]))
    assert each.tolist() == [[0, 2, 25, 20], [1, 1, 1, 1]]


@given(st.integers(0, 2**31), st.sampled_from([(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]))
@settings(max_examples=25, deadline=None)
def test_coding_is_undone(seed, weights):
    boxes, references = random_boxes(8, seed), random_boxes(8, seed + 1)
    back = ops.decode(ops.encode(boxes, references, weights), references, weights, longest=9.0)
    assert torch.allclose(back, boxes, atol=1e-9)
    assert torch.allclose(ops.cornered(ops.centred(boxes)), boxes)


def test_coding_has_the_published_values():
    """dx = (x - xa) / wa, dw = log(w / wa): by hand; scales are cut at log(1000 / 16)."""
    reference = torch.tensor([[10.0, 10.0, 30.0, 50.0]])
    box = torch.tensor([[15.0, 10.0, 55.0, 30.0]])
    wanted = torch.tensor([[15 / 20, -10 / 40, math.log(2), math.log(0.5)]])
    assert torch.allclose(ops.encode(box, reference), wanted)
    assert torch.allclose(ops.encode(box, reference, (10, 10, 5, 5)), wanted * torch.tensor([10, 10, 5, 5]))
    wild = ops.decode(torch.tensor([[0.0, 0.0, 99.0, 0.0]]), reference)
    assert math.isclose(float(wild[0, 2] - wild[0, 0]), 20 * 1000 / 16, rel_tol=1e-5)


# Suppression


def slow_nms(boxes, scores, threshold, groups):
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if all(groups[i] != groups[j] or slow_iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


@given(st.integers(0, 2**31), st.integers(0, 90), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_suppression_is_the_greedy_one(seed, count, threshold, groups):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 9, (count, 2))], 1).astype(float)
    scores = np.round(rng.uniform(size=count), 1)  # many are equal
    group = rng.integers(0, groups, count)
    found = nms(torch.from_numpy(boxes).float(), torch.from_numpy(scores), threshold, torch.from_numpy(group))
    assert found.tolist() == slow_nms(boxes.tolist(), scores.tolist(), threshold, group.tolist())


def test_suppression_over_many_blocks_and_a_long_chain():
    boxes = random_boxes(900, 3, size=60.0)
    chain = torch.arange(700, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0, 1, 0]) + torch.tensor(
        [0.0, 200, 4, 210]
    )
    boxes = torch.cat([boxes, chain])
    scores = torch.from_numpy(np.random.default_rng(4).uniform(size=900))
    scores = torch.cat([scores, torch.linspace(1, 0, 700, dtype=torch.float64)])
    wanted = slow_nms(boxes.tolist(), scores.tolist(), 0.5, [0] * 1600)
    assert nms(boxes, scores, 0.5).tolist() == wanted
    assert nms(boxes, scores, 0.5, most=50).tolist() == wanted[:50]


def test_suppression_of_nothing():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    assert nms(torch.zeros(1, 4), torch.zeros(1), 0.5).tolist() == [0]


# RoIAlign


def bilinear(plane, y, x):
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    y0, x0 = int(y), int(x)
    if y0 >= height - 1:
        y0 = y1 = height - 1
        y = float(y0)
    else:
        y1 = y0 + 1
    if x0 >= width - 1:
        x0 = x1 = width - 1
        x = float(x0)
    else:
        x1 = x0 + 1
    ly, lx = y - y0, x - x0
    top = plane[y0, x0] * (1 - lx) + plane[y0, x1] * lx
    return top * (1 - ly) + (plane[y1, x0] * (1 - lx) + plane[y1, x1] * lx) * ly


def slow_roi_align(features, boxes, image, size, scale, sampling, aligned):
    rows, columns = size
    out = np.zeros((len(boxes), features.shape[1], rows, columns))
    shift = 0.5 if aligned else 0.0
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        left, top = x0 * scale - shift, y0 * scale - shift
        w, h = x1 * scale - shift - left, y1 * scale - shift - top
        if not aligned:
            w, h = max(w, 1.0), max(h, 1.0)
        ny = sampling or math.ceil(h / rows)
        nx = sampling or math.ceil(w / columns)
        for c in range(features.shape[1]):
            for p in range(rows):
                for q in range(columns):
                    total = 0.0
                    for i in range(ny):
                        for j in range(nx):
                            y = top + (p + (i + 0.5) / ny) * h / rows
                            x = left + (q + (j + 0.5) / nx) * w / columns
                            total += bilinear(features[image[k], c], y, x)
                    out[k, c, p, q] = total / max(ny * nx, 1)
    return out


CASES = [
    ((2, 2), 0.5, 2, True),
    ((2, 2), 0.5, 2, False),
    ((3, 2), 0.25, 0, True),
    ((3, 2), 0.25, 0, False),
    ((7, 7), 1.0, 1, True),
    ((1, 1), 1.0, 0, True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_roi_align_is_the_formula(case):
    size, scale, sampling, aligned = case
    rng = np.random.default_rng(5)
    features = rng.normal(size=(2, 2, 9, 13))
    extent = np.array([13, 9, 13, 9]) / scale
    boxes = np.sort(rng.uniform(-0.3, 1.3, (10, 2, 2)), 1).reshape(10, 4) * extent
    boxes[0] = [3, 3, 3, 3]  # without an inside
    boxes[1] = [-40, -40, -30, -30]  # far outside
    boxes[2] = [0, 0, *extent[2:]]
    image = rng.integers(0, 2, 10)
    wanted = slow_roi_align(features, boxes, image, size, scale, sampling, aligned)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = roi_align(
            torch.from_numpy(features).contiguous(memory_format=layout),
            torch.from_numpy(boxes),
            torch.from_numpy(image),
            size=size,
            scale=scale,
            sampling=sampling,
            aligned=aligned,
        )
        assert np.abs(found.numpy() - wanted).max() < 1e-5


def test_roi_align_of_a_published_case():
    """The map 0 ... 99 as 10 x 10, one box of 5 x 5: bins of a linear map are its values at their centres."""
    features = torch.arange(100, dtype=torch.float64).view(1, 1, 10, 10)
    box = torch.tensor([[0.0, 0.0, 5.0, 5.0]])
    where = torch.zeros(1, dtype=torch.long)
    plain = roi_align(features, box, where, size=5, sampling=2, aligned=False)
    centre = torch.arange(5, dtype=torch.float64) + 0.5
    assert torch.allclose(plain[0, 0], centre[:, None] * 10 + centre)
    true = roi_align(features, box + 1, where, size=5, sampling=2, aligned=True)
    assert torch.allclose(true[0, 0], (centre[:, None] + 0.5) * 10 + centre + 0.5)


def test_roi_align_gradient():
    torch.manual_seed(0)
    features = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    boxes = random_boxes(4, 6, size=5.0)
    image = torch.tensor([0, 1, 1, 0])
    for sampling in (0, 2):
        assert torch.autograd.gradcheck(
            lambda f, s=sampling: roi_align(f, boxes, image, size=2, sampling=s), (features,)
        )


def test_roi_align_in_turns_and_in_half_width(monkeypatch):
    import attncli.ops.roi_align as module

    torch.manual_seed(0)
    features = torch.randn(1, 8, 20, 20)
    boxes, image = random_boxes(30, 7, size=20.0, dtype=torch.float32), torch.zeros(30, dtype=torch.long)
    whole = roi_align(features, boxes, image, size=3)
    half = roi_align(features.bfloat16(), boxes, image, size=3)
    assert half.dtype == torch.bfloat16
    assert (half.float() - whole).abs().max() < 0.05
    monkeypatch.setattr(module, "_ENTRIES", 400)
    assert torch.equal(roi_align(features, boxes, image, size=3), whole)
    assert roi_align(features, boxes[:0], image[:0], size=3).shape == (0, 8, 3, 3)


def test_as_torchvision():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    features = torch.randn(2, 8, 20, 30)
    boxes, image = random_boxes(50, 8, size=80.0, dtype=torch.float32), torch.randint(0, 2, (50,))
    rois = torch.cat([image[:, None].float(), boxes], 1)
    for aligned in (True, False):
        for sampling in (0, 2):
            theirs = torchvision.ops.roi_align(features, rois, 7, 0.25, sampling or -1, aligned)
            ours = roi_align(features, boxes, image, size=7, scale=0.25, sampling=sampling, aligned=aligned)
            assert torch.allclose(ours, theirs, atol=1e-5)
    scores = torch.rand(50)
    assert torch.equal(nms(boxes, scores, 0.3), torchvision.ops.nms(boxes, scores, 0.3))
