"""The task of segmentation: windows, mirror images, measuring over processes, pictures of other sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attncli.recipe.loading import load_recipe
from attncli.tasks.segment import SegmentTask
from attncli.tasks.segment_use import look, segment, working_size
from attncli.tasks.segmenting import class_logits, fill, starts

SMALL = ["model.width=8", "model.levels=3", "model.widest=16", "data.memory=0"]


def write(root, size=(16, 20), **counts):
    rng = np.random.default_rng(0)
    for part, count in counts.items():
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
            Image.fromarray(image).save(root / part / "images" / f"{number}.png")
            Image.fromarray((image[..., 0] // 86).astype(np.uint8)).save(
                root / part / "masks" / f"{number}.png"
            )
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))


def build(root, *settings):
    task = SegmentTask.build(load_recipe("segment", "unet", [*SMALL, *settings], str(root)).recipe)
    task.model.eval()
    return task


def by_pixel(images):
    """Logits that only a pixel itself decides."""
    return torch.stack([images[:, 0], images[:, 1] * 0.5, -images[:, 2]], 1) / 50


@pytest.mark.parametrize("size", [(8, 8), (8, 30), (21, 9), (5, 6), (40, 41)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_windows_of_a_model_without_surroundings_change_nothing(size, overlap):
    torch.manual_seed(0)
    images = torch.rand(2, 3, *size) * 255
    found = class_logits(by_pixel, images, size=(8, 8), windows=True, overlap=overlap, batch=3)
    torch.testing.assert_close(found.softmax(1), by_pixel(images).softmax(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("windows", [False, True])
def test_mirror_images_make_the_answer_symmetric(windows):
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
    images = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        one, other = (
            class_logits(convolution, x, size=(12, 12), windows=windows, flip=True)
            for x in (images, images.flip(3))
        )
    torch.testing.assert_close(one, other.flip(3), atol=1e-5, rtol=1e-4)


@given(st.integers(1, 200), st.integers(1, 60), st.floats(0, 0.95))
def test_windows_cover_everything_and_share_what_was_asked(length, window, overlap):
    found = starts(length, window, overlap)
    assert found[0] == 0
    if length > window:
        assert found[-1] + window == length
        steps = np.diff(found)
        assert (steps >= 1).all()
        assert (steps <= max(1, int(window * (1 - overlap)))).all()


def test_small_pictures_are_filled_by_their_rim():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert fill(x, (4, 4))[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]


class Half:
    """One of two processes; :meth:`sum` first collects, then gives the total."""

    def __init__(self, rank, totals):
        self.rank, self.totals, self.collected = rank, totals, None

    def mine(self, items):
        return (item for number, item in enumerate(items) if number % 2 == self.rank)

    def sum(self, totals):
        self.collected = totals
        return totals if self.totals is None else self.totals


@pytest.mark.parametrize("settings", [[], ["train.loss.lovasz=0.5", "train.loss.class_weights=balanced"]])
def test_two_processes_measure_what_one_does(tmp_path, settings):
    task = build(write(tmp_path, train=3, val=5), "evaluate.batch=2", *settings)
    with torch.no_grad():
        whole, outcome = task._measure(task.sets.validation, None)
        halves = [Half(rank, None) for rank in range(2)]
        for half in halves:
            task.evaluate(half)
        keys = halves[0].collected
        assert keys.keys() == halves[1].collected.keys()
        totals = {key: sum(half.collected[key] for half in halves) for key in keys}
        both = task.evaluate(Half(0, totals))
    assert both == pytest.approx(whole)
    assert outcome.matrix.sum() == 5 * 16 * 20
    assert len(outcome.examples) == 5


def test_a_process_without_a_picture_adds_nothing(tmp_path):
    task = build(write(tmp_path, train=3, val=1))
    with torch.no_grad():
        half = Half(1, None)
        task.evaluate(half)
    assert sum(half.collected.values()) == 0


def test_fresh_outputs_know_how_frequent_classes_are(tmp_path):
    task = build(write(tmp_path, train=6, val=2))
    shares = task.model.output.bias.detach().softmax(0).numpy()
    counts = task.sets.counts.sum(0)
    np.testing.assert_allclose(shares, counts / counts.sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "shape", "size"),
    [
        ([], (33, 50), (33, 50)),
        (["image.size=[16,20]"], (33, 50), (16, 20)),
        (["image.size=[16,20]", "image.fit=crop"], (32, 80), (16, 40)),
        (["image.size=[16,20]", "image.fit=pad"], (32, 80), (8, 20)),
    ],
)
def test_pictures_are_brought_near_the_size_of_training_and_back(tmp_path, settings, shape, size):
    task = build(write(tmp_path, train=2, val=1), *settings)
    assert working_size(task, *shape) == size
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    with torch.no_grad():
        mask, shares = segment(task, image)
    assert mask.shape == shape
    assert sum(share for _, share in shares) == pytest.approx(1)
    assert [share for _, share in shares] == sorted((share for _, share in shares), reverse=True)


def test_maps_of_gates_cover_the_picture_without_what_was_filled_up(tmp_path):
    task = build(write(tmp_path, train=2, val=1), "model.levels=4", "model.layers=1")
    image = np.zeros((18, 22, 3), np.uint8)
    with torch.no_grad():
        seen = look(task, image)
    assert seen.image.shape == (16, 20, 3)  # attention needs the size of training
    shapes = {name: values.shape for name, values in seen.maps}
    assert shapes["up.0.gate"] == (16, 20)
    assert shapes["up.1.gate"] == (8, 10)
    assert shapes["up.2.gate"] == (4, 5)
    attention = next(values for name, values in seen.maps if "bottleneck" in name)
    assert attention.shape == (2, 3)
    assert attention.mean() == pytest.approx(1, abs=1e-3)
