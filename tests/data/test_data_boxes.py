"""Pictures with boxes: every format, every fault, augmentation that keeps boxes on things, exact resume."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attncli.data.boxes.augment import View, jittered, mirrored, mosaic, plain
from attncli.data.boxes.batches import IGNORED, NOTHING, BoxExamples, training_batches
from attncli.data.boxes.builtin import builtin_scenes
from attncli.data.boxes.classes import Classes
from attncli.data.boxes.frame import frame_of
from attncli.data.boxes.keeping import keep_pictures
from attncli.data.boxes.prepare import prepare_boxes, read_box_set
from attncli.errors import DataError
from attncli.recipe.detect import BoxAugment, BoxData

BOXES = [[("cat", (2, 3, 12, 20))], [("dog", (0, 0, 30, 24)), ("cat", (5, 5, 9, 9))], []]


def pictures(folder, count=3, size=(40, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{number}.png")


def voc(root, boxes=BOXES, size="<size><width>40</width><height>30</height></size>", lists=True):
    pictures(root / "JPEGImages", len(boxes))
    (root / "Annotations").mkdir()
    for number, things in enumerate(boxes):
        objects = "".join(
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
            f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
            for name, b in things
        )
        text = f"<annotation><filename>x.jpg</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"p{number}.xml").write_text(text)
    if lists:
        (root / "ImageSets" / "Main").mkdir(parents=True)
        (root / "ImageSets" / "Main" / "train.txt").write_text("p0\np1  1\n")
        (root / "ImageSets" / "Main" / "val.txt").write_text("p2\n")
    return root


def coco_json(count=3, first=0, boxes=BOXES, ids=(7, 3)):
    names = ["cat", "dog"]
    marks = []
    for image, things in enumerate(boxes[first : first + count]):
        for name, (x0, y0, x1, y1) in things:
            marks.append(
                {
                    "id": len(marks) + 1,
                    "image_id": 100 + first + image,
                    "category_id": ids[names.index(name)],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0) / 2,
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {"id": 100 + first + n, "file_name": f"p{first + n}.png", "width": 40, "height": 30}
            for n in range(count)
        ],
        "annotations": marks,
        "categories": [{"id": i, "name": n} for n, i in zip(names, ids, strict=True)],
    }


def coco(root):
    pictures(root / "train2017", 2)
    pictures(root / "val2017", 3)
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(coco_json(2)))
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(coco_json(1, 2)))
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    return root


def yolo(root):
    (root / "data.yaml").parent.mkdir(parents=True, exist_ok=True)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnc: 2\nnames: [cat, dog]\n")
    for part, numbers in (("train", (0, 1)), ("val", (2,))):
        pictures(root / "images" / part, max(numbers) + 1)
        for extra in set(range(max(numbers) + 1)) - set(numbers):
            (root / "images" / part / f"p{extra}.png").unlink()
        (root / "labels" / part).mkdir(parents=True)
        for number in numbers:
            lines = []
            for name, (x0, y0, x1, y1) in BOXES[number]:
                kind = ["cat", "dog"].index(name)
                lines.append(f"{kind} {(x0 + x1) / 80} {(y0 + y1) / 60} {(x1 - x0) / 40} {(y1 - y0) / 30}")
            if lines:  # a picture without a file has no objects
                (root / "labels" / part / f"p{number}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("make", [voc, coco, yolo], ids=["voc", "coco", "yolo"])
def test_the_three_formats_say_the_same(tmp_path, make):
    sets = prepare_boxes(BoxData(path=str(make(tmp_path / "set"))))
    assert sets.classes.names == ["cat", "dog"]
    assert len(sets.train) == 2
    assert len(sets.validation) == 1
    assert sets.train.labels[0].tolist() == [0]
    assert sets.train.labels[1].tolist() == [1, 0]
    assert np.allclose(sets.train.boxes[1], [[0, 0, 30, 24], [5, 5, 9, 9]], atol=1e-4)
    assert sets.validation.boxes[0].shape == (0, 4)  # a picture without objects is one
    assert sets.train.pictures.read(0).shape == (30, 40, 3)
    assert not sets.notes


def test_coco_keeps_its_numbers_and_areas(tmp_path):
    sets = prepare_boxes(BoxData(path=str(coco(tmp_path / "set"))))
    assert sets.classes.numbers == [7, 3]
    assert sets.train.numbers == [100, 101]
    assert sets.train.areas[0].tolist() == [10 * 17 / 2]
    Classes(sets.classes.names, sets.classes.numbers).save(tmp_path)
    assert Classes.load(tmp_path) == sets.classes


def test_one_coco_file_is_held_out_from(tmp_path):
    pictures(tmp_path / "images", 6)
    told = coco_json(3)
    told["images"] += [{"id": n, "file_name": f"p{n}.png"} for n in (3, 4, 5)]  # sizes are not needed
    (tmp_path / "all.json").write_text(json.dumps(told))
    sets = prepare_boxes(BoxData(path=str(tmp_path / "all.json"), validation=0.34))
    assert len(sets.train) + len(sets.validation) == 6
    assert len(sets.validation) == 2
    assert set(sets.train.names).isdisjoint(sets.validation.names)


def test_other_layouts(tmp_path):
    """Roboflow's: VOC beside the pictures, COCO in each part's folder, YOLO with ../ paths."""
    root = tmp_path / "voc"
    for part in ("train", "valid", "test"):
        pictures(root / part, 1)
        (root / part / "p0.xml").write_text(
            "<annotation><object><name>a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
            "<ymax>9.5</ymax></bndbox></object></annotation>"
        )
    sets = prepare_boxes(BoxData(path=str(root)))
    assert (len(sets.train), len(sets.validation), [t.name for t in sets.tests]) == (1, 1, ["test"])
    root = tmp_path / "coco"
    for part in ("train", "valid"):
        pictures(root / part, 2)
        (root / part / "_annotations.coco.json").write_text(json.dumps(coco_json(2)))
    assert len(prepare_boxes(BoxData(path=str(root))).validation) == 2
    root = tmp_path / "yolo"
    for part in ("train", "valid"):
        pictures(root / part / "images", 1)
        (root / part / "labels").mkdir()
        (root / part / "labels" / "p0.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n")  # an outline
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames:\n  0: a\n  1: b\n")
    sets = prepare_boxes(BoxData(path=str(root)))
    assert sets.classes.names == ["a", "b"]
    assert np.allclose(sets.train.boxes[0], [[4, 3, 36, 27]], atol=1e-4)


def test_bad_boxes_are_mended_or_refused(tmp_path):
    bad = [
        [("cat", (-5, 2, 12, 20)), ("cat", (9, 9, 9, 12)), ("dog", (50, 2, 60, 8))],
        [("dog", (1, 1, 5, 5))],
        [],
    ]
    root = voc(tmp_path / "set", bad)
    sets = prepare_boxes(BoxData(path=str(root)))
    assert sets.train.boxes[0].tolist() == [[0, 2, 12, 20]]
    assert any(note.startswith("1 boxes reached out of their picture") for note in sets.notes)
    assert any(
        note.startswith("2 boxes have no area inside") and "p0.xml: object 2" in note for note in sets.notes
    )
    with pytest.raises(DataError) as told:
        prepare_boxes(BoxData(path=str(root), boxes="refuse"))
    text = str(told.value)
    assert "p0.xml: object 1: box (-5, 2, 12, 20) reaches out of its picture, which is 40x30" in text
    assert "object 2: box (9, 9, 9, 12) has no area" in text
    assert "object 3" in text


def test_voc_without_size_and_with_a_wrong_one(tmp_path):
    sets = prepare_boxes(BoxData(path=str(voc(tmp_path / "none", size=""))))
    assert sets.train.sizes.tolist() == [[30, 40], [30, 40]]
    zero = voc(tmp_path / "zero", size="<size><width>0</width><height>0</height></size>")
    assert prepare_boxes(BoxData(path=str(zero))).train.sizes[0].tolist() == [30, 40]
    wrong = voc(tmp_path / "wrong", size="<size><width>30</width><height>40</height></size>")
    with pytest.raises(DataError, match="is 40x30 pixels, annotated as 30x40; its EXIF note turns it"):
        prepare_boxes(BoxData(path=str(wrong)))


def test_difficult_objects(tmp_path):
    root = voc(tmp_path / "set")
    path = root / "Annotations" / "p0.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    how = {h: prepare_boxes(BoxData(path=str(root), difficult=h)).train for h in ("ignore", "use", "drop")}
    assert how["ignore"].ignored[0].tolist() == [True]
    assert how["use"].ignored[0].tolist() == [False]
    assert len(how["drop"].boxes[0]) == 0


def faults_of(path, **settings):
    with pytest.raises(DataError) as told:
        prepare_boxes(BoxData(path=str(path), **settings))
    return str(told.value)


def test_broken_voc(tmp_path):
    root = voc(tmp_path / "set")
    (root / "Annotations" / "p0.xml").write_text("<annotation><object>")
    (root / "JPEGImages" / "p1.png").unlink()
    (root / "ImageSets" / "Main" / "train.txt").write_text("p0\np1\np9\n")
    text = faults_of(root)
    assert "p0.xml: is not XML" in text
    assert "train.txt: names p9, and there is no" in text
    (root / "ImageSets" / "Main" / "train.txt").write_text("p1\n")
    text = faults_of(root)
    assert "there is no such file (annotated in" in text
    assert "p1.xml" in text
    path = root / "Annotations" / "p2.xml"
    path.write_text("<annotation><object><name>cat</name></object><object><name/></object></annotation>")
    (root / "ImageSets" / "Main" / "train.txt").write_text("p2\n")
    text = faults_of(root)
    assert "object 1: cat has no bndbox of four numbers" in text
    assert "object 2: has no name" in text


def test_broken_coco(tmp_path):
    root = coco(tmp_path / "set")
    path = root / "annotations" / "instances_train2017.json"
    told = coco_json(2)
    told["images"].append(dict(told["images"][0]))
    told["images"].append({"id": 5})
    told["annotations"] += [
        dict(told["annotations"][0]),
        {"id": 50, "image_id": 999, "category_id": 7, "bbox": [1, 1, 2, 2]},
        {"id": 51, "image_id": 100, "category_id": 8, "bbox": [1, 1, 2, 2]},
        {"id": 52, "image_id": 100, "category_id": 7, "bbox": [1, 1, float("nan"), 2]},
        {"id": 53, "image_id": 100, "category_id": 7, "bbox": [1, 1, 2]},
    ]
    told["categories"].append({"id": 7, "name": "fox"})
    path.write_text(json.dumps(told))
    text = faults_of(root)
    assert "images[2]: id 100 is already that of" in text
    assert "images[3]: picture 5 has no file_name" in text
    assert "(id 1): id 1 occurs twice" in text
    assert "image_id 999 is no picture of the file" in text
    assert "category_id 8 is no class of the file" in text
    assert "there are 7 cat, 3 dog" in text
    assert text.count("is not four numbers") == 2
    assert "categories[2]: id 7 is already that of 'cat'" in text
    for broken, said in (
        ("[]", "is no COCO annotation"),
        ("{", "is not JSON"),
        ('{"images": []}', "no list of"),
    ):
        path.write_text(broken)
        assert said in faults_of(root)


def test_broken_yolo(tmp_path):
    root = yolo(tmp_path / "set")
    path = root / "labels" / "train" / "p0.txt"
    path.write_text("0 0.5 0.5 0.2\n5 0.5 0.5 0.2 0.2\n0 100 90 20 20\nx 1 1 1 1\n")
    text = faults_of(root)
    assert "p0.txt:1: '0 0.5 0.5 0.2' is not: class x y width height" in text
    assert "p0.txt:2: class 5 is unknown (there are 0 to 1)" in text
    assert "p0.txt:3: '0 100 90 20 20': shares of the picture are between 0 and 1" in text
    assert "p0.txt:4" in text


def test_unknown_class_and_nothing_there(tmp_path):
    root = voc(tmp_path / "set")
    text = faults_of(root, classes=["dog"])
    assert "class 'cat' is not among those that are learnt" in text
    assert "data.classes lists them all" in text
    assert "did you mean" in faults_of(tmp_path / "sett")
    (tmp_path / "empty").mkdir()
    text = faults_of(tmp_path / "empty")
    assert "no annotations of coco or voc or yolo or parquet are in it; it has nothing" in text
    none = voc(tmp_path / "none", [[], [], []])
    assert "no box in the training part" in faults_of(none)


def test_corrupt_pictures_are_named_before_training(tmp_path):
    root = voc(tmp_path / "set")
    whole = (root / "JPEGImages" / "p0.png").read_bytes()
    (root / "JPEGImages" / "p0.png").write_bytes(whole[: len(whole) // 2])  # its header is sound
    section = BoxData(path=str(root), cache=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"p0\.png: cannot be decoded"):
        keep_pictures(prepare_boxes(section), section, (32, 32), 1.5)
    section.corrupt = "skip"
    sets = keep_pictures(prepare_boxes(section), section, (32, 32), 1.5)
    assert sets.train.names == ["p1.png"]
    assert sets.train.pictures.read(0).shape == (30, 40, 3)
    assert any("cannot be decoded and were left out" in note for note in sets.notes)
    (root / "JPEGImages" / "p0.png").write_bytes(b"nothing")
    assert "is no picture" in faults_of(root)


def test_other_data_and_parts_are_measured(tmp_path):
    root = voc(tmp_path / "set")
    classes = Classes.of(["cat", "dog"])
    found, _ = read_box_set(BoxData(path=str(root)), classes, "validation", part=True)
    assert found.names == ["p2.png"]
    other = coco(tmp_path / "other")
    found, _ = read_box_set(
        BoxData(path=str(root)), classes, str(other / "annotations" / "instances_train2017.json"), part=False
    )
    assert found.numbers == [100, 101]
    with pytest.raises(DataError, match="there is no part 'test'"):
        read_box_set(BoxData(path=str(root)), classes, "test", part=True)
    tests = prepare_boxes(BoxData(path=str(root), tests=[str(other)])).tests
    assert [one.name for one in tests] == ["other"]


def test_the_built_in_set_is_the_same_each_time_and_shares_no_digit():
    first, names = builtin_scenes()
    again, _ = builtin_scenes()
    assert names == [str(n) for n in range(10)]
    assert all((first[p].pictures.read(3) == again[p].pictures.read(3)).all() for p in first)
    assert {len(first[p]) for p in first} == {800, 100, 200}
    boxes = np.concatenate(first["train"].boxes)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 128
    assert any(len(one) == 0 for one in first["train"].boxes)


# Augmentation: boxes of coloured things stay on them


@pytest.mark.parametrize(
    ("sizes", "frame"),
    [
        ([(480, 640)] * 3, (312, 416)),
        ([(480, 640), (640, 480)], (416, 416)),  # both ways up
        ([(100, 80)] * 9 + [(3000, 4000)], (100, 80)),
        ([(20, 300)], (32, 300)),
    ],
)
def test_the_frame_is_that_of_most_pictures(sizes, frame):
    examples = SimpleNamespace(sizes=np.array(sizes))
    assert frame_of(examples) == frame


def painted(rng, count=4, size=(60, 80)):
    """A grey picture with rectangles, each of a colour of its own, that do not overlap."""
    image = np.full((*size, 3), 10, np.uint8)
    boxes = []
    for number in range(count):
        x = 4 + number * 19
        y = int(rng.integers(2, 30))
        wide, tall = int(rng.integers(8, 15)), int(rng.integers(8, 25))
        image[y : y + tall, x : x + wide] = (60 + 45 * number, 250 - 50 * number, 40 * number)
        boxes.append([x, y, x + wide, y + tall])
    return View(image, np.array(boxes, np.float32), np.arange(count), np.zeros(count, bool))


def on_things(view, count=4):
    for box, label, ignored in zip(view.boxes, view.labels, view.ignored, strict=True):
        tint = np.array([60 + 45 * label, 250 - 50 * label, 40 * label])
        x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
        if not ignored and (box[2:] - box[:2]).min() > 4:
            assert np.abs(view.image[y, x].astype(int) - tint).max() < 12, (box, label)


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_boxes_stay_on_their_things(seed):
    rng = np.random.default_rng(seed)
    augment = BoxAugment(scale=[0.5, 2.0], stretch=1.4)
    views = [painted(rng) for _ in range(4)]
    for view in (
        jittered(views[0], (64, 64), augment, rng),
        jittered(mirrored(views[0], True), (96, 64), augment, rng),
        mosaic([mirrored(view, bool(rng.integers(2))) for view in views], (96, 96), augment, rng),
        plain(views[1], (48, 48))[0],
    ):
        on_things(view)
        height, width = view.image.shape[:2]
        assert (view.boxes >= 0).all()
        assert (view.boxes <= np.array([width, height] * 2)).all()
        assert ((view.boxes[:, 2:] - view.boxes[:, :2]) > 0).all()
        assert len(view.boxes) == len(view.labels) == len(view.ignored)


def test_edges_are_exact_where_nothing_is_cut():
    """A picture scaled by two: boxes are where the pixels are."""
    view = painted(np.random.default_rng(0))
    doubled, scale = plain(view, (120, 160))
    assert scale == 2.0
    assert np.allclose(doubled.boxes, view.boxes * 2)
    for box, label in zip(doubled.boxes, doubled.labels, strict=True):
        tint = np.array([60 + 45 * label, 250 - 50 * label, 40 * label])
        there = np.abs(doubled.image.astype(int) - tint).max(2) < 20
        rows, columns = np.nonzero(there)
        edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(edges - box).max() <= 2


def test_mirroring_twice_is_nothing():
    view = painted(np.random.default_rng(1))
    for across in (True, False):
        back = mirrored(mirrored(view, across), across)
        assert (back.image == view.image).all()
        assert np.allclose(back.boxes, view.boxes)


def test_little_that_is_left_of_a_box_is_ignored():
    view = View(
        np.zeros((40, 40, 3), np.uint8),
        np.array([[0, 0, 40, 40]], np.float32),
        np.zeros(1, int),
        np.zeros(1, bool),
    )
    augment = BoxAugment(scale=[4.0, 4.0], stretch=1.0, keep=0.25)
    cut = jittered(view, (40, 40), augment, np.random.default_rng(0))
    assert cut.ignored.tolist() == [True]  # a sixteenth is left
    assert jittered(
        view, (40, 40), BoxAugment(scale=[1.5, 1.5], stretch=1.0), np.random.default_rng(0)
    ).ignored.tolist() == [False]


# Batches


def test_batches_are_padded_and_marked(tmp_path):
    sets = prepare_boxes(BoxData(path=str(voc(tmp_path / "set"))))
    sets.train.ignored[1][1] = True
    batch = BoxExamples(sets.train, (64, 64), batch=2).make((0, np.array([0, 1])), np.random.default_rng(0))
    assert batch["images"].shape == (2, 3, 64, 64)
    assert batch["images"].is_contiguous(memory_format=__import__("torch").channels_last)
    assert batch["sizes"].tolist() == [[48, 64], [48, 64]]
    assert batch["labels"].tolist() == [[0, NOTHING], [1, IGNORED]]
    assert np.allclose(batch["boxes"][0, 0], np.array([2, 3, 12, 20]) * 1.6)
    assert batch["scales"].tolist() == pytest.approx([1.6, 1.6])


def test_training_goes_on_exactly_where_it_was():
    sets, _ = builtin_scenes()
    train = sets["train"].take(np.arange(20))
    options = {"batch": 4, "seed": 3, "augment": BoxAugment(mosaic=0.5, multi_scale=0.5), "plain_from": 1.0}
    stream = training_batches(train, (96, 96), **options)
    seen = [stream.next([0], 1)[0] for _ in range(4)]
    state = stream.state_dict()
    after = [stream.next([0], 1)[0] for _ in range(4)]
    stream.close()
    again = training_batches(train, (96, 96), **options)
    again.load_state_dict(state)
    for batch in after:
        other = again.next([0], 1)[0]
        assert all((batch[key] == other[key]).all() for key in batch)
    again.close()
    assert len({tuple(batch["images"].shape) for batch in seen + after}) > 1  # several frames


def hub_rows(tmp_path, corners=False):
    import io

    rows = []
    for number, things in enumerate(BOXES):
        held = io.BytesIO()
        Image.fromarray(np.full((30, 40, 3), 50 * number, np.uint8)).save(held, "PNG")
        boxes = [
            [x0, y0, x1, y1] if corners else [x0, y0, x1 - x0, y1 - y0] for _, (x0, y0, x1, y1) in things
        ]
        kinds = [["cat", "dog"].index(name) for name, _ in things]
        rows.append(
            {"image": {"bytes": held.getvalue(), "path": None}, "image_id": 9 - number}
            | {"objects": {"bbox": boxes, "category": kinds, "area": [1.0 * b[2] * b[3] for b in boxes]}}
        )
    return rows


def hub_set(rows):
    import datasets

    names = datasets.ClassLabel(names=["cat", "dog"])
    objects = {
        "bbox": datasets.Sequence(datasets.Sequence(datasets.Value("float32"), length=4)),
        "category": datasets.Sequence(names),
        "area": datasets.Sequence(datasets.Value("float32")),
    }
    features = datasets.Features(
        {"image": datasets.Image(), "image_id": datasets.Value("int64"), "objects": objects}
    )
    return datasets.Dataset.from_list(rows, features=features)


@pytest.mark.parametrize("kind", ["parquet", "saved"])
def test_hub_data_and_parquet_files(tmp_path, kind):
    whole = hub_set(hub_rows(tmp_path))
    root = tmp_path / "set"
    root.mkdir()
    if kind == "parquet":
        whole.select([0, 1]).to_parquet(str(root / "train-00000-of-00001.parquet"))
        whole.select([2]).to_parquet(str(root / "validation-00000-of-00001.parquet"))
    else:
        import datasets

        parts = {"train": whole.select([0, 1]), "validation": whole.select([2])}
        datasets.DatasetDict(parts).save_to_disk(str(root))
    section = BoxData(path=str(root), cache=str(tmp_path / "cache"))
    sets = prepare_boxes(section)
    assert sets.classes.names == ["cat", "dog"]
    assert sets.train.labels[1].tolist() == [1, 0]
    assert np.allclose(sets.train.boxes[1], [[0, 0, 30, 24], [5, 5, 9, 9]])
    assert sets.train.numbers == [9, 8]
    assert len(sets.validation.boxes[0]) == 0
    kept = keep_pictures(sets, section, (32, 32), 1.5)
    assert kept.train.pictures.read(1).mean() == 50


def test_boxes_of_hub_data_as_corners(tmp_path):
    hub_set(hub_rows(tmp_path, corners=True)).to_parquet(str(tmp_path / "all.parquet"))
    sets = prepare_boxes(
        BoxData(path=str(tmp_path / "all.parquet"), box="corners", validation=0.34, cache=str(tmp_path / "c"))
    )
    found = np.concatenate([*sets.train.boxes, *sets.validation.boxes])
    assert [0, 0, 30, 24] in found.tolist()
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nothing")
    assert "cannot be read as parquet" in faults_of(tmp_path / "bad.parquet")


def test_worker_processes_make_the_same_batches():
    sets, _ = builtin_scenes()
    train = sets["train"].take(np.arange(8))
    options = {"batch": 4, "seed": 3, "augment": BoxAugment(mosaic=0.5), "plain_from": 9.0}
    here = training_batches(train, (64, 64), **options)
    there = training_batches(train, (64, 64), workers=1, **options)
    for _ in range(3):
        (a,), (b,) = here.next([0], 1), there.next([0], 1)
        assert all((a[key] == b[key]).all() for key in a)
    here.close()
    there.close()
