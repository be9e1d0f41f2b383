"""Classes and masks: what files write and what is read of it, layout by layout."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks_support import scene, write_coco, write_folders, write_voc
from PIL import Image

from attncli.data.faults import Faults
from attncli.data.images.coco_masks import object_mask
from attncli.data.images.mask_sources import open_masks
from attncli.data.images.masks import MaskClasses, parse_classes, voc_colour
from attncli.data.images.reading import Unreadable
from attncli.errors import CheckpointError, DataError
from attncli.recipe.segment import SegmentData


def classes_of(*lines, ignored=()):
    return parse_classes([(line, f"line {n}") for n, line in enumerate(lines, 1)], ignored, "classes.txt")


def opened(root, **section):
    faults = Faults()
    found = open_masks(SegmentData(path=str(root), **section), str(root), "data.path", faults)
    faults.check()
    return found


class TestClasses:
    def test_names_numbers_and_colours(self):
        assert classes_of("sky", "road  # grey", "", "a tree 7").values == [[0], [1], [7]]
        coloured = classes_of("sky 128 128 128", "road,0,1,2")
        assert coloured.names == ["sky", "road"]
        assert coloured.values == [[128, 128, 128], [0, 1, 2]]
        assert coloured.coloured

    @pytest.mark.parametrize(
        ("lines", "what"),
        [
            (("a 1 2", "b"), "one number or red, green and blue"),
            (("a 0 0 0", "b"), "some classes have colours"),
            (("a", "a"), "the name a stands for several"),
            (("a 3", "b 3"), "value"),
            (("a 0 0 256", "b 0 0 1"), "from 0 to 255"),
            (("a",), "segmentation needs two"),
            ((), "segmentation needs two"),
        ],
    )
    def test_what_is_no_list_of_classes_is_told(self, lines, what):
        with pytest.raises(DataError, match=what):
            classes_of(*lines)

    def test_ignored_classes_leave_the_outputs(self):
        found = classes_of("sky", "void", "road", ignored=["void"])
        assert found.names == ["sky", "road"]
        mask, unknown = found.read(np.array([[0, 1, 2, 255]], np.uint8))
        assert mask.tolist() == [[0, 255, 1, 255]]
        assert unknown == []
        with pytest.raises(DataError, match="did you mean void"):
            classes_of("sky", "void", "road", ignored=["viod"])

    def test_unknown_values_are_named_with_their_place(self):
        mask, (told,) = classes_of("a", "b").read(np.array([[0, 1], [9, 9], [200, 0]], np.uint8))
        assert "value 9 of 2 pixels, first at row 1, column 0" in told
        assert "value 200 of 1 pixels, first at row 2, column 0" in told
        assert mask.tolist() == [[0, 1], [255, 255], [255, 0]]
        colours = classes_of("a 0 0 0", "b 255 255 255")
        raw = np.array([[[0, 0, 0], [255, 255, 255], [1, 2, 3]]], np.uint8)
        mask, (told,) = colours.read(raw)
        assert "value (1, 2, 3) of 1 pixels" in told
        assert mask.tolist() == [[0, 1, 255]]

    def test_wide_numbers_and_grey_colours(self):
        found = classes_of("a 0", "b 1000")
        assert found.read(np.array([[0, 1000]], np.int32))[0].tolist() == [[0, 1]]
        grey = np.repeat(np.array([[[0], [1]]], np.uint8), 3, 2)
        assert classes_of("a", "b").read(grey)[0].tolist() == [[0, 1]]
        with_colour = grey.copy()
        with_colour[0, 0] = (1, 2, 3)
        assert "coloured" in classes_of("a", "b").read(with_colour)[1][0]
        palette = classes_of("a 0 0 0", "b 9 9 9").read(
            np.array([[1, 0]], np.uint8)
        )  # numbers in their order
        assert palette[0].tolist() == [[1, 0]]

    @settings(max_examples=50, deadline=None)
    @given(st.data())
    def test_colours_are_read_as_a_dictionary_would(self, data):
        colour = st.tuples(*[st.integers(0, 255)] * 3)
        known = data.draw(st.lists(colour, min_size=2, max_size=6, unique=True))
        found = classes_of(*(f"c{n} {r} {g} {b}" for n, (r, g, b) in enumerate(known)))
        pixels = data.draw(st.lists(st.sampled_from(known) | colour, min_size=1, max_size=20))
        mask, unknown = found.read(np.array([pixels], np.uint8))
        assert mask[0].tolist() == [known.index(p) if p in known else 255 for p in pixels]
        assert bool(unknown) == any(p not in known for p in pixels)

    def test_they_are_stored_and_damage_is_told(self, tmp_path):
        found = classes_of("sky 1 2 3", "void 0 0 0", "tree 9 9 9", ignored=["void"])
        found.save(tmp_path)
        assert MaskClasses.load(tmp_path) == found
        for text in ("", "{}", '{"names": ["a"], "values": [], "ignored": []}', "[1]"):
            (tmp_path / "classes.json").write_text(text)
            with pytest.raises(CheckpointError, match=r"classes\.json"):
                MaskClasses.load(tmp_path)

    def test_the_palette_is_pascals(self):
        assert [voc_colour(n) for n in (0, 1, 2, 15)] == [
            (0, 0, 0),
            (128, 0, 0),
            (0, 128, 0),
            (192, 128, 128),
        ]


class TestFolders:
    def test_split_folders_above_and_below(self, tmp_path):
        write_folders(tmp_path / "above", train=3, val=2, test=1)
        found = opened(tmp_path / "above")
        assert {name: len(part) for name, part in found.parts.items()} == {
            "train": 3,
            "validation": 2,
            "test": 1,
        }
        assert found.classes.names == ["ground", "red", "green"]
        image, mask = found.parts["train"].read(0)
        wanted = scene(np.random.default_rng(0))
        np.testing.assert_array_equal(image, wanted[0])
        np.testing.assert_array_equal(mask, wanted[1])
        below = tmp_path / "below"
        for kind in ("images", "masks"):
            (below / kind).mkdir(parents=True)
            (tmp_path / "above" / "train" / kind).rename(below / kind / "train")
            (tmp_path / "above" / "val" / kind).rename(below / kind / "val")
        assert {name: len(part) for name, part in opened(below).parts.items()} == {
            "train": 3,
            "validation": 2,
        }

    def test_suffixes_of_masks_and_other_names_of_folders(self, tmp_path):
        write_folders(tmp_path, train=2)
        (tmp_path / "train" / "masks").rename(tmp_path / "train" / "labels")
        for path in (tmp_path / "train" / "labels").iterdir():
            path.rename(path.with_name(f"{path.stem}_mask.png"))
        assert len(opened(tmp_path).parts["train"]) == 2

    def test_classes_are_found_in_the_masks_and_255_of_two_values_is_one(self, tmp_path):
        write_folders(tmp_path, train=2)
        (tmp_path / "classes.txt").unlink()
        assert opened(tmp_path).classes.names == ["0", "1", "2"]
        for path in (tmp_path / "train" / "masks").iterdir():
            Image.fromarray(np.where(np.array(Image.open(path)) > 0, 255, 0).astype(np.uint8)).save(path)
        found = opened(tmp_path)
        assert found.classes.names == ["0", "255"]
        assert set(np.unique(found.parts["train"].read(0)[1]).tolist()) == {0, 1}

    def test_partners_that_are_missing_are_all_told(self, tmp_path):
        write_folders(tmp_path, train=3, val=1)
        (tmp_path / "train" / "masks" / "001.png").unlink()
        (tmp_path / "val" / "images" / "000.png").unlink()
        with pytest.raises(DataError) as error:
            opened(tmp_path)
        assert [problem.what.split(" in ")[0] for problem in error.value.problems] == [
            "no mask named 001",
            "no picture named 000",
        ]

    def test_masks_of_which_none_fits_are_one_problem(self, tmp_path):
        write_folders(tmp_path, train=3)
        for path in (tmp_path / "train" / "masks").iterdir():
            path.rename(path.with_suffix(".xml"))
        with pytest.raises(DataError) as error:
            opened(tmp_path)
        (problem,) = error.value.problems
        assert "it holds 000.xml, 001.xml, 002.xml" in problem.what
        assert "000.png" in problem.what

    def test_sizes_that_differ_are_told_when_read(self, tmp_path):
        write_folders(tmp_path, train=2)
        Image.new("L", (5, 7)).save(tmp_path / "train" / "masks" / "000.png")
        with pytest.raises(Unreadable, match="24x32 pixels high and wide, and its mask 7x5"):
            opened(tmp_path).parts["train"].read(0)

    @pytest.mark.parametrize(
        ("make", "what"),
        [
            (lambda root: None, "no folders images and masks"),
            (lambda root: (root / "images").mkdir(), "no folders images and masks"),
        ],
    )
    def test_what_is_no_such_folder_is_told(self, tmp_path, make, what):
        make(tmp_path)
        with pytest.raises(DataError, match=what):
            opened(tmp_path)


class TestVoc:
    def test_lists_decide_and_255_is_ignored(self, tmp_path):
        found = opened(write_voc(tmp_path))
        assert found.layout == "voc"
        assert {name: len(part) for name, part in found.parts.items()} == {"train": 2, "validation": 2}
        assert found.classes.names[:2] == ["background", "aeroplane"]
        assert len(found.classes.names) == 21
        mask = found.parts["train"].read(0)[1]
        assert (mask[0] == 255).all()
        assert set(np.unique(mask[1:]).tolist()) <= {0, 1, 2}

    def test_a_listed_name_without_a_file_is_told_with_its_line(self, tmp_path):
        write_voc(tmp_path)
        with (tmp_path / "ImageSets/Segmentation/val.txt").open("a") as file:
            file.write("2007_999999\n")
        with pytest.raises(DataError, match=r"val\.txt:3: 2007_999999: there is no JPEGImages"):
            opened(tmp_path)


class TestCoco:
    def test_smaller_objects_lie_over_larger_ones(self, tmp_path):
        found = opened(write_coco(tmp_path))
        assert found.layout == "coco"
        assert found.classes.names == ["background", "hole", "square"]
        mask = found.parts["train"].read(0)[1]
        expected = np.zeros((16, 20), np.uint8)
        expected[2:12, 2:12] = 2
        expected[4:8, 4:8] = 1
        np.testing.assert_array_equal(mask, expected)

    def test_classes_that_are_ignored_and_no_background(self, tmp_path):
        write_coco(tmp_path)
        found = opened(tmp_path, background="")
        mask = found.parts["train"].read(0)[1]
        assert found.classes.names == ["hole", "square"]
        assert (mask[0] == 255).all()
        assert mask[5, 5] == 0
        found = opened(tmp_path, ignored=["hole"])
        mask = found.parts["train"].read(0)[1]
        assert found.classes.names == ["background", "square"]
        assert mask[5, 5] == 255
        assert mask[3, 3] == 1

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_run_lengths_are_pycocotools(self, data):
        coco = pytest.importorskip("pycocotools.mask")
        height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
        bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
        inside = np.array(bits).reshape(height, width)
        packed = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
        text = packed["counts"].decode()
        found = object_mask({"counts": text, "size": [height, width]}, height, width)
        np.testing.assert_array_equal(found, inside)

    def test_long_run_lengths(self):
        coco = pytest.importorskip("pycocotools.mask")
        inside = np.random.default_rng(0).random((300, 211)) < 0.01
        inside[40:200, 30:150] = True
        text = coco.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"].decode()
        np.testing.assert_array_equal(object_mask({"counts": text, "size": [300, 211]}, 300, 211), inside)

    @pytest.mark.parametrize(
        ("segmentation", "what"),
        [
            ([[1, 2, 3, 4]], "three or more pairs"),
            ([[1, 2, 3, 4, 5, 6, 7]], "three or more pairs"),
            ([[1, 2, "3", 4, 5, 6]], "three or more pairs"),
            ([[1, 2, 1e9, 4, 5, 6]], "leaves the picture"),
            ([[1, 2, float("nan"), 4, 5, 6]], "leaves the picture"),
            ([], "neither polygons nor run lengths"),
            ("text", "neither polygons nor run lengths"),
            ({"counts": [4, 4], "size": [3, 3]}, "of 8 pixels"),
            ({"counts": [4, -1, 6], "size": [3, 3]}, "no list of numbers"),
            ({"counts": [9], "size": [2, 3]}, r"of size \[2, 3\]"),
            ({"counts": "\x00", "size": [3, 3]}, "other characters"),
            ({"counts": "oooo", "size": [3, 3]}, "cut off"),
            ({"counts": None, "size": [3, 3]}, "no list of numbers"),
        ],
    )
    def test_damaged_objects_are_told(self, segmentation, what):
        with pytest.raises(ValueError, match=what):
            object_mask(segmentation, 3, 3)

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda t: t.pop("images"), "no list 'images'"),
            (lambda t: t["images"][0].pop("file_name"), "no object with id and file_name"),
            (lambda t: t["images"][0].update(file_name="x.jpg"), "there is no file x.jpg"),
            (lambda t: t["images"][0].update(height=-1), "height and width are no sizes"),
            (lambda t: t["annotations"].append(5), "is no object with image_id"),
            (lambda t: t["annotations"][0].update(image_id=99), "there is no image 99"),
            (lambda t: t["annotations"][0].update(category_id=99), "there is no category 99"),
            (lambda t: t["categories"].append("x"), "no object with a number id"),
            (lambda t: t["categories"].clear(), "there is no category"),
        ],
    )
    def test_damaged_files_are_told(self, tmp_path, change, what):
        write_coco(tmp_path)
        path = tmp_path / "annotations" / "instances_train.json"
        told = json.loads(path.read_text())
        change(told)
        path.write_text(json.dumps(told))
        with pytest.raises(DataError, match=what):
            opened(tmp_path)

    def test_what_is_no_json_is_told(self, tmp_path):
        write_coco(tmp_path)
        (tmp_path / "annotations" / "instances_train.json").write_text('{"annotations": [')
        with pytest.raises(DataError, match="is not JSON"):
            opened(tmp_path)
