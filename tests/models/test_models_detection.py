"""Detectors: every option learns in every part, padding changes nothing, assignments by slow formulas."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from attncli.attention import record
from attncli.errors import CheckpointError
from attncli.models.vision.detection.anchors import NONE, assign_atss, assign_iou, make_anchors, on_ignored
from attncli.models.vision.detection.coded import map_code, sine_code
from attncli.models.vision.detection.denoising import noised
from attncli.models.vision.detection.detections import IGNORED, NOTHING, Objects
from attncli.models.vision.detection.detr import Detr, refined
from attncli.models.vision.detection.faster_rcnn import FasterRcnn
from attncli.models.vision.detection.matching import CLASS, OVERLAP, SIDES, match
from attncli.models.vision.detection.proposals import quality_focal
from attncli.models.vision.detection.pyramid import Pyramid
from attncli.models.vision.detection.regions import pooled, relation_code
from attncli.models.vision.detection.resnet import ResNet, load_backbone
from attncli.ops.boxes import cornered, giou, iou
from attncli.ops.nms import nms, nms_of_pictures
from attncli.ops.roi_align import roi_align
from attncli.recipe.detect import DetectEvaluate, DetrModel, FasterRcnnModel

SMALL = {"kind": "resnet10", "width": 16}


def faster_rcnn(seed=0, **sections):
    torch.manual_seed(seed)
    base = {
        "backbone": SMALL,
        "pyramid": {"channels": 32},
        "proposals": {"kept": 12, "before": 40},
        "regions": {"sampled": 16, "width": 32, "bins": 3},
        "attention": {"heads": 4},
    }
    for name, values in sections.items():
        base[name] = base.get(name, {}) | values
    return FasterRcnn(FasterRcnnModel.model_validate(base), 3)


def detr(seed=0, **settings):
    torch.manual_seed(seed)
    base = {"backbone": SMALL, "width": 32, "intermediate": 32, "queries": 9, "decoder": 2, "denoising": 2}
    base |= {"attention": {"heads": 4}} | settings
    return Detr(DetrModel.model_validate(base), 3)


def batch(seed=1, empty=False):
    torch.manual_seed(seed)
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    low = torch.rand(2, 4, 2) * torch.tensor([60.0, 30.0])
    boxes = torch.cat([low, low + 8 + torch.rand(2, 4, 2) * 24], -1)
    labels = torch.tensor([[0, 2, 1, IGNORED], [1, NOTHING, NOTHING, NOTHING]])
    if empty:
        labels[1] = NOTHING
    return images, torch.tensor([[64, 96], [64, 96]]), Objects(boxes, labels)


OPTIONS = [
    {},
    {"backbone": {"attention": "squeeze_excite"}},
    {"backbone": {"attention": "eca", "norm": "batch"}},
    {"backbone": {"attention": "cbam"}, "pyramid": {"highest": 6}},
    {"pyramid": {"fusion": "attention"}},
    {"proposals": {"attention": "global", "ratios": [0.5, 1.0, 2.0]}},
    {"proposals": {"attention": "cbam", "assignment": "iou"}},
    {"regions": {"relation": 2, "score": "class", "convolutions": 1}},
    {"regions": {"relation": 1}, "attention": {"mechanism": "sparsemax", "kv_heads": 2, "qk_norm": True}},
    {"pyramid": {"lowest": 2, "highest": 4}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_learns_everywhere(options):
    model = faster_rcnn(**options)
    images, sizes, objects = batch()
    losses = model.losses(images, sizes, objects)
    counts = model.counts(objects.labels)
    assert losses.keys() == counts.keys()
    sum(losses[name] / counts[name] for name in losses).backward()
    still = [
        name
        for name, p in model.named_parameters()
        if (p.grad is None or not p.grad.abs().sum() > 0) and "relations" not in name and "layer" not in name
    ]
    assert still == []  # a relation begins at zero, as blocks of the backbone do
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    for found in model.detect(images, sizes, DetectEvaluate(least=0.0)):
        assert (found.scores[:-1] >= found.scores[1:]).all()
        assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
        assert (found.boxes <= torch.tensor([96.0, 64.0, 96.0, 64.0])).all()
        assert len(found.boxes) <= 100


@pytest.mark.parametrize(
    "options", [{}, {"sight": "full", "encoder": 2}, {"denoising": 0, "encoder": 0, "highest": 6}], ids=str
)
def test_detr_learns_everywhere(options):
    model = detr(**options)
    images, sizes, objects = batch()
    losses = model.losses(images, sizes, objects)
    counts = model.counts(objects.labels)
    assert losses.keys() == counts.keys()
    sum(losses[name] / counts[name] for name in losses).backward()
    learnt = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learnt)
    model.eval()
    for found in model.detect(images, sizes, DetectEvaluate(least=0.0, suppression=1.0)):
        assert len(found.scores) == min(100, 9 * 3)
        assert (found.source < 9).all()


@pytest.mark.parametrize("make", [faster_rcnn, detr])
def test_pictures_without_objects(make):
    """Alone, or in a batch whose boxes are all padding or ignored: finite losses with a graph."""
    model = make()
    images, sizes, objects = batch(empty=True)
    none = Objects(objects.boxes, torch.full_like(objects.labels, NOTHING))
    shunned = Objects(objects.boxes, torch.full_like(objects.labels, IGNORED))
    bare = Objects(objects.boxes[:, :0], objects.labels[:, :0])
    for one in (objects, none, shunned, bare):
        losses = model.losses(images, sizes, one)
        assert all(loss.isfinite() and loss.requires_grad for loss in losses.values())
        assert all(count > 0 for count in model.counts(one.labels).values())


def test_losses_do_not_depend_on_how_a_batch_is_cut():
    """What the loop relies on: sums over the parts are the sum over the whole. Sampling takes everything."""
    model = faster_rcnn(regions={"sampled": 64})
    images, sizes, objects = batch()
    whole = model.losses(images, sizes, objects)
    parts = [
        model.losses(
            images[at : at + 1],
            sizes[at : at + 1],
            Objects(objects.boxes[at : at + 1], objects.labels[at : at + 1]),
        )
        for at in range(2)
    ]
    for name, value in whole.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-3)


@pytest.mark.parametrize("make", [faster_rcnn, detr])
def test_padding_of_a_batch_changes_little(make):
    """A picture in a larger frame is found as alone: padding is outside what convolutions near it see."""
    model = make().eval()
    images, _, _ = batch()
    alone = model.detect(images[:1], torch.tensor([[64, 96]]), DetectEvaluate(least=0.0))[0]
    wide = torch.full((1, 3, 128, 96), 114, dtype=torch.uint8)
    wide[:, :, :64] = images[:1]
    padded = model.detect(wide, torch.tensor([[64, 96]]), DetectEvaluate(least=0.0))[0]
    assert (padded.boxes[:, 3] <= 64).all()
    assert len(alone.boxes)
    assert len(padded.boxes)


def test_maps_of_a_pyramid():
    backbone = ResNet("resnet10", width=16)
    for fusion in ("plain", "attention"):
        pyramid = Pyramid(backbone.channels, 32, 2, 6, fusion)
        with record(pyramid) as seen:
            maps = pyramid(backbone(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)))
        assert {level: tuple(x.shape[1:]) for level, x in maps.items()} == {
            2: (32, 16, 24), 3: (32, 8, 12), 4: (32, 4, 6), 5: (32, 2, 3), 6: (32, 1, 2),
        }  # fmt: skip
    assert [weights.shape for _, weights in seen.weights] == [
        (1, 4, places, 4) for places in (16 * 24, 8 * 12, 4 * 6, 2 * 3)
    ]
    assert all(torch.allclose(w.sum(-1), torch.ones(())) for _, w in seen.weights)


# The backbone's weights


def timm_names(tensors):
    """transformers' names of a ResNet as timm's, which are those of the first PyTorch implementation."""
    found = {}
    for name, value in tensors.items():
        name = name.replace("embedder.embedder.convolution", "conv1").replace("embedder.embedder", "bn1")
        parts = name.split(".")
        if parts[0] == "encoder":
            stage, block, rest = int(parts[2]) + 1, parts[4], parts[5:]
            if rest[0] == "shortcut":
                head = ["downsample", "0" if rest[1] == "convolution" else "1"]
                rest = rest[2:]
            else:
                head = [f"{'conv' if rest[2] == 'convolution' else 'bn'}{int(rest[1]) + 1}"]
                rest = rest[3:]
            parts = [f"layer{stage}", block, *head, *rest]
        elif parts[1] == "normalization":
            parts = [parts[0], *parts[2:]]
        found[".".join(parts)] = value
    return found


@pytest.mark.parametrize(("kind", "layer"), [("resnet18", "basic"), ("resnet50", "bottleneck")])
def test_weights_under_timms_names_load_and_give_the_same_maps(tmp_path, kind, layer):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    wide = [64, 128, 256, 512] if layer == "basic" else [256, 512, 1024, 2048]
    depths = [2, 2, 2, 2] if layer == "basic" else [3, 4, 6, 3]
    config = transformers.ResNetConfig(layer_type=layer, depths=depths, hidden_sizes=wide)
    theirs = transformers.ResNetModel(config).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    tensors = {name: value.contiguous() for name, value in timm_names(theirs.state_dict()).items()}
    tensors["fc.weight"] = torch.zeros(10, wide[-1])  # a classifier is passed over
    save_file(tensors, tmp_path / "model.safetensors")
    ours = ResNet(kind, norm="batch").eval()
    assert load_backbone(ours, tmp_path / "model.safetensors") == len(tensors) - 1
    images = torch.randint(0, 255, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        wanted = theirs(images.float() / 255 / 0.5 - 1, output_hidden_states=True).hidden_states[1:]
        found = list(ours(images).values())
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-3 * float(b.abs().max()))


def test_weights_of_another_backbone_are_named(tmp_path):
    save_file(ResNet("resnet18", width=16).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError) as told:
        load_backbone(ResNet("resnet10", width=32), tmp_path / "other.safetensors")
    assert "conv1.weight is [16, 3, 7, 7], and the model's [32, 3, 7, 7]" in str(told.value)
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    for name in ("bad", "none"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_backbone(ResNet("resnet10"), tmp_path / f"{name}.safetensors")


def test_group_norm_knows_no_batch():
    model = ResNet("resnet10", width=16).eval()
    images, _, _ = batch()
    together = model(images)
    alone = model(images[1:])
    assert all(torch.allclose(together[level][1:], alone[level], atol=1e-4) for level in alone)


# Anchors and their objects


def test_anchors_stand_at_the_middles_of_cells():
    anchors, counts = make_anchors({3: (2, 3), 4: (1, 2)}, 4.0, [1.0, 2.0], torch.device("cpu"))
    assert counts == [12, 4]
    assert anchors[0].tolist() == [4 - 16, 4 - 16, 4 + 16, 4 + 16]
    sides = anchors[:, 2:] - anchors[:, :2]
    assert torch.allclose(sides.prod(1).sqrt(), torch.tensor([32.0] * 12 + [64.0] * 4))
    assert sides[1, 1] / sides[1, 0] == pytest.approx(2.0)


def slow_atss(anchors, counts, boxes, nearest=9):
    """Algorithm 1 of the paper, object by object, in float64."""
    middle = lambda b: ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2)  # noqa: E731
    share = lambda a, b: float(iou(torch.tensor(a).double(), torch.tensor(b).double()))  # noqa: E731
    best = {}
    for m, box in enumerate(boxes):
        candidates, start = [], 0
        for count in counts:
            near = sorted(
                range(start, start + count),
                key=lambda a: sum((p - q) ** 2 for p, q in zip(middle(anchors[a]), middle(box), strict=True)),
            )
            candidates += near[:nearest]
            start += count
        shares = [share(anchors[a], box) for a in candidates]
        least = np.mean(shares) + np.std(shares)
        for a, value in zip(candidates, shares, strict=True):
            x, y = middle(anchors[a])
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            good = (value >= least - 1e-6 and inside) or value == max(shares) > 0
            if good and value > best.get(a, (-1.0, 0))[0]:
                best[a] = (value, m)
    return [best[a][1] if a in best else NONE for a in range(len(anchors))]


def test_atss_is_the_papers_algorithm():
    anchors, counts = make_anchors({3: (6, 7), 4: (3, 4), 5: (2, 2)}, 4.0, [1.0], torch.device("cpu"))
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 40, (3, 5, 2)) + rng.uniform(0, 0.01, (3, 5, 2))
    boxes = torch.from_numpy(np.concatenate([low, low + rng.uniform(4, 50, (3, 5, 2))], -1)).float()
    there = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    found = assign_atss(anchors, counts, boxes, there)
    for one, box, known in zip(found, boxes, there, strict=True):
        mine = known.nonzero().flatten().tolist()
        wanted = slow_atss(anchors.tolist(), counts, box[known].tolist())
        assert one.tolist() == [NONE if at == NONE else mine[at] for at in wanted]
    for number in range(5):
        assert (found[0] == number).any()  # every object is found by some anchor


def test_iou_assignment():
    anchors = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [50, 50, 60, 60.0]])
    boxes = torch.tensor([[[0, 0, 10, 10], [50, 50, 60, 78], [0, 0, 0, 0.0]]])
    which, judged = assign_iou(anchors, boxes, torch.tensor([[True, True, False]]))
    assert which.tolist() == [[0, 0, NONE, 1]]  # the last by 0.36 only, but no anchor has more
    assert judged.tolist() == [[True, True, False, True]]


def test_ignored_regions():
    boxes = torch.tensor([[[0, 0, 10, 10], [0, 0, 40, 40], [60, 0, 70, 10.0]]])
    shunned = torch.tensor([[[0, 0, 20, 20], [60, 0, 80, 20.0]]])
    assert on_ignored(boxes, shunned, torch.tensor([[True, False]])).tolist() == [[True, False, False]]


def test_suppression_of_many_pictures_is_that_of_each():
    torch.manual_seed(0)
    low = torch.rand(3, 80, 2) * 40
    boxes = torch.cat([low, low + 5 + torch.rand(3, 80, 2) * 20], -1)
    valid = torch.rand(3, 80) > 0.2
    found = nms_of_pictures(boxes, valid, 0.5)
    for box, known, kept in zip(boxes, valid, found, strict=True):
        mine = known.nonzero().flatten()
        wanted = nms(box[mine], torch.arange(len(mine), 0, -1).float(), 0.5)
        assert kept.nonzero().flatten().tolist() == sorted(mine[wanted].tolist())


def test_a_region_is_sampled_from_the_map_that_suits_it():
    torch.manual_seed(0)
    maps = {3: torch.randn(2, 4, 40, 40), 4: torch.randn(2, 4, 20, 20), 5: torch.randn(2, 4, 10, 10)}
    boxes = torch.tensor([[[10, 10, 70, 70], [0, 0, 150, 130], [4, 4, 300, 310], [5, 5, 9, 9.0]]]).expand(
        2, -1, -1
    )
    found = pooled(maps, boxes, 3)
    for at, level in enumerate((3, 4, 5, 3)):
        wanted = roi_align(maps[level], boxes[1, at : at + 1], torch.tensor([1]), size=3, scale=2.0**-level)
        assert torch.allclose(found[4 + at], wanted[0], atol=1e-5)


def test_quality_focal_loss_by_hand():
    logits, quality = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0])
    share = 1 / (1 + np.exp(-2.0))
    wanted = [0.25 * np.log(2), share**2 * -np.log(1 - share)]
    assert quality_focal(logits, quality).tolist() == pytest.approx(wanted, rel=1e-5)


def test_sampling_takes_objects_and_nothing():
    model = faster_rcnn(regions={"sampled": 16, "positive": 0.25})
    images, sizes, objects = batch()
    _, proposals = model.propose(images, sizes)
    boxes, labels, targets, there = model.regions.sample(proposals, objects)
    assert boxes.shape == (2, 16, 4)
    good = (labels < 3) & there
    assert 1 <= int(good[1].sum()) <= 4
    assert 3 <= int(good[0].sum()) <= 4
    assert (iou(boxes, targets)[good] >= 0.5).all()
    assert not on_ignored(boxes, objects.boxes, objects.ignored)[there & ~good].any()


def test_relation_begins_as_nothing_and_sees_no_padding():
    model = faster_rcnn(regions={"relation": 1}).eval()
    images, sizes, _ = batch()
    maps, proposals = model.propose(images, sizes)
    head = model.regions
    torch.nn.init.normal_(head.relations[0].attend.out.weight)
    there = torch.ones(2, proposals.boxes.shape[1], dtype=torch.bool)
    there[:, -3:] = False
    with record(model) as seen:
        logits, _ = head(maps, proposals.boxes, there)
    ((name, weights),) = seen.weights
    assert name == "regions.relations.0.attend"
    assert weights[..., -3:].abs().max() == 0
    moved = proposals.boxes.clone()
    moved[:, -3:] += 5
    assert torch.allclose(head(maps, moved, there)[0][:, :-3], logits[:, :-3], atol=1e-5)
    order = torch.randperm(there.shape[1] - 3)
    turned = proposals.boxes.clone()
    turned[:, : len(order)] = proposals.boxes[:, order]
    again = head(maps, turned, there)[0]
    assert torch.allclose(again[:, : len(order)], logits[:, order], atol=1e-4)  # a set has no order


def test_relation_code_knows_no_place_and_no_scale():
    boxes = torch.tensor([[[0, 0, 10, 20], [30, 5, 60, 45.0]]])
    code = relation_code(boxes)
    assert code.shape == (1, 2, 2, 64)
    assert torch.allclose(relation_code(boxes * 3 + 17), code, atol=1e-4)
    assert not torch.allclose(code[0, 0, 1], code[0, 1, 0])


# Set prediction


def test_matching_is_the_cheapest_of_all():
    torch.manual_seed(0)
    logits, boxes = torch.randn(1, 5, 3), torch.rand(1, 5, 4) * 0.3 + 0.3
    labels, targets = torch.tensor([[2, -1, 0, 1]]), torch.rand(1, 4, 4) * 0.3 + 0.3
    picture, query, which = match(logits, boxes, labels, targets)
    assert sorted(which.tolist()) == [0, 2, 3]
    assert picture.tolist() == [0, 0, 0]

    def cost(q, m):
        p = logits[0, q, labels[0, m]].sigmoid()
        kind = 0.25 * (1 - p) ** 2 * -p.log() - 0.75 * p**2 * -(1 - p).log()
        sides = (boxes[0, q] - targets[0, m]).abs().sum()
        return float(
            CLASS * kind + SIDES * sides - OVERLAP * giou(cornered(boxes[0, q]), cornered(targets[0, m]))
        )

    ours = sum(cost(q, m) for q, m in zip(query.tolist(), which.tolist(), strict=True))
    best = min(
        sum(cost(q, m) for q, m in zip(p, (0, 2, 3), strict=True))
        for p in itertools.permutations(range(5), 3)
    )
    assert ours == pytest.approx(best, abs=1e-4)


def test_noised_queries_tell_the_others_nothing():
    labels = torch.tensor([[1, 2, -1], [0, -1, -1]])
    boxes = torch.rand(2, 3, 4) * 0.4 + 0.2
    made = noised(labels, boxes, 2, 3, 4)
    assert made.labels.shape == (2, 12)
    allowed = made.allowed
    assert not allowed[:, 12:, :12].any()  # matched queries see none of them
    assert allowed[:, 12:, 12:].all()
    assert not allowed[:, :6, 6:12].any()  # nor does one group see the other
    assert not allowed[1, :, 1:3].any()  # nobody sees padding
    picture, query, which = made.pairs
    assert sorted(zip(picture.tolist(), query.tolist(), which.tolist(), strict=True)) == [
        (0, 0, 0), (0, 1, 1), (0, 6, 0), (0, 7, 1), (1, 0, 0), (1, 6, 0),
    ]  # fmt: skip
    close = iou(cornered(made.boxes[picture, query]), cornered(boxes[picture, which]))
    far = iou(cornered(made.boxes[picture, query + 3]), cornered(boxes[picture, which]))
    assert close.mean() > far.mean()


def test_denoising_does_not_change_what_is_found():
    """The queries of a step with noised ones beside them are those without."""
    model = detr().eval()
    images, sizes, objects = batch()
    scene = model.scene(images, sizes)
    plain, none = model(scene)
    labels, boxes = objects.labels, torch.rand(2, 4, 4) * 0.4 + 0.2
    beside, made = model(scene, (labels, boxes))
    assert none is None
    count = made.labels.shape[1]
    for (a, b), (c, d) in zip(plain[1:], beside[1:], strict=True):
        assert torch.allclose(a, c[:, count:], atol=1e-4)
        assert torch.allclose(b, d[:, count:], atol=1e-4)


def test_boxes_are_refined_in_logits():
    reference = torch.rand(3, 4) * 0.8 + 0.1
    assert torch.allclose(refined(torch.zeros(3, 4), reference), reference, atol=1e-6)
    assert (refined(torch.full((3, 4), 50.0), reference) <= 1).all()


def test_codes_of_places():
    code = map_code(3, 5, 32, torch.device("cpu"))
    assert code.shape == (15, 32)
    assert torch.pdist(code).min() > 0.1
    assert sine_code(torch.rand(2, 4), 30).shape == (2, 30)


@pytest.mark.parametrize("make", [faster_rcnn, detr])
def test_half_width_and_memory_format(make):
    model = make()
    images, sizes, objects = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(images.contiguous(memory_format=torch.channels_last), sizes, objects)
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    weights = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size[0] > 1]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
