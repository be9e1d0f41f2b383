"""Metrics of video by clip and by video; several labels, and numbers."""

import numpy as np
import pytest
import torch
from clips_support import write_video

from attncli.metrics.classification import score
from attncli.recipe.loading import load_recipe
from attncli.tasks.classify import probabilities
from attncli.tasks.label_metrics import metric_names
from attncli.tasks.video_classify import VideoTask, averaged
from attncli.training import World

SMALL = [
    "model.width=16",
    "model.layers=1",
    "model.temporal_layers=1",
    "model.attention.heads=2",
    "clip.frames=4",
]


def test_probabilities_are_averaged_over_each_video():
    shares = np.array([[0.2, 0.8], [0.6, 0.4], [1.0, 0.0], [0.5, 0.5]])
    found = averaged(shares, np.array([1, 1, 0, 1]), 3)
    assert np.allclose(found, [[1.0, 0.0], [1.3 / 3, 1.7 / 3], [0.0, 0.0]])


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Eight videos and three lists of them: one label each, several, and a number."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(8):
        write_video(folder / f"{number}.mp4", 6 + number)
    labels = {
        "single": lambda n: "ab"[n % 2],
        "multi": lambda n: "a|b" if n % 3 == 0 else "b" if n % 3 == 1 else "c",
        "regression": lambda n: n / 4,
    }
    for kind, label in labels.items():
        lines = [f"{n}.mp4,{label(n)},{('train', 'test')[n > 4]}" for n in range(8)]
        (folder / f"{kind}.csv").write_text("path,label,split\n" + "\n".join(lines) + "\n")
    return folder


def build(lists, kind, *settings):
    given = [
        *SMALL,
        f"data.kind={kind}",
        "data.validation=0.4",
        "evaluate.clips=3",
        "evaluate.batch=4",
        *settings,
    ]
    recipe = load_recipe("classify", "video", given, str(lists / f"{kind}.csv")).recipe
    task = VideoTask.build(recipe)
    task.model.eval()
    return task


@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_metrics_are_those_of_mean_probabilities_and_of_single_clips(lists, kind, tmp_path):
    task = build(lists, kind)
    with torch.no_grad():
        found = task.evaluate(World.join())
        finals = task.finals(tmp_path)
    assert set(found) <= set(metric_names(task.recipe))
    assert {name.partition(".")[2] for name in finals} == set(found)
    (test,) = task.sets.tests
    rows = []
    with torch.no_grad():
        for batch in (task.evaluation_batches(test)[n] for n in range(len(task.evaluation_batches(test)))):
            rows += list(zip(batch["index"].tolist(), task.predict(batch).numpy(), strict=True))
    shares = probabilities(np.array([logits for _, logits in rows], np.float64), kind)
    videos = np.array([video for video, _ in rows])
    assert len(rows) == 9
    means = np.stack([shares[videos == n].mean(0) for n in range(3)])
    wanted = score(kind, means, test.targets)
    of_clips = score(kind, shares, test.targets[videos])
    for name, value in wanted.items():
        assert finals[f"test.{name}"] == pytest.approx(value, abs=1e-6, nan_ok=True)
    name = {"single": "accuracy", "multi": "f1_macro", "regression": "spearman"}[kind]
    assert finals[f"test.clip_{name}"] == pytest.approx(of_clips[name], abs=1e-6)
    if kind == "single":
        loss = -np.log(means[np.arange(3), test.targets]).mean()
        assert finals["test.loss"] == pytest.approx(loss, abs=1e-5)


def test_one_clip_of_a_batch_learns_as_it_does_alone(lists):
    """Padding of a short video, which comes with a batch, changes nothing for the others."""
    task = build(lists, "single", "clip.stride=3", "model.tubelet=1")
    batches = task.evaluation_batches(task.sets.train)
    (batch,) = [batches[n] for n in range(len(batches))][:1]
    assert not batch["keep"].all()
    with torch.no_grad():
        together = task.predict(batch)
        for at in range(len(together)):
            one = {name: value[at : at + 1] for name, value in batch.items()}
            if one["keep"].all():
                one.pop("keep")
            assert torch.allclose(task.predict(one)[0], together[at], atol=1e-4)
