"""attn segment and what follows it, through the real entry."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attncli.cli import run as run_program
from attncli.recipe import catalogue

TINY = [
    "model.width=8",
    "model.levels=3",
    "model.widest=16",
    "train.threads=1",
    "train.precision=float32",
]


def write_scenes(root, size=(24, 32), **counts):
    """``part/images``, ``part/masks`` and ``classes.txt``: squares that are told apart by colour."""
    rng = np.random.default_rng(0)
    colours = np.array([[40, 60, 80], [210, 60, 60], [60, 210, 90]])
    for part, count in counts.items():
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            mask = np.zeros(size, np.uint8)
            for label in (1, 2):
                top, left = rng.integers(0, size[0] - 9), rng.integers(0, size[1] - 9)
                mask[top : top + 9, left : left + 9] = label
            image = (colours[mask] + rng.integers(-20, 21, (*size, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / part / "images" / f"{number:03}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{number:03}.png")
    (root / "classes.txt").write_text("ground\nred\ngreen\n")
    return root


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), train=24, val=6, test=5)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    before = os.environ.get("ATTN_CACHE")
    os.environ["ATTN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["ATTN_CACHE"]
    else:
        os.environ["ATTN_CACHE"] = before


def train(path, scenes, *settings):
    arguments = ["segment", "unet", "--data", scenes, *TINY, *settings, "--out", path]
    assert run_program([str(a) for a in arguments]) == 0
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, scenes):
    path = tmp_path_factory.mktemp("runs") / "squares"
    return train(path, scenes, "train.epochs=20", "train.learning_rate=1e-2", "model.layers=1")


def metrics(path):
    return json.loads((path / "result.json").read_text())["metrics"]


def test_recipes_are_counted():
    names = [entry.full for entry in catalogue.shipped() if entry.command == "segment"]
    assert sorted(names) == ["segment/camvid", "segment/unet", "segment/vit"]


@pytest.mark.parametrize(
    "entry", [e for e in catalogue.shipped() if e.command == "segment"], ids=lambda e: e.full
)
def test_every_recipe_trains_two_steps(attn, entry, scenes):
    small = ["model.width=16", "train.steps=2", "train.batch=2", "train.threads=1", "image.size=[32,32]"]
    small += ["data.ignored=[]"]
    ran = attn("segment", entry.name, "--data", scenes, "--json", *small)
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["loss"] > 0
    assert 0 <= ran.json["metrics"]["test.mean_iou"] <= 1


def test_what_was_learnt_is_measured_on_the_test_part(run):
    found = metrics(run)
    assert found["test.mean_iou"] > 0.85
    assert found["test.red.iou"] > 0.8
    assert {
        f"test.{name}" for name in ("mean_dice", "pixel_accuracy", "mean_accuracy", "boundary_f1")
    } <= set(found)
    assert {p.name for p in run.glob("*.png")} >= {"curves.png", "examples-test.png", "confusion-test.png"}


def test_evaluate_repeats_the_result(attn, run, scenes):
    ran = attn("evaluate", run, "--split", "test", "--json", "--require", "mean_iou>=0.5")
    assert ran.code == 0, ran.err
    for name in ("mean_iou", "boundary_f1", "red.iou"):
        assert ran.json["metrics"][name] == pytest.approx(metrics(run)[f"test.{name}"], abs=1e-6)
    other = attn("evaluate", run, "--data", scenes / "test", "--json")
    assert other.json["metrics"]["mean_iou"] == pytest.approx(ran.json["metrics"]["mean_iou"])
    assert attn("evaluate", run, "--require", "mean_iou>=1.01").code == 6
    assert attn("evaluate", run, "--require", "test.green.iou>=0.1").code == 0


def test_pictures_become_masks_overlays_and_json(attn, run, scenes, tmp_path):
    source = scenes / "test" / "images"
    ran = attn("segment", run, source / "000.png", source, "--out", "found", "--json")
    assert ran.code == 0, ran.err
    told = ran.json
    assert told["classes"] == ["ground", "red", "green"]
    assert len(told["results"]) == 6
    one = told["results"][0]
    mask = Image.open(one["mask"])
    assert mask.mode == "P"
    truth = np.array(Image.open(scenes / "test" / "masks" / "000.png"))
    assert (np.array(mask) == truth).mean() > 0.9
    assert sum(one["shares"].values()) == pytest.approx(1)
    assert one["shares"]["red"] == pytest.approx((np.array(mask) == 1).mean())
    assert Image.open(one["overlay"]).size == (32, 24)
    assert sorted(p.name for p in Path("found").glob("*-overlay.png")) == [
        "000-2-overlay.png", "000-overlay.png", "001-overlay.png",
        "002-overlay.png", "003-overlay.png", "004-overlay.png",
    ]  # fmt: skip
    assert json.loads(Path("found/classes.json").read_text())[1]["class"] == "red"
    lines = attn("segment", run, source / "001.png", "--flip").out.splitlines()
    assert lines[0].startswith(str(source / "001.png"))


@pytest.mark.parametrize("size", [(24, 32), (70, 95), (9, 100), (3, 2), (1, 1)])
def test_pictures_of_any_size_keep_it(attn, run, tmp_path, size):
    """The run has attention at its lowest level: other sizes go through windows of its own."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)).save("x.png")
    ran = attn("segment", run, "x.png", "--out", "found", "--json")
    assert ran.code == 0, ran.err
    assert Image.open(ran.json["results"][0]["mask"]).size == size[::-1]


def test_grey_and_palette_pictures_are_read_as_the_run_does(attn, run, tmp_path):
    Image.new("L", (30, 20), 99).save("grey.png")
    Image.new("RGBA", (30, 20), (9, 9, 9, 99)).save("clear.png")
    assert attn("segment", run, "grey.png", "clear.png", "--out", "found").code == 0


def test_a_folder_goes_on_after_a_broken_picture_and_tells_it(attn, run, tmp_path):
    Path("in").mkdir()
    Image.new("RGB", (30, 20)).save("in/a.png")
    Path("in/b.png").write_bytes(b"nothing")
    Image.new("RGB", (30, 20)).save("in/c.png")
    ran = attn("segment", run, "in", "--out", "found")
    assert ran.code == 3
    assert "in/b.png: is no picture" in ran.err
    assert len(ran.out.splitlines()) == 2


def test_inspect_draws_gates_and_attention(attn, run, scenes):
    ran = attn("inspect", run, scenes / "test" / "images" / "000.png", "--json")
    assert ran.code == 0, ran.err
    (one,) = ran.json["inputs"]
    names = [found["name"] for found in one["maps"]]
    assert names[:2] == ["up.1.gate", "up.0.gate"]
    assert "bottleneck" in names[2]
    assert all(found["mean"] > 0 for found in one["maps"])
    assert Image.open(one["picture"]).size[0] > 400
    assert (
        "up.0.gate" in attn("inspect", run, scenes / "test" / "images" / "001.png", "--out", "gates.png").out
    )


def test_export_gives_the_same_logits(attn, run, scenes, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert "next: attn export" in attn("export", run).err
    ran = attn("export", run, "--format", "onnx", "--out", "out", "--json")
    assert ran.code == 0, ran.err
    pictures = [np.asarray(Image.open(p), np.float32) for p in sorted((scenes / "test" / "images").iterdir())]
    session = runtime.InferenceSession("out/model.onnx")
    (logits,) = session.run(None, {"images": np.stack(pictures).transpose(0, 3, 1, 2)})
    truth = [np.asarray(Image.open(p)) for p in sorted((scenes / "test" / "masks").iterdir())]
    agree = (logits.argmax(1) == np.stack(truth)).mean()
    assert agree == pytest.approx(metrics(run)["test.pixel_accuracy"], abs=2e-3)
    names = [one["name"] for one in json.loads(Path("out/classes.json").read_text())["classes"]]
    assert names == ["ground", "red", "green"]


def test_dry_run_and_help(attn, scenes):
    ran = attn("segment", "unet", "--data", scenes, *TINY, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["parameters"] > 1000
    assert ran.json["FLOPs a step"] > 1e6
    assert not Path("runs").exists()
    assert "RECIPE|RUN" in attn("segment", "--help").out


def test_seeds_give_mean_and_deviation(attn, scenes):
    ran = attn("segment", "unet", "--data", scenes, *TINY, "train.steps=2", "train.seeds=2", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["each"]["test.mean_iou"]) == 2


def test_accumulation_gives_the_update_of_the_whole_batch(attn, scenes, tmp_path):
    settings = [
        *TINY,
        "model.norm=group",
        "model.groups=4",
        "train.steps=3",
        "train.batch=6",
        "train.log_every=1",
    ]
    settings += ["train.loss.dice=1", "train.loss.focal=0.5", "model.deep_supervision=true"]
    train(tmp_path / "whole", scenes, *settings)
    train(tmp_path / "parts", scenes, *settings, "train.accumulate=3")

    def losses(path):
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_workers_make_the_same_batches(attn, scenes, tmp_path):
    settings = [*TINY, "train.steps=4", "train.batch=6", "train.log_every=1", "train.augment.scale=[0.7,1.5]"]
    train(tmp_path / "here", scenes, *settings)
    train(tmp_path / "there", scenes, *settings, "data.workers=1")
    assert (tmp_path / "here" / "metrics.jsonl").read_bytes() == (
        tmp_path / "there" / "metrics.jsonl"
    ).read_bytes()


# Kills


def start(*arguments):
    command = [sys.executable, "-m", "attncli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(path):
    weights = {p.name: p.read_bytes() for p in sorted((path / "checkpoints").glob("*/model.safetensors"))}
    last = sorted((path / "checkpoints").iterdir())[-1]
    return (
        weights,
        (last / "optimizer.safetensors").read_bytes(),
        (path / "metrics.jsonl").read_bytes(),
        metrics(path),
    )


def test_killed_and_resumed_is_bit_identical(attn, scenes, tmp_path):
    settings = [
        *TINY,
        "train.steps=24",
        "train.batch=4",
        "train.evaluate_every=8",
        "train.checkpoint_every=3",
    ]
    settings += [
        "train.log_every=1",
        "train.average=ema",
        "train.augment.scale=[0.7,1.5]",
        "train.augment.hue=0.1",
    ]
    expected = finished(train(tmp_path / "whole", scenes, *settings))
    path, rng, kills = tmp_path / "killed", random.Random(5), 0
    process = start("segment", "unet", "--data", scenes, "--out", path, *settings)
    while kills < 2:
        lines = path / "timings.jsonl"
        before = len(lines.read_text().splitlines()) if lines.exists() else 0
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
            if lines.exists() and len(lines.read_text().splitlines()) > before + rng.randint(1, 6):
                break
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = start("resume", path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert kills
    assert finished(path) == expected


# Malformed input


def change(path):
    """A function of a folder that does something to a file in it."""

    def of(make):
        def apply(root):
            make(root / path)

        return apply

    return of


def _mask(values):
    def make(path):
        Image.fromarray(np.asarray(values)).save(path)

    return make


def _truncate(path):
    path.write_bytes(path.read_bytes()[:60])


FIRST, MASK = "train/images/000.png", "train/masks/000.png"
ODD = np.zeros((24, 32), np.uint8)
ODD[5, 6] = 77
DAMAGED = {
    "an image is missing": (change(FIRST)(Path.unlink), "no picture named 000"),
    "a mask is missing": (change(MASK)(Path.unlink), "no mask named 000"),
    "an image is empty": (change(FIRST)(lambda p: p.write_bytes(b"")), "is empty"),
    "a mask is empty": (change(MASK)(lambda p: p.write_bytes(b"")), "its mask"),
    "an image is cut off": (change(FIRST)(_truncate), "000.png: cannot be decoded"),
    "a mask is cut off": (change(MASK)(_truncate), "its mask"),
    "an image is text": (change(FIRST)(lambda p: p.write_text("<html>")), "is a web page"),
    "a mask of another size": (change(MASK)(_mask(np.zeros((5, 6), np.uint8))), "and its mask 5x6"),
    "a mask turned": (change(MASK)(_mask(np.zeros((32, 24), np.uint8))), "and its mask 32x24"),
    "an unknown value": (change(MASK)(_mask(ODD)), "value 77 of 1 pixels, first at row 5, column 6"),
    "a coloured mask": (
        change(MASK)(_mask(np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8))),
        "is coloured",
    ),
    "a mask of fractions": (
        change(MASK)(lambda p: Image.new("F", (32, 24)).save(p.with_suffix(".tiff"))),
        "same pic",
    ),
    "two masks of one name": (
        change(MASK)(lambda p: shutil.copy(p, p.with_suffix(".bmp"))),
        "is the same picture",
    ),
    "no masks folder": (change("train/masks")(shutil.rmtree), "no training part"),
    "no training part": (change("train")(shutil.rmtree), "no training part"),
    "an empty training part": (
        change("train")(lambda p: [f.unlink() for f in p.rglob("*.png")]),
        "no usable",
    ),
    "one class": (change("classes.txt")(lambda p: p.write_text("only\n")), "segmentation needs two"),
    "no class": (change("classes.txt")(lambda p: p.write_text("# none\n")), "segmentation needs two"),
    "a class twice": (change("classes.txt")(lambda p: p.write_text("a\na\nb\n")), "stands for several"),
    "too few classes": (change("classes.txt")(lambda p: p.write_text("a\nb\n")), "value 2 of"),
    "half colours": (
        change("classes.txt")(lambda p: p.write_text("a 0 0 0\nb\n")),
        "some classes have colours",
    ),
    "two numbers": (change("classes.txt")(lambda p: p.write_text("a 0 0\nb\nc\n")), "classes.txt:1"),
    "colours too large": (
        change("classes.txt")(lambda p: p.write_text("a 0 0 999\nb 1 1 1\n")),
        "from 0 to 255",
    ),
    "classes not utf-8": (change("classes.txt")(lambda p: p.write_bytes(b"\xff\xfe\xff")), "is not UTF-8"),
    "all is ignored": (
        change("train/masks")(lambda p: [_mask(np.full((24, 32), 255, np.uint8))(f) for f in p.iterdir()]),
        "every pixel of the training masks is ignored",
    ),
    "a bomb": (change(FIRST)(lambda p: p.write_bytes(_bomb())), "would decode to"),
}


def _bomb():
    """The header of a PNG of 60,000 x 60,000 pixels."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_data_is_refused_before_training(attn, scenes, tmp_path, name):
    damage, what = DAMAGED[name]
    shutil.copytree(scenes, "data")
    damage(Path("data"))
    ran = attn("segment", "unet", "--data", "data", *TINY, "train.steps=1")
    assert ran.code == 3, ran.err
    assert what in ran.err
    assert "Traceback" not in ran.err
    assert not Path("runs").exists()


SETTINGS = {
    "model.family=unett": "did you mean unet",
    "model.gates=true": "model.gates",
    "model.levels=0": "model.levels",
    "model.levels=9": "model.levels",
    "model.levels=8": "too small for model.levels=8",
    "model.width=0": "model.width",
    "model.norm=layer": "model.norm",
    "model.norm=group model.groups=5": "must divide width=8",
    "train.accumulate=2": "model.norm=group",
    "model.head=mask": "does not read it",
    "model.feature_attention=sea": "model.feature_attention",
    "model.layers=1 model.attention.heads=5": "heads=5",
    "model.layers=1 model.attention.position=rotary_3d": "model.attention.position",
    "model.layers=1 model.attention.window=4": "model.attention.window",
    "model.deep_supervision=true model.levels=1": "no level below",
    "train.loss.cross_entropy=0 train.loss.dice=0": "one of cross_entropy",
    "train.loss.dice=-1": "train.loss.dice",
    "train.loss.class_weights=inverse": "class_weights",
    "train.augment.scale=[2,1]": "the smaller one first",
    "train.augment.scale=[1]": "train.augment.scale",
    "train.augment.crop=[0]": "above 0",
    "train.augment.flip=2": "train.augment.flip",
    "train.goal=iou": "train.goal",
    "image.size=[0,5]": "above 0",
    "image.size=[4,5,6]": "image.size",
    "image.fit=squash": "image.fit",
    "data.layout=cityscapes": "data.layout",
    "data.ignored=[blue]": "no class 'blue'",
    "data.ignored=[red,green]": "segmentation needs two",
    "data.classes=[a]": "segmentation needs two",
    "data.validation=2": "a share must be between 0 and 1",
    "data.tests=[nowhere]": "nowhere",
    "data.path=nowhere": "nowhere",
    "data.path=classes.txt": "is a file",
    "evaluate.overlap=1": "evaluate.overlap",
    "evaluate.window=never model.layers=1": "training size only",
    "evaluate.window=sometimes": "evaluate.window",
}


@pytest.mark.parametrize("given", SETTINGS)
def test_settings_that_cannot_be_are_refused(attn, scenes, tmp_path, given):
    shutil.copytree(scenes / "train", "data/train")
    shutil.copy(scenes / "classes.txt", "classes.txt")
    shutil.copy(scenes / "classes.txt", "data/classes.txt")
    data = [] if "data.path" in given else ["--data", "data"]
    ran = attn("segment", "unet", *data, *TINY, *given.split(), "train.steps=1")
    assert ran.code in (2, 3), ran.err
    assert SETTINGS[given] in ran.err
    assert "Traceback" not in ran.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["RUN"], 2, "a picture is missing"),
        (["RUN", "nowhere.png"], 3, "there is no such file or folder"),
        (["RUN", "empty"], 3, "no picture in this folder"),
        (["RUN", "text.png"], 3, "is no picture"),
        (["RUN", "text.png", "--data", "x"], 2, "--data is there to train"),
        (["RUN", "text.png", "--require", "mean_iou>=0"], 2, "--require is there to train"),
        (["unet", "--flip"], 2, "--flip is there to apply a run"),
        (["unet", "picture.png"], 2, "is no setting"),
        (["unte"], 2, "did you mean unet"),
        (["unet", "--require", "miou>=0.4"], 2, "did you mean mean_iou"),
        ([], 2, "a recipe is missing"),
    ],
)
def test_calls_that_cannot_be_are_refused(attn, run, tmp_path, arguments, code, what):
    Path("empty").mkdir()
    Path("text.png").write_text("text")
    ran = attn("segment", *(str(run) if text == "RUN" else text for text in arguments))
    assert ran.code == code, ran.err
    assert what in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", ["classes.json", "pixels.json"])
@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"names": ["a"]}', '{"size": 5}'])
def test_a_run_whose_files_are_damaged_is_a_wrong_checkpoint(attn, run, tmp_path, name, text):
    shutil.copytree(run, "copy")
    path = Path("copy") / name
    path.unlink() if text is None else path.write_text(text)
    Image.new("RGB", (30, 20)).save("a.png")
    ran = attn("segment", "copy", "a.png")
    assert ran.code == 4, ran.err
    assert name in ran.err
    assert "Traceback" not in ran.err


def test_names_of_recipes_load_no_torch():
    code = "import sys; from attncli.cli import run; run(['segment', 'unet', 'model.famly=x']); "
    code += "run(['segment', 'unet', '--require', 'miou>1']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
