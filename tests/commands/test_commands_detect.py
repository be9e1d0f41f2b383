"""attn detect from the command line: train, measure, resume, apply, inspect, and what goes wrong."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

QUICK = [
    "data.limit=12",
    "model.backbone.kind=resnet10",
    "model.backbone.width=16",
    "train.steps=2",
    "train.batch=4",
    "train.log_every=1",
    "train.evaluate_every=0",
    "train.threads=1",
    "evaluate.least=0.0",
]
REGIONS = ["model.pyramid.channels=32", "model.proposals.kept=10", "model.regions.width=32"]
QUERIES = ["model.width=32", "model.queries=6", "model.decoder=1", "model.highest=3"]


def small_voc(root, count=6):
    """Bright squares and dark ones on grey."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = []
    for number in range(count):
        image = np.full((48, 64, 3), 120, np.uint8)
        objects = ""
        for name, tint in (("bright", 240), ("dark", 10)):
            x, y, side = int(rng.integers(0, 40)), int(rng.integers(0, 28)), int(rng.integers(8, 20))
            image[y : y + side, x : x + side] = tint
            objects += (
                f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + side}</xmax>"
                f"<ymax>{y + side}</ymax></bndbox></object>"
            )
        Image.fromarray(image).save(root / "JPEGImages" / f"p{number}.png")
        (root / "Annotations" / f"p{number}.xml").write_text(f"<annotation>{objects}</annotation>")
        names.append(f"p{number}")
    for part, chosen in (("train", names[:4]), ("val", names[4:5]), ("test", names[5:])):
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(chosen) + "\n")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps on a VOC folder, relation and scales attended to."""
    from attncli.cli import run

    root = tmp_path_factory.mktemp("detect")
    data = small_voc(root / "data")
    options = [
        *QUICK,
        *REGIONS,
        "model.regions.relation=1",
        "model.pyramid.fusion=attention",
        "model.attention.heads=4",
    ]
    assert run(["detect", "faster_rcnn", "--data", str(data), "--out", str(root / "run"), *options]) == 0
    return root


def copied(trained, tmp_path):
    return shutil.copytree(trained / "run", tmp_path / "run")


def test_training_measures_the_test_part_and_draws(trained):
    run = trained / "run"
    result = json.loads((run / "result.json").read_text())
    assert {"map", "map50", "map75", "recall", "test.map50"} <= set(result["metrics"])
    assert json.loads((run / "classes.json").read_text()) == {"names": ["bright", "dark"], "numbers": [1, 2]}
    for name in ("precision-recall-test.png", "confusion-test.png", "curves.png"):
        assert (run / name).is_file()
    rows = json.loads((run / "predictions" / "test.json").read_text())
    assert rows
    assert set(rows[0]) == {"image_id", "category_id", "bbox", "score"}


def test_evaluate_says_the_same_and_checks_requirements(attn, trained, tmp_path):
    run = copied(trained, tmp_path)
    told = attn("evaluate", run, "--json").json
    assert told["metrics"]["map50"] == json.loads((run / "result.json").read_text())["metrics"]["map50"]
    assert set(told["classes"]["test"]) == {"bright", "dark"}
    assert attn("evaluate", run, "--split", "test", "--require", "map50>=1.01").code == 6
    found = attn("evaluate", run, "--split", "nowhere")
    assert found.code == 3
    assert "there is no part 'nowhere'" in found.err
    other = attn("evaluate", run, "--data", trained / "data", "--json").json
    assert other["on"] == str(trained / "data")


def test_results_are_scored_by_pycocotools_alike(attn, trained, tmp_path):
    """The results file against a COCO file of the same data: the very numbers that evaluate says."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from attncli.data.boxes.prepare import prepare_boxes
    from attncli.metrics.detection import corners_to_sides
    from attncli.recipe.detect import BoxData

    run = copied(trained, tmp_path)
    told = attn("evaluate", run, "--split", "train", "--json").json["metrics"]
    train = prepare_boxes(BoxData(path=str(trained / "data"))).train
    marks = [
        {
            "id": 1000 * n + k,
            "image_id": n,
            "category_id": int(c) + 1,
            "bbox": b.tolist(),
            "area": b[2] * b[3],
            "iscrowd": 0,
        }
        for n, boxes, labels in zip(train.numbers, train.truth, train.labels, strict=True)
        for k, (b, c) in enumerate(zip(corners_to_sides(boxes), labels, strict=True), 1)
    ]
    truth = {"images": [{"id": n} for n in train.numbers], "annotations": marks}
    truth["categories"] = [{"id": 1, "name": "bright"}, {"id": 2, "name": "dark"}]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        judge = COCOeval(coco, coco.loadRes(str(run / "predictions" / "train.json")), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert told["map"] == judge.stats[0]
    assert told["map50"] == judge.stats[1]
    assert told["map75"] == judge.stats[2]


def test_a_run_that_goes_on_ends_as_one_that_went_through(attn, trained, tmp_path):
    from safetensors.numpy import load_file

    options = [
        *QUICK,
        *REGIONS,
        "train.schedule.kind=constant",
        "train.schedule.warmup=0",
        "train.average=ema",
    ]
    options += ["train.augment.mosaic=0.5", "train.augment.multi_scale=0.5", "train.augment.plain_end=0"]
    base = ["detect", "faster_rcnn", "--data", trained / "data", *options]
    assert attn(*base, "--out", tmp_path / "whole", "train.steps=4").code == 0
    assert attn(*base, "--out", tmp_path / "parts").code == 0
    assert attn("resume", tmp_path / "parts", "train.steps=4").code == 0
    whole, parts = (
        load_file(next((tmp_path / name / "checkpoints").glob("*4/model.safetensors")))
        for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_pictures_are_drawn_and_results_written(attn, trained, tmp_path):
    run, data = trained / "run", trained / "data"
    one = attn("detect", run, data / "JPEGImages" / "p0.png", "--threshold", "0.0", "--out", tmp_path / "one")
    assert one.code == 0
    assert "found" in one.out
    assert Image.open(tmp_path / "one" / "p0.png").size[0] >= 64
    told = attn(
        "detect", run, data / "JPEGImages", "--json", "--threshold", "0", "--out", tmp_path / "all"
    ).json
    assert len(told["results"]) == 6
    best = told["results"][0]["detections"][0]
    assert set(best) == {"class", "score", "box"}
    assert best["class"] in ("bright", "dark")
    rows = json.loads((tmp_path / "all" / "results.json").read_text())
    assert len(rows) == sum(len(one["detections"]) for one in told["results"])
    names = json.loads((tmp_path / "all" / "pictures.json").read_text())
    assert [one["id"] for one in names] == [1, 2, 3, 4, 5, 6]
    bare = attn("detect", run, data / "JPEGImages" / "p0.png", "--no-pictures", "--json").json
    assert "drawn" not in bare["results"][0]


def test_pictures_that_cannot_be_read(attn, trained, tmp_path):
    run = trained / "run"
    (tmp_path / "mixed").mkdir()
    shutil.copy(trained / "data" / "JPEGImages" / "p0.png", tmp_path / "mixed" / "a.png")
    (tmp_path / "mixed" / "b.png").write_bytes(b"no picture")
    Image.new("L", (30, 80), 90).save(tmp_path / "mixed" / "c.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "mixed" / "d.png")
    found = attn("detect", run, tmp_path / "mixed", "--out", tmp_path / "out")
    assert found.code == 3
    assert "b.png: is no picture" in found.err
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {
        "a.png",
        "c.png",
        "d.png",
    }  # the others are done
    (tmp_path / "none").mkdir()
    for inputs, said in (
        ([tmp_path / "none"], "no picture is in it"),
        ([tmp_path / "mixd"], "there is no such file or folder (did you mean"),
    ):
        found = attn("detect", run, *inputs)
        assert found.code == 3
        assert said in found.err


def test_inspect_draws_scales_and_relations(attn, trained, tmp_path):
    told = attn(
        "inspect",
        trained / "run",
        trained / "data" / "JPEGImages" / "p0.png",
        "--json",
        "--out",
        tmp_path / "a.png",
    ).json
    assert (tmp_path / "a.png").is_file()
    names = [panel["name"] for panel in told["inputs"][0]["maps"]]
    assert "stride 4 looks at stride 16" in names
    assert any(name.startswith("relation 1") for name in names)


def test_options_that_mean_nothing_and_names_that_are_none(attn, trained):
    run = trained / "run"
    for arguments, said in (
        (["detect", run, "--data", "x", "y.png"], "--data is there to train"),
        (["detect", "faster_rcnn", "--threshold", "0.5"], "--threshold is there to apply a run"),
        (["detect", "faster_rcn"], "did you mean faster_rcnn"),
        (
            ["detect", "faster_rcnn", "--require", "mapp50>=1"],
            "no metric is named mapp50; did you mean map50",
        ),
        (["detect", "faster_rcnn", "model.regions.relation=9"], "<= 6"),
        (["detect", "faster_rcnn", "model.pyramid.lowest=4", "model.pyramid.highest=4"], "must be below"),
        (["detect", "faster_rcnn", "model.attention.heads=7", "model.regions.relation=1"], "must divide"),
        (["detect", "detr", "model.backbone.attention=cbm"], "cbam"),
        (["detect", "faster_rcnn", "train.augment.scale=[2, 1]"], "the smaller first"),
    ):
        found = attn(*arguments)
        assert found.code == 2, arguments
        assert said in found.err, arguments
    assert "which no other library loads" in attn("export", run).err
    wrong = attn("resume", run, "image.size=96")
    assert wrong.code == 2
    assert "a run keeps this setting" in wrong.err
    wrong = attn("classify", run, "x.png")
    assert wrong.code == 4
    assert "is a run of attn detect" in wrong.err


def test_a_run_keeps_the_frame_that_it_learnt_in(attn, trained, tmp_path):
    run = copied(trained, tmp_path)
    assert json.loads((run / "frame.json").read_text()) == {"height": 48, "width": 64}
    Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(tmp_path / "large.png")
    assert attn("detect", run, tmp_path / "large.png", "--no-pictures").code == 0
    (run / "frame.json").write_text("{")
    damaged = attn("detect", run, tmp_path / "large.png")
    assert damaged.code == 4
    assert "frame.json" in damaged.err


@pytest.mark.parametrize(
    ("settings", "steps"), [([], 1000), (["train.epochs=3"], 3), (["train.epochs=3", "train.steps=7"], 7)]
)
def test_epochs_or_steps_or_neither(trained, settings, steps):
    from attncli.recipe.loading import load_recipe
    from attncli.tasks.detect import DetectTask

    chosen = ["model.backbone.kind=resnet10", "train.batch=4", *settings]
    recipe = load_recipe("detect", "faster_rcnn", chosen, str(trained / "data")).recipe
    assert DetectTask.build(recipe).settle(recipe.train).steps == steps


def test_broken_data_is_named_before_training(attn, tmp_path):
    root = small_voc(tmp_path / "data")
    (root / "JPEGImages" / "p1.png").write_bytes(b"junk")
    (root / "Annotations" / "p2.xml").write_text("<annotation><object></annotation>")
    found = attn("detect", "faster_rcnn", "--data", root, *QUICK, *REGIONS)
    assert found.code == 3
    assert "p2.xml: is not XML" in found.err
    assert not (tmp_path / "runs").exists()
    missing = attn("detect", "faster_rcnn", "--data", tmp_path / "dat", *QUICK)
    assert missing.code == 3
    assert "did you mean" in missing.err


def test_detr_from_the_command_line(attn, trained, tmp_path):
    data = trained / "data"
    ran = attn("detect", "detr", "--data", data, "--out", tmp_path / "run", *QUICK, *QUERIES)
    assert ran.code == 0, ran.err
    told = attn("detect", tmp_path / "run", data / "JPEGImages" / "p0.png", "--json", "--threshold", "0").json
    assert told["results"][0]["detections"]
    seen = attn("inspect", tmp_path / "run", data / "JPEGImages" / "p0.png", "--json").json
    assert seen["inputs"][0]["maps"] is not None
    dry = attn("detect", "detr", "--dry-run", "--json", *QUICK, *QUERIES).json
    assert dry["training pictures"] == 12


def test_full_sight_is_recorded(attn, trained, tmp_path):
    data = trained / "data"
    options = [*QUICK, *QUERIES, "model.sight=full", "evaluate.threshold=0.0"]
    assert attn("detect", "detr", "--data", data, "--out", tmp_path / "run", *options).code == 0
    seen = attn("inspect", tmp_path / "run", data / "JPEGImages" / "p0.png", "--json").json
    names = [panel["name"] for panel in seen["inputs"][0]["maps"]]
    assert "queries, layer 1" in names
    assert any(name.startswith("decoder layer 1 looks at") for name in names)


def test_start_up_loads_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from attncli.cli import run; code = run(['recipes', 'show', 'detect/bccd']); "
        "code = run(['detect', 'faster_rcnn', 'model.nothing=1']); assert code == 2; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
