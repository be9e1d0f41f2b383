"""attn classify, finetune, inspect, evaluate, resume and export of images through the real entry."""

import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from attncli.attention import MECHANISMS
from attncli.cli import run as run_program
from attncli.commands.trained import load_task, open_run

SMALL = [
    "model.layers=2",
    "model.width=32",
    "model.attention.heads=2",
    "model.tokenizer=patch",
    "model.patch=2",
    "train.optimizer=adamw",
]
COLORS = {"blue": (20, 30, 220), "green": (30, 200, 40), "red": (220, 30, 20)}


def write_pictures(folder, seed=0, size=(8, 8), **counts):
    """A folder for each label: a bright square somewhere, of the label's colour, on noise."""
    rng = np.random.default_rng(seed)
    for part, count in counts.items():
        for number in range(count):
            label = sorted(COLORS)[number % 3]
            image = rng.integers(0, 60, (*size, 3)).astype(np.uint8)
            top, left = rng.integers(0, size[0] - 3), rng.integers(0, size[1] - 3)
            image[top : top + 4, left : left + 4] = COLORS[label]
            path = folder / part / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"), train=120, validation=24, test=21)


def _train(path, *arguments):
    assert run_program([*map(str, arguments), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("runs") / "vit"
    settings = ["model.pooling=class", "train.epochs=12", "train.batch=16", "train.learning_rate=3e-3"]
    return _train(path, "classify", "vit", "--data", pictures, *SMALL, *settings, "train.augment.mixup=0.2")


def metrics(run):
    return json.loads((run / "result.json").read_text())["metrics"]


@pytest.mark.parametrize("name", ["vit", "swin", "cifar10", "cifar10-large"])
def test_every_recipe_trains_two_steps_on_built_in_digits(attn, name):
    settings = ["data.limit=64", "train.steps=2", "train.batch=8"]
    if name.startswith("cifar10"):
        settings += ["data.path=builtin", "image.size=[32,32]", "model.layers=1"]
    ran = attn("classify", name, "--json", *settings)
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["loss"] > 0
    assert 0 <= ran.json["metrics"]["top5_accuracy"] <= 1


def test_what_was_learnt_is_measured_on_the_test_part(trained, pictures):
    found = metrics(trained)
    assert found["test.accuracy"] >= 0.9
    assert "test.top5_accuracy" not in found, "there are three labels"
    for name in ("confusion-test.png", "calibration-test.png", "curves.png"):
        assert (trained / name).stat().st_size > 1000
    rows = [json.loads(line) for line in (trained / "predictions/test.jsonl").read_text().splitlines()]
    assert len(rows) == 21
    assert rows[0].keys() == {"image", "label", "predicted", "probabilities"}
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert right / 21 == pytest.approx(found["test.accuracy"])
    assert str(pictures) in rows[0]["image"]


def test_a_dry_run_counts_and_says_the_backend(attn, pictures):
    ran = attn("classify", "vit", "--data", pictures, "--dry-run", "--json", *SMALL)
    assert ran.code == 0, ran.err
    told = ran.json
    assert told["pictures"] == "8x8 RGB"
    assert told["labels"] == "blue, green, red"
    assert told["FLOPs a step"] > 1e6
    assert "attention backend" in told
    assert "4x4 tokens of 8x8 pixels" in told["model"]


def test_one_picture_is_a_table_and_many_are_lines(attn, trained, pictures):
    one = pictures / "test" / "red" / "2.png"
    ran = attn("classify", trained, one)
    assert ran.code == 0, ran.err
    assert "probability" in ran.out
    assert ran.out.splitlines()[0] == str(one)
    ran = attn("classify", trained, pictures / "test", "--nbest", "1")
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert len(rows) == 21
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    assert all(len(row["probabilities"]) == 1 for row in rows)
    right = sum(row["predicted"] in row["image"] for row in rows)
    assert right / 21 >= 0.9


def test_paths_come_on_standard_input_too(attn, trained, pictures, monkeypatch):
    paths = sorted((pictures / "test" / "blue").iterdir())
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{path}\n" for path in paths)))
    ran = attn("classify", trained, "-", "--json")
    assert ran.code == 0, ran.err
    assert [row["image"] for row in ran.json["results"]] == [str(path) for path in paths]


def test_what_cannot_be_decoded_is_named_and_the_rest_labelled(attn, trained, pictures, tmp_path):
    good = (pictures / "test" / "red" / "2.png").read_bytes()
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes(good)
    (folder / "b.png").write_bytes(good[: len(good) // 2])
    (folder / "c.png").write_bytes(b"no picture")
    ran = attn("classify", trained, folder)
    assert ran.code == 0
    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert [sorted(row) for row in rows] == [
        ["image", "predicted", "probabilities"],
        *[["error", "image"]] * 2,
    ]
    assert "b.png" in ran.err
    assert "c.png" in ran.err
    ran = attn("classify", trained, folder / "c.png")
    assert ran.code == 3
    assert "c.png: is no picture" in ran.err


def test_inputs_that_are_not_there_are_named_at_once(attn, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    ran = attn("classify", trained, "no.png", "nor.png")
    assert ran.code == 3
    assert "input=no.png" in ran.err
    assert "input=nor.png" in ran.err
    ran = attn("classify", trained, "empty")
    assert ran.code == 3
    assert "no image in this folder" in ran.err


def test_inspect_draws_the_heads_over_the_picture(attn, trained, pictures, tmp_path):
    one = pictures / "test" / "red" / "2.png"
    ran = attn("inspect", trained, one, "--out", tmp_path / "seen.png")
    assert ran.code == 0, ran.err
    assert "entropy" in ran.out
    assert Image.open(tmp_path / "seen.png").size[0] > 300
    page = (tmp_path / "seen.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", ""), "a page that needs nothing else"
    ran = attn("inspect", trained, one, "--json")
    (told,) = ran.json["inputs"]
    assert set(told["maps"]) == {"attention rollout", "gradient x input", "integrated gradients"}
    assert np.shape(told["maps"]["attention rollout"]) == (4, 4)
    assert len(told["heads"]) == 2 * 2
    assert 0 <= told["integrated_gradients_error"] < 0.5
    assert sum(map(sum, told["maps"]["attention rollout"])) <= 1 + 1e-6
    entropy = [head["entropy"] for head in told["heads"]]
    assert all(0 <= value <= np.log(17) + 1e-6 for value in entropy)


def test_inspect_of_windows_and_of_what_has_no_weights(attn, pictures, tmp_path):
    common = ["--data", pictures, "train.steps=2", "train.batch=8", "model.width=16", "train.optimizer=adamw"]
    blind = next(name for name, kind in MECHANISMS.items() if not kind.support.weights)
    settings = {
        "swin": ["swin", "model.depths=[2,2]", "model.attention.heads=2", "model.window=3"],
        "blind": ["vit", "model.layers=1", f"model.attention.mechanism={blind}", "model.attention.heads=2"],
    }
    for name, (recipe, *chosen) in settings.items():
        assert attn("classify", recipe, *common, *chosen, "--out", name).code == 0
        ran = attn("inspect", name, pictures / "test" / "red" / "2.png", "--json")
        assert ran.code == 0, ran.err
        (told,) = ran.json["inputs"]
        assert set(told["maps"]) == {"gradient x input", "integrated gradients"}
        assert told["heads"] == []
        assert (tmp_path / name / "attention.png").exists()


def test_evaluate_on_parts_and_other_data(attn, trained, pictures, tmp_path):
    ran = attn("evaluate", trained, "--split", "test", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["accuracy"] == pytest.approx(metrics(trained)["test.accuracy"])
    other = write_pictures(tmp_path / "other", seed=3, size=(12, 16), new=9) / "new"
    ran = attn("evaluate", trained, "--data", other, "--json", "--require", "accuracy>=0.5")
    assert ran.code == 0, ran.err
    ran = attn("evaluate", trained, "--split", "tset")
    assert ran.code == 3
    assert "test" in ran.err


def test_resume_goes_on_bit_for_bit(attn, pictures, tmp_path):
    settings = [*SMALL, "train.batch=16", "train.augment.cutmix=1.0", "train.augment.flip=0.5",
                "train.evaluate_every=4", "model.drop_path=0.2", "model.dropout=0.1"]  # fmt: skip
    common = ["classify", "vit", "--data", pictures, *settings]
    whole = attn(*common, "train.steps=8", "train.schedule.kind=constant", "--out", "whole")
    assert whole.code == 0, whole.err
    assert attn(*common, "train.steps=4", "train.schedule.kind=constant", "--out", "parts").code == 0
    ran = attn("resume", "parts", "train.steps=8")
    assert ran.code == 0, ran.err
    first, second = (
        tmp_path / name / "checkpoints" / "8" / "model.safetensors" for name in ("whole", "parts")
    )
    if not first.exists():
        first, second = (
            sorted((tmp_path / name / "checkpoints").glob("*8*/model.safetensors"))[-1]
            for name in ("whole", "parts")
        )
    assert first.read_bytes() == second.read_bytes()


def test_corrupt_training_pictures_are_refused_or_skipped(attn, tmp_path):
    data = write_pictures(tmp_path / "data", train=30, test=6)
    (data / "train" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    ran = attn("classify", "vit", "--data", data, *SMALL, "train.steps=2")
    assert ran.code == 3
    assert "broken.png" in ran.err
    assert "data.corrupt=skip" in ran.err
    ran = attn("classify", "vit", "--data", data, *SMALL, "train.steps=2", "data.corrupt=skip")
    assert ran.code == 0, ran.err
    assert "1 that cannot be decoded" in ran.err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.window=3"], "model.window: is not of family=vit"),
        (["model.family=swin", "model.registers=1"], "model.registers: is not of family=swin"),
        (["model.family=swin", "model.attention.position=rotary_2d"], "family=swin takes relative_2d"),
        (["model.kernel=5"], "is of tokenizer=convolution"),
        (["model.tokenizer=convolution", "model.kernel=4"], "must be odd"),
        (["model.patch=3"], "does not divide the images' 8x8 pixels"),
        (["model.pacht=2"], "did you mean model.patch"),
        (["train.augment.flipp=0.5"], "did you mean train.augment.flip"),
    ],
)
def test_wrong_settings_are_explained(attn, pictures, settings, said):
    base = [] if "tokenizer" in settings[0] else ["model.tokenizer=patch"]
    ran = attn("classify", "vit", "--data", pictures, "train.steps=1", *base, *settings)
    assert ran.code == 2, ran.err
    assert said in ran.err
    assert "Traceback" not in ran.err


# Fine-tuning and export


def logits_of(run, images):
    task, _ = load_task(*open_run("evaluate", run), data=False)
    with torch.no_grad():
        return task.model.float()(images)


def test_finetune_from_a_run_of_other_labels_and_size(attn, trained, tmp_path):
    data = write_pictures(tmp_path / "data", seed=5, size=(12, 12), train=60, test=12)
    (data / "train" / "red").rename(data / "train" / "crimson")
    (data / "test" / "red").rename(data / "test" / "crimson")
    ran = attn("finetune", "vit", "--from", trained, "--data", data, "image.size=12", "train.epochs=12",
               "train.learning_rate=3e-3", "train.augment.scale=1", "train.augment.operations=0",
               "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["test.accuracy"] >= 0.6
    ran = attn("classify", ran.json["run"], data / "test" / "crimson")
    assert ran.code == 0, ran.err


def test_finetune_needs_a_base_that_it_can_read(attn, pictures, tmp_path):
    ran = attn("finetune", "vit", "--data", pictures)
    assert ran.code == 2
    assert "give --from" in ran.err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "resnet", "architectures": ["ResNet"]}')
    ran = attn("finetune", "vit", "--from", "other", "--data", pictures)
    assert ran.code == 4
    assert "ResNet (model_type 'resnet') is no model of images" in ran.err


def test_export_to_transformers_gives_the_same_logits_and_comes_back(attn, trained, tmp_path):
    transformers = pytest.importorskip("transformers")
    ran = attn("export", trained, "--out", "hf", "--json")
    assert ran.code == 0, ran.err
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "hf").eval()
    images = torch.randn(4, 3, 8, 8)
    ours = logits_of(trained, images)
    with torch.no_grad():
        assert torch.allclose(theirs(images).logits, ours, atol=1e-5)
    assert list(theirs.config.id2label.values()) == sorted(COLORS)
    assert json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())["size"] == {
        "height": 8,
        "width": 8,
    }


def test_a_hugging_face_folder_is_a_base_with_its_own_head(attn, trained, pictures):
    """The labels are the base's, so its head is kept: what it knew is there after a step at no rate."""
    pytest.importorskip("transformers")
    assert attn("export", trained, "--out", "hf").code == 0
    ran = attn("finetune", "vit", "--from", "hf", "--data", pictures, "train.steps=1",
               "train.learning_rate=1e-12", "image.fit=crop", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["test.accuracy"] == pytest.approx(metrics(trained)["test.accuracy"], abs=0.05)


def test_what_transformers_has_not_is_refused(attn, pictures):
    settings = ["train.steps=1", "model.tokenizer=convolution", "model.convolutions=1"]
    assert attn("classify", "vit", "--data", pictures, *settings, "--out", "cct").code == 0
    ran = attn("export", "cct")
    assert ran.code == 2
    assert "transformers' ViT has no model.tokenizer=convolution" in ran.err
    assert "--format onnx" in ran.err


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_onnx_gives_the_same_logits_for_any_number_of_pictures(attn, trained, pictures, tmp_path, kind):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    run = trained
    if kind == "swin":
        shape = ["model.depths=[2,2]", "model.width=16", "model.attention.heads=2", "model.window=3"]
        assert (
            attn("classify", "swin", "--data", pictures, *shape, "train.steps=1", "--out", "swin").code == 0
        )
        run = tmp_path / "swin"
    ran = attn("export", run, "--format", "onnx", "--out", "onnx")
    assert ran.code == 0, ran.err
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx")
    for count in (1, 5):
        images = torch.randn(count, 3, 8, 8)
        (found,) = session.run(None, {"pixel_values": images.numpy()})
        assert np.allclose(found, logits_of(run, images).numpy(), atol=1e-4)
    assert json.loads((tmp_path / "onnx" / "labels.json").read_text())["names"] == sorted(COLORS)
