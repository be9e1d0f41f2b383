"""Labelled pictures from folders, tables, saved hub data and scikit-learn; what can be wrong with them."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pictures_support import class_folder, encode, noise

from attncli.data.images.augment import Augmentation
from attncli.data.images.batches import evaluation_batches, training_batches
from attncli.data.images.format import PictureFormat, statistics
from attncli.data.images.labelled import prepare_images, read_image_set, unlabelled_images
from attncli.data.images.store import ArrayPictures, FilePictures, RaggedPictures
from attncli.errors import CheckpointError, DataError
from attncli.recipe.vision import LabelledPictures, PixelSection

CIFAR = os.path.join(os.environ.get("ATTN_DATA", "/nowhere"), "cifar10")


def prepared(path="builtin", size=(), scale=1.0, channels="auto", normalise="data", **settings):
    image = PixelSection(size=list(size), channels=channels, normalise=normalise)
    return prepare_images(LabelledPictures(path=str(path), **settings), image, scale=scale)


def all_of(examples):
    """What is in a set: pixels and target of each, in any order."""
    read = [examples.pictures.read(at).tobytes() for at in range(len(examples))]
    return sorted(zip(read, examples.targets.tolist(), strict=True))


def problems(call, *arguments, **settings):
    with pytest.raises(DataError) as raised:
        call(*arguments, **settings)
    return [str(problem) for problem in raised.value.problems], raised.value.then


# Where they come from


def test_the_built_in_digits():
    sets = prepared()
    assert [len(part) for part in (sets.train, sets.validation, *sets.tests)] == [1197, 300, 300]
    assert sets.labels.names == [str(n) for n in range(10)]
    assert (sets.format.size, sets.format.channels) == ((8, 8), 1)
    assert (
        len({place for part in (sets.train, sets.validation, *sets.tests) for place in part.places}) == 1797
    )
    assert sets.train.pictures.array.max() == 255
    assert sets.format.mean[0] == pytest.approx(sets.train.pictures.array.mean() / 255, abs=1e-5)
    assert sets.format.std[0] == pytest.approx(sets.train.pictures.array.std() / 255, abs=1e-5)
    larger = prepared(size=[16], channels="rgb", limit=50)
    assert larger.train.pictures.read(0).shape == (16, 16, 3)
    assert len(larger.train) == 50
    assert "16x16 RGB" in larger.describe()


def test_a_folder_for_each_label(tmp_path):
    sets = prepared(class_folder(tmp_path / "a", each=10))
    assert sets.labels.names == ["cat", "dog"]
    assert [len(sets.train), len(sets.validation), len(sets.tests)] == [18, 2, 0]
    assert sorted(sets.validation.targets.tolist()) == [0, 1]  # one of every ten, so of every label
    assert {0, 1} == set(sets.train.targets.tolist())
    assert isinstance(sets.train.pictures, ArrayPictures)
    at = int(np.flatnonzero(sets.train.targets == 1)[0])
    number = int(sets.train.places[at].rpartition("/")[2].split(".")[0])
    assert (sets.train.pictures.read(at) == noise(8, 8, seed=100 + number)).all()


def test_folders_of_splits_and_odd_names(tmp_path):
    for name in ("Train", "val", "test", "test-hard"):
        class_folder(tmp_path / name, each=2, ending="jpg", channels=1)
    (tmp_path / "Train" / "cat" / "test_7.JPEG").write_bytes(encode(noise(8, 8, 1), "JPEG"))
    (tmp_path / "Train" / "cat" / "deep").mkdir()
    (tmp_path / "Train" / "cat" / "deep" / "a.png").write_bytes(encode(noise(8, 8, 1)))
    (tmp_path / "Train" / "dog" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "Train" / "dog" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "extra").mkdir()
    sets = prepared(tmp_path)
    assert [len(sets.train), len(sets.validation)] == [6, 4]
    assert {test.name: len(test) for test in sets.tests} == {"test": 4, "test-hard": 4}
    assert sets.format.channels == 1
    assert "not read: extra" in sets.describe()


def test_validation_and_tests_from_elsewhere(tmp_path):
    class_folder(tmp_path / "a")
    class_folder(tmp_path / "b", each=3)
    (tmp_path / "c.csv").write_text("path,label\na/cat/0.png,cat\n")
    sets = prepared(tmp_path / "a", validation=str(tmp_path / "b"), tests=[str(tmp_path / "c.csv"), "b"])
    assert [len(sets.train), len(sets.validation)] == [12, 6]
    assert {test.name: len(test) for test in sets.tests} == {"c": 1, "b": 6}


def tables(folder):
    """The same ten pictures as a CSV, JSON lines and parquet of paths, and as parquet of pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    images = [encode(noise(6, 7, seed=n)) for n in range(10)]
    labels = ["ab"[n % 2] for n in range(10)]
    paths = [f"img {n}.png" for n in range(10)]
    for path, data in zip(paths, images, strict=True):
        (folder / path).write_bytes(data)
    rows = "".join(f"{path},{label}\n" for path, label in zip(paths, labels, strict=True))
    (folder / "a.csv").write_text("file_name,label\n" + rows)
    (folder / "a.tsv").write_text(
        "Label\tImage\n" + "".join(f"{b}\t{a}\n" for a, b in zip(paths, labels, strict=True))
    )
    lines = (json.dumps({"path": p, "class": c, "note": 1}) for p, c in zip(paths, labels, strict=True))
    (folder / "a.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"image": paths, "label": labels}), folder / "a.parquet")
    embedded = pa.array([{"bytes": d, "path": p} for d, p in zip(images, paths, strict=True)])
    noted = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": embedded, "label": [n % 2 for n in range(10)]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(noted)}), folder / "b.parquet")
    pq.write_table(pa.table({"img": images, "fine_label": labels}), folder / "c.parquet")
    beside = pa.array([{"bytes": None, "path": p} for p in paths])
    pq.write_table(pa.table({"image": beside, "label": labels}), folder / "d.parquet")
    return folder


def test_the_same_pictures_from_every_kind_of_table(tmp_path):
    folder = tables(tmp_path / "t")
    found = {}
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.parquet", "b.parquet", "c.parquet", "d.parquet"):
        for memory in (2048, 0):
            sets = prepared(folder / name, validation=0.2, memory=memory)
            assert sets.kept == bool(memory)
            assert sets.labels.names == ["a", "b"]
            assert [len(sets.train), len(sets.validation)] == [8, 2]
            found[name, memory] = (all_of(sets.train), all_of(sets.validation), sets.format)
    first = found.pop(("a.csv", 2048))
    assert all(other == first for other in found.values())
    assert "b.parquet: row 3" in prepared(folder / "b.parquet").train.places[2]


def test_saved_hub_data(tmp_path):
    import datasets
    from PIL import Image

    pictures = [Image.fromarray(noise(5, 5, seed=n)) for n in range(10)]
    features = datasets.Features({"pic": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    rows = {"pic": pictures, "label": [n % 2 for n in range(10)]}
    whole = datasets.Dataset.from_dict(rows, features)
    datasets.DatasetDict({"train": whole, "test": whole.select(range(4))}).save_to_disk(tmp_path / "d")
    sets = prepared(tmp_path / "d")
    assert sets.labels.names == ["x", "y"]
    assert [len(sets.train), len(sets.validation), len(sets.tests[0])] == [9, 1, 4]
    assert (sets.tests[0].pictures.read(1) == noise(5, 5, seed=1)).all()


def test_hub_names_are_streamed_once(tmp_path, monkeypatch):
    import datasets
    import huggingface_hub
    from PIL import Image

    asked = []
    features = datasets.Features(
        {"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=["x", "y"])}
    )
    rows = {"img": [Image.fromarray(noise(5, 5, seed=n)) for n in range(10)], "fine_label": [0, 1] * 5}

    def load(path, name, streaming):
        asked.append((path, name, streaming))
        data = datasets.Dataset.from_dict(rows, features).to_iterable_dataset()
        return datasets.IterableDatasetDict({"train": data, "test": data})

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    info = SimpleNamespace(sha="abc")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, timeout: info)
    sets = prepared("someone/pictures:small", cache=str(tmp_path))
    assert asked == [("someone/pictures", "small", True)]
    assert sets.labels.names == ["x", "y"]
    assert [len(sets.train), len(sets.validation), len(sets.tests[0])] == [9, 1, 10]
    assert (sets.tests[0].pictures.read(4) == noise(5, 5, seed=4)).all()
    assert sets.tests[0].places[4] == "someone/pictures:small: row 5"


def test_a_column_of_splits(tmp_path):
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(encode(noise(4, 4, seed=n)))
    splits = ["train", "Training", "train", "val", "test", "test_hard"]
    rows = "".join(f"{n}.png,{'ab'[n % 2]},{splits[n]}\n" for n in range(6))
    (tmp_path / "a.csv").write_text("path,label,split\n" + rows)
    sets = prepared(tmp_path)
    assert [len(sets.train), len(sets.validation)] == [3, 1]
    assert [test.name for test in sets.tests] == ["test", "test_hard"]
    (tmp_path / "a.csv").write_text("path,label,split\n" + rows.replace("val", "vla"))
    told, _ = problems(prepared, tmp_path)
    assert told == [f"{tmp_path}/a.csv:5: split 'vla' is none (there are train, validation and test)"]


def test_several_labels_and_numbers(tmp_path):
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(encode(noise(4, 4, seed=n)))
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"path": f"{n}.png", "label": ["u", "v"][: n % 3]}) for n in range(4))
    )
    sets = prepared(tmp_path / "a.jsonl", validation=0.3)
    assert sets.labels.kind == "multi"
    assert sets.train.targets.shape == (3, 2)
    (tmp_path / "b.csv").write_text("path,score\n" + "".join(f"{n}.png,{n + 0.5}\n" for n in range(4)))
    assert prepared(tmp_path / "b.csv", validation=0.3).labels.kind == "regression"


def test_a_limit_takes_pictures_of_every_label(tmp_path):
    sets = prepared(class_folder(tmp_path / "a", ("a", "b", "c"), each=10), limit=12)
    counts = np.bincount(sets.train.targets, minlength=3) + np.bincount(sets.validation.targets, minlength=3)
    assert counts.tolist() == [4, 4, 4]


# Shapes and formats


def test_pictures_of_many_sizes_need_one(tmp_path):
    class_folder(tmp_path / "a", ("cat", "dog"), each=3)
    class_folder(tmp_path / "a", ("cow",), each=2, size=(9, 12))
    told, then = problems(prepared, tmp_path / "a")
    assert len(told) == 1
    assert "2 sizes (height x width): 6 of 8x8 such as" in told[0]
    assert "2 of 9x12 such as" in told[0]
    assert "image.size=[8,8]" in told[0]
    assert then == f"attn classify vit --data {tmp_path / 'a'}"
    sets = prepared(tmp_path / "a", size=[6, 10])
    assert sets.train.pictures.read(0).shape == (6, 10, 3)


@pytest.mark.parametrize("memory", [2048, 0])
def test_cut_outs_are_taken_of_larger_pictures(tmp_path, memory):
    class_folder(tmp_path / "a", each=6, size=(40, 60))
    class_folder(tmp_path / "a", ("cow",), each=2, size=(9, 12))
    sets = prepared(tmp_path / "a", size=[10], scale=0.25, memory=memory)
    shapes = {sets.train.pictures.read(at).shape for at in range(len(sets.train))}
    assert shapes == {(20, 30, 3), (9, 12, 3)}
    assert isinstance(sets.train.pictures, RaggedPictures if memory else FilePictures)
    assert sets.validation.pictures.read(0).shape == (10, 10, 3)
    stream = training_batches(sets.train, sets.format, Augmentation(scale=0.25, flip=0.5), batch=5, seed=1)
    assert stream.next([0], 1)[0]["images"].shape[1:] == (3, 10, 10)
    stream.close()


def test_formats_are_stored_and_checked(tmp_path):
    form = PictureFormat(4, 5, 3, "pad", (0.1, 0.2, 0.3), (1.0, 0.5, 0.25))
    form.save(tmp_path)
    assert PictureFormat.load(tmp_path) == form
    for key, value in (("channels", 2), ("std", [0, 1, 1]), ("fit", "zoom"), ("mean", None), ("height", -1)):
        told = json.loads((tmp_path / "pictures.json").read_text())
        (tmp_path / "pictures.json").write_text(json.dumps(told | {key: value}))
        with pytest.raises(CheckpointError, match=r"pictures\.json"):
            PictureFormat.load(tmp_path)
        form.save(tmp_path)


def test_normalisation_is_of_the_training_part_or_what_is_asked(tmp_path):
    class_folder(tmp_path / "a")
    sets = prepared(tmp_path / "a")
    pixels = np.stack([sets.train.pictures.read(at) for at in range(len(sets.train))]) / 255
    assert sets.format.mean == pytest.approx(pixels.mean((0, 1, 2)), abs=1e-5)
    assert sets.format.std == pytest.approx(pixels.std((0, 1, 2)), abs=1e-5)
    assert prepared(tmp_path / "a", normalise="half").format.std == (0.5, 0.5, 0.5)
    assert prepared(tmp_path / "a", normalise="imagenet", channels="grey").format.mean == (0.449,)
    assert statistics(ArrayPictures(np.zeros((3, 2, 2, 1), np.uint8))) == ((0.0,), (1.0,))
    again = prepare_images(
        LabelledPictures(path=str(tmp_path / "a")), PixelSection(), form=sets.format, labels=sets.labels
    )
    assert again.format == sets.format


def test_sets_to_measure_on(tmp_path):
    for name in ("train", "test"):
        class_folder(tmp_path / name, each=5)
    class_folder(tmp_path / "other", ("dog",), each=3, size=(20, 10))
    section = LabelledPictures(path=str(tmp_path), validation=0.2)
    sets = prepare_images(section, PixelSection())
    for name, count in (("train", 8), ("validation", 2), ("val", 2), ("test", 5 * 2)):
        assert len(read_image_set(section, sets.labels, sets.format, name, part=True)) == count
    assert all_of(read_image_set(section, sets.labels, sets.format, "validation", part=True)) == all_of(
        sets.validation
    )
    other = read_image_set(section, sets.labels, sets.format, str(tmp_path / "other"), part=False)
    assert other.targets.tolist() == [1, 1, 1]
    assert other.pictures.read(0).shape == (8, 8, 3)
    told, _ = problems(read_image_set, section, sets.labels, sets.format, "tset", part=True)
    assert "there is no part 'tset'" in told[0]
    free = unlabelled_images([tmp_path / "other" / "dog" / "0.png"], sets.labels, sets.format)
    batch = evaluation_batches(free, sets.format, batch=4)[0]
    assert batch["images"].shape == (1, 3, 8, 8)


# What is wrong


def damaged(tmp_path):
    root = class_folder(tmp_path / "a", each=8)
    (root / "cat" / "0.png").write_bytes(b"nothing of the kind")
    (root / "cat" / "1.png").write_bytes(b"")
    whole = (root / "dog" / "2.png").read_bytes()
    (root / "dog" / "2.png").write_bytes(whole[:-40])
    flipped = bytearray((root / "dog" / "3.png").read_bytes())
    flipped[60:130] = bytes(70)
    (root / "dog" / "3.png").write_bytes(bytes(flipped))
    return root


def test_damaged_pictures_are_all_named_before_training(tmp_path):
    root = damaged(tmp_path)
    told, then = problems(prepared, root)
    assert told[0].startswith(f"{root}/cat/0.png: is no picture")
    assert told[1] == f"{root}/cat/1.png: is empty (no bytes)"
    assert told[2].startswith(f"{root}/dog/2.png: cannot be decoded")
    assert told[3].startswith(f"{root}/dog/3.png: cannot be decoded")
    assert then == f"attn classify vit --data {root} data.corrupt=skip"
    few, _ = problems(prepared, root, memory=0)
    assert few == told[:3]


def test_damaged_pictures_are_skipped_and_counted(tmp_path):
    sets = prepared(damaged(tmp_path), corrupt="skip")
    assert len(sets.train) + len(sets.validation) == 12
    assert sum(sets.skipped.values()) == 4
    assert "4 that cannot be decoded are left out" in sets.describe()
    for examples in (sets.train, sets.validation):
        for at, place in enumerate(examples.places):
            label, name = place.split("/")[-2:]
            seed = 100 * (label == "dog") + int(name.split(".")[0])
            assert (examples.pictures.read(at) == noise(8, 8, seed=seed)).all()
            assert sets.labels.names[examples.targets[at]] == label


def test_damage_that_is_found_late_is_skipped_or_told(tmp_path):
    root = damaged(tmp_path)
    sets = prepared(root, corrupt="skip", memory=0)
    assert sum(sets.skipped.values()) == 3
    for workers in (0, 1):
        stream = training_batches(sets.train, sets.format, None, batch=20, seed=1, workers=workers, skip=True)
        batch = stream.next([0], 1)[0]
        stream.close()
        assert len(batch["images"]) == len(batch["labels"]) == len(batch["index"]) == len(sets.train) - 1
        stream = training_batches(sets.train, sets.format, None, batch=20, seed=1, workers=workers)
        told, _ = problems(stream.next, [0], 1)
        assert told[0].startswith(f"{root}/dog/3.png: cannot be decoded")
        assert "data.corrupt=skip" in told[0]
        stream.close()


def test_nothing_that_can_be_decoded(tmp_path):
    root = class_folder(tmp_path / "a", each=2)
    for path in root.rglob("*.png"):
        path.write_bytes(b"x")
    told, _ = problems(prepared, root, corrupt="skip", validation=0.5)
    assert any("none of the 2 pictures of the train part can be decoded" in one for one in told)


def test_everything_wrong_with_a_table_is_told_at_once(tmp_path):
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(encode(noise(4, 4, seed=n)))
    (tmp_path / "bad.png").write_bytes(b"x")
    (tmp_path / "a.csv").write_text(
        "path,label\n0.png,a\n1.png,b\n2.png,\ngone.png,a\nbad.png,b\nhttps://x.org/y.png,a\n,b\n3.png,a\n"
    )
    told, _ = problems(prepared, tmp_path / "a.csv", validation=0.3)
    where = f"{tmp_path}/a.csv"
    assert sorted(told) == sorted(
        [
            f"{where}:4: no label",
            f"{tmp_path}/gone.png ({where}:5): there is no such file",
            f"{tmp_path}/bad.png ({where}:6): is no picture "
            "(JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000, AVIF)",
            f"{where}:7: https://x.org/y.png is an address (download the pictures and give their paths)",
            f"{where}:8: no path of a picture",
        ]
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda root: None, "no picture in this folder; it is empty"),
        (lambda root: (root / "a.txt").write_text("x"), "no picture in this folder; it holds a.txt"),
        (lambda root: (root / "a.png").write_bytes(b"x"), "no folder of a label holds 1 of the pictures"),
        (
            lambda root: (root / "a.csv").write_text("u,v,w\n1,2,3\n"),
            "no column of pictures or paths among u",
        ),
        (lambda root: class_folder(root, ("one",)), "one label only, 'one'"),
        (lambda root: (class_folder(root), (root / "empty").mkdir()), "no picture in this folder of a label"),
        (lambda root: [class_folder(root / name) for name in ("train", "Training")], "both the train part"),
        (
            lambda root: (class_folder(root / "train"), class_folder(root / "val", ("cow",))),
            "label 'cow' is not among",
        ),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, make, told):
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    found, then = problems(prepared, root)
    assert told in "\n".join(found)
    assert then.startswith("attn classify vit")


def test_wrong_names_are_told_with_near_ones(tmp_path):
    class_folder(tmp_path / "pictures")
    told, _ = problems(prepared, tmp_path / "picture")
    assert f"did you mean {tmp_path}/pictures?" in told[0]
    (tmp_path / "a.csv").write_text("path,label\nx.png,a\n")
    told, _ = problems(prepared, tmp_path / "a.csv", image="pth")
    assert "no column 'pth'" in told[0]
    assert "did you mean data.image=path?" in told[0]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    told, _ = problems(prepared, tmp_path / "a.parquet")
    assert "not readable as parquet" in told[0]
    told, _ = problems(prepared, tmp_path / "pictures", validation=2.0)
    assert "a share must be between 0 and 1" in told[0]


# Batches


def test_an_epoch_has_every_picture_once_in_batches_of_one_size():
    sets = prepared(limit=103)
    stream = training_batches(sets.train, sets.format, Augmentation(shift=1, cutmix=1.0), batch=10, seed=2)
    batches = [stream.next([0], 1)[0] for _ in range(11)]
    stream.close()
    assert sorted(torch.cat([b["index"] for b in batches]).tolist()) == list(range(103))
    assert {len(b["index"]) for b in batches} == {9, 10}
    one = batches[0]
    assert one["images"].dtype == torch.uint8
    assert one["images"].shape == (len(one["index"]), 1, 8, 8)
    assert set(one) == {"images", "labels", "other", "share", "index"}
    assert one["labels"].tolist() == sets.train.targets[one["index"].numpy()].tolist()
    parts = training_batches(sets.train, sets.format, Augmentation(shift=1, cutmix=1.0), batch=10, seed=2)
    halves = parts.next([0, 1], 2)
    parts.close()
    for name in one:
        assert torch.equal(torch.cat([half[name] for half in halves]), one[name])


@pytest.mark.parametrize("memory", [2048, 0])
def test_workers_and_resume_change_nothing(tmp_path, memory):
    class_folder(tmp_path / "a", each=12, size=(20, 14))
    sets = prepared(tmp_path / "a", size=[10], scale=0.5, memory=memory)
    how = Augmentation(flip=0.5, shift=1, scale=0.5, operations=2, erase=0.3, mixup=0.4, cutmix=1.0)

    def stream(workers):
        return training_batches(sets.train, sets.format, how, batch=7, seed=3, workers=workers)

    straight = stream(0)
    expected = [straight.next([0], 1)[0] for _ in range(8)]
    straight.close()
    first = stream(2)
    found = [first.next([0], 1)[0] for _ in range(3)]
    second = stream(1)
    second.load_state_dict(first.state_dict())
    first.close()
    found += [second.next([0], 1)[0] for _ in range(5)]
    second.close()
    for a, b in zip(found, expected, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in b)


def test_evaluation_sees_every_picture_in_order():
    sets = prepared(limit=50)
    batches = evaluation_batches(sets.validation, sets.format, batch=64)
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(300))
    assert (batches[0]["images"][3, 0].numpy() == sets.validation.pictures.read(3)[..., 0]).all()


@pytest.mark.skipif(not os.path.isdir(CIFAR), reason="ATTN_DATA has no cifar10")
def test_cifar_as_published(tmp_path):
    section = LabelledPictures(path=CIFAR, cache=str(tmp_path), limit=500)
    sets = prepare_images(section, PixelSection())
    assert sets.labels.names[:3] == ["airplane", "automobile", "bird"]
    assert [len(sets.train), len(sets.validation), len(sets.tests[0])] == [450, 50, 10_000]
    assert sets.format.describe() == "32x32 RGB"
