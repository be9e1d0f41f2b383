"""Losses of labelled examples, mixed ones too, against their formulas; the image task's own parts."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attncli.data.images.format import PictureFormat
from attncli.data.labels import Labels
from attncli.errors import RecipeError
from attncli.models.vision.vit import VitModel
from attncli.models.vision.vit_config import resolve_vit
from attncli.recipe.image import ImageModel, ImageRecipe
from attncli.tasks.image_classify import ImageClassifyTask
from attncli.tasks.label_losses import label_count, label_losses
from attncli.tasks.label_metrics import reported


def soft(labels, other, share, smoothing, count):
    """Targets [B, L] of mixed and smoothed labels."""
    mixed = share[:, None] * F.one_hot(labels, count) + (1 - share)[:, None] * F.one_hot(other, count)
    return (1 - smoothing) * mixed + smoothing / count


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_labels_are_soft_targets(smoothing):
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64).float()
    labels, other = torch.randint(0, 4, (2, 6))
    share = torch.rand(6)
    found = label_losses(logits, labels, "single", smoothing=smoothing, other=other, share=share)
    targets = soft(labels, other, share, smoothing, 4)
    expected = -(targets * logits.log_softmax(-1)).sum()
    assert torch.allclose(found, expected, atol=1e-5)
    assert label_count(labels, "single", other=other, share=share) == 6


def test_mixed_labels_weigh_as_their_shares():
    labels, other, share = torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([0.25, 0.5])
    weights = torch.tensor([3.0, 1.0])
    assert label_count(labels, "single", weights, other=other, share=share) == pytest.approx(
        0.25 * 3 + 0.75 * 1 + 1
    )
    logits = torch.tensor([[0.3, -0.2], [1.0, 0.5]])
    lost = -logits.log_softmax(-1)
    expected = 0.25 * 3 * lost[0, 0] + 0.75 * lost[0, 1] + lost[1, 1]
    found = label_losses(logits, labels, "single", weights=weights, other=other, share=share)
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_a_share_of_one_mixes_nothing(kind):
    torch.manual_seed(0)
    logits = torch.randn(5, 1 if kind == "regression" else 3)
    labels, other = {
        "single": torch.randint(0, 3, (2, 5)),
        "multi": torch.randint(0, 2, (2, 5, 3)),
        "regression": torch.randn(2, 5),
    }[kind]
    one = torch.ones(5)
    assert torch.allclose(
        label_losses(logits, labels, kind, other=other, share=one), label_losses(logits, labels, kind)
    )
    assert torch.allclose(
        label_losses(logits, labels, kind, other=other, share=0 * one), label_losses(logits, other, kind)
    )


def task(train=None, **evaluate):
    form = PictureFormat(8, 8, 3, "crop", (0.5,) * 3, (0.25,) * 3)
    recipe = ImageRecipe(evaluate=evaluate, train=train or {})
    torch.manual_seed(0)
    model = VitModel(
        resolve_vit(ImageModel(patch=2, size="lite2"), image=(8, 8), channels=3, labels=3)
    ).eval()
    return ImageClassifyTask(recipe, Labels("single", ["a", "b", "c"]), form, None, model)


@pytest.mark.parametrize("goal", ["top5_accuracy", "spearman"])
def test_a_goal_that_is_not_measured_is_refused(goal):
    with pytest.raises(RecipeError, match="not measured by it"):
        task(train={"goal": goal})
    assert task(train={"goal": "f1"}).goal.metric == "f1_macro"
    assert reported("single", 6)[1] == "top5_accuracy"


def test_a_mirrored_picture_gets_the_same_answer_with_flip():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    plain, both = task(), task(flip=True)
    with torch.no_grad():
        one, other = plain.predict({"images": images}), plain.predict({"images": images.flip(-1)})
        assert not torch.allclose(one, other, atol=1e-4)
        assert torch.allclose(both.predict({"images": images}), (one + other) / 2, atol=1e-5)


def test_pictures_are_normalised_once():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    (found,) = task().inputs({"images": images}).values()
    assert torch.allclose(found, (images.float() / 255 - 0.5) / 0.25, atol=1e-5)


def test_unreadable_files_leave_their_places(tmp_path):
    from PIL import Image

    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths[::2]:
        Image.fromarray(np.full((10, 20, 3), 90, np.uint8)).save(path)
    paths[1].write_bytes(b"nothing")
    examples, wrong = task().read(paths)
    assert examples.places == [str(paths[0]), str(paths[2])]
    assert list(wrong) == [1]
    assert task().apply(examples).shape == (2, 3)
    nothing, wrong = task().read(paths[1:2])
    assert task().apply(nothing).shape == (0, 3)
    assert list(wrong) == [0]
