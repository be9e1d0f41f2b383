"""Sets of pictures with masks: parts, statistics, pieces, batches that come again exactly."""

import pickle

import numpy as np
import pytest
import torch
from masks_support import scene, write_folders
from PIL import Image

from attncli.data.images.paired import FilePairs, HeldPairs, KeptPairs, PairLook
from attncli.data.images.piece import cut_piece
from attncli.data.images.scenes import NAMES, scenes
from attncli.data.images.segmentation import (
    SegmentSet,
    prepare_segments,
    read_segment_set,
    training_pieces,
    whole_pictures,
)
from attncli.errors import DataError, RecipeError
from attncli.recipe.segment import SegmentAugment, SegmentData
from attncli.recipe.vision import PixelSection

STILL = SegmentAugment(flip=0)
WILD = SegmentAugment(
    flip=0.5,
    vertical=0.5,
    scale=[0.4, 2.5],
    stretch=1.3,
    rotate=30,
    rare=0.5,
    brightness=0.3,
    hue=0.1,
    blur=0.5,
)


def prepare(root, image=None, augment=STILL, **section):
    return prepare_segments(
        SegmentData(path=str(root), **section), image or PixelSection(fit="stretch"), augment
    )


def test_parts_statistics_and_names(tmp_path):
    sets = prepare(write_folders(tmp_path, train=4, val=2, test=1))
    assert (len(sets.train), len(sets.validation), [len(t) for t in sets.tests]) == (4, 2, [1])
    assert sets.pixels.size == (24, 32)
    assert sets.pixels.channels == 3
    images = np.stack([sets.train.pairs.read(n)[0] for n in range(4)]) / 255
    np.testing.assert_allclose(sets.pixels.mean, images.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(sets.pixels.std, images.std((0, 1, 2)), atol=1e-5)
    masks = np.stack([sets.train.pairs.read(n)[1] for n in range(4)])
    assert sets.counts.tolist() == [[int((m == c).sum()) for c in range(3)] for m in masks]
    assert "4 training and 2 validation, 1 test colour pictures" in sets.describe()


def test_validation_is_held_out_where_there_is_none(tmp_path):
    sets = prepare(write_folders(tmp_path, train=20))
    assert (len(sets.train), len(sets.validation), sets.tests) == (18, 2, [])


def test_all_that_cannot_be_used_is_told_or_skipped(tmp_path):
    write_folders(tmp_path, train=6, val=2)
    masks = tmp_path / "train" / "masks"
    (tmp_path / "train" / "images" / "000.png").write_bytes(b"no picture")
    Image.new("L", (5, 5)).save(masks / "001.png")
    odd = np.array(Image.open(masks / "002.png"))
    odd[3, 4] = 77
    Image.fromarray(odd).save(masks / "002.png")
    with pytest.raises(DataError) as error:
        prepare(tmp_path)
    told = [str(problem) for problem in error.value.problems]
    assert len(told) == 3
    assert "000.png: is no picture" in told[0]
    assert "its mask 5x5" in told[1]
    assert "value 77 of 1 pixels, first at row 3, column 4" in told[2]
    sets = prepare(tmp_path, corrupt="skip")
    assert len(sets.train) == 3
    assert "3 unusable ones left out" in sets.describe()


def test_what_does_not_fit_in_memory_is_read_again(tmp_path):
    write_folders(tmp_path, train=4, val=2)
    held, read = prepare(tmp_path), prepare(tmp_path, memory=0)
    assert isinstance(held.train.pairs, KeptPairs)
    assert isinstance(read.train.pairs, FilePairs)
    for one, two in zip(held.train.pairs.read(2), read.train.pairs.read(2), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_was_decoded_is_read_back_and_a_changed_file_is_decoded_anew(tmp_path, monkeypatch):
    write_folders(tmp_path, train=4, val=2)
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))
    first = prepare(tmp_path)
    entries = sorted((tmp_path / "cache").glob("pairs-*/pixels.bin"))
    again = prepare(tmp_path)
    assert sorted((tmp_path / "cache").glob("pairs-*/pixels.bin")) == entries
    assert len(entries) == 2
    np.testing.assert_array_equal(first.counts, again.counts)
    one = pickle.loads(pickle.dumps(again.train.pairs))
    np.testing.assert_array_equal(one.read(3)[0], first.train.pairs.read(3)[0])
    np.testing.assert_array_equal(one.take([3]).read(0)[1], first.train.pairs.read(3)[1])
    Image.new("L", (32, 24)).save(tmp_path / "train" / "masks" / "000.png")
    assert prepare(tmp_path).counts[0].tolist() == [24 * 32, 0, 0]


def test_sizes_that_differ_need_pieces_or_one_size(tmp_path):
    write_folders(tmp_path, train=2, val=1)
    image, mask = scene(np.random.default_rng(9), 40, 30)
    Image.fromarray(image).save(tmp_path / "train" / "images" / "big.png")
    Image.fromarray(mask).save(tmp_path / "train" / "masks" / "big.png")
    with pytest.raises(RecipeError, match=r"2 sizes \(24x32, 40x30\).*train.augment.crop=16"):
        prepare(tmp_path)
    assert prepare(tmp_path, augment=SegmentAugment(crop=[16])).pixels.size == (16, 16)
    assert prepare(tmp_path, image=PixelSection(size=[20, 20])).pixels.size == (20, 20)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_masks_are_shaped_with_their_pictures(fit):
    rng = np.random.default_rng(0)
    mask = np.repeat(np.repeat(rng.integers(0, 3, (6, 10)).astype(np.uint8), 8, 0), 8, 1)  # [48, 80]
    image = np.repeat(mask[..., None] * 100, 3, 2)
    small, labels = PairLook(size=(24, 24), fit=fit).shape(image, mask)
    assert small.shape == (24, 24, 3)
    inside = labels != 255
    assert (fit == "pad") == (not inside.all())
    agree = np.abs(small[..., 0].astype(int) - labels * 100)[inside] < 60
    assert agree.mean() > 0.75  # but where squares are blended


class TestPieces:
    def image(self):
        rng = np.random.default_rng(3)
        mask = np.repeat(np.repeat(rng.integers(0, 4, (5, 6)).astype(np.uint8), 8, 0), 8, 1)
        return np.repeat(mask[..., None] * 60, 3, 2), mask

    def test_nothing_to_vary_changes_nothing(self):
        image, mask = self.image()
        piece, labels = cut_piece(image, mask, np.random.default_rng(0), STILL, mask.shape)
        np.testing.assert_array_equal(piece, image)
        np.testing.assert_array_equal(labels, mask)

    @pytest.mark.parametrize("seed", range(12))
    def test_a_mask_moves_with_its_picture(self, seed):
        image, mask = self.image()
        still = WILD.model_copy(update={"brightness": 0.0, "hue": 0.0, "blur": 0.0})
        piece, labels = cut_piece(image, mask, np.random.default_rng(seed), still, (32, 40))
        assert piece.shape == (32, 40, 3)
        assert labels.shape == (32, 40)
        inside = labels != 255
        agree = np.abs(piece[..., 0].astype(int) - labels.astype(int) * 60)[inside] <= 30
        assert inside.mean() > 0.1
        assert agree.mean() > 0.8

    def test_the_same_generator_gives_the_same_piece(self):
        image, mask = self.image()
        one, two = (cut_piece(image, mask, np.random.default_rng(5), WILD, (32, 40)) for _ in range(2))
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])

    def test_a_smaller_picture_is_surrounded_by_what_does_not_count(self):
        image, mask = self.image()
        half = SegmentAugment(flip=0, scale=[0.5, 0.5])
        piece, labels = cut_piece(image, mask, np.random.default_rng(1), half, mask.shape, fill=9)
        assert (labels != 255).sum() == mask.size // 4
        assert (piece[labels == 255] == 9).all()

    def test_rare_classes_are_sought(self):
        mask = np.zeros((64, 64), np.uint8)
        mask[60, 2] = 1
        image = np.zeros((64, 64, 3), np.uint8)
        sought = SegmentAugment(flip=0, rare=1.0, crop=[16])

        def seen(how):
            return sum(
                (cut_piece(image, mask, np.random.default_rng(s), how, (16, 16))[1] == 1).any()
                for s in range(60)
            )

        assert seen(sought) > 20
        assert seen(sought.model_copy(update={"rare": 0.0})) < 10

    def test_larger_originals_give_detail(self):
        """With room 2 a piece of scale 2 is cut out of the original as it is."""
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
        mask = rng.integers(0, 4, (40, 40)).astype(np.uint8)
        twice = SegmentAugment(flip=0, scale=[2.0, 2.0])
        piece, labels = cut_piece(image, mask, np.random.default_rng(2), twice, (20, 20), room=(2.0, 2.0))
        at = [
            (y, x)
            for y in range(21)
            for x in range(21)
            if np.array_equal(mask[y : y + 20, x : x + 20], labels)
        ]
        assert at
        assert piece.std() > 30


class TestBatches:
    def sets(self, tmp_path):
        return prepare(write_folders(tmp_path, train=7, val=5), augment=WILD)

    def test_an_epoch_sees_each_picture_once_and_comes_again_exactly(self, tmp_path):
        sets = self.sets(tmp_path)

        def stream():
            return training_pieces(sets, WILD, [], 3, seed=4)

        first, again = stream(), stream()
        seen, states = [], []
        for _ in range(6):
            (batch,), (other,) = first.next([0], 1), again.next([0], 1)
            assert batch["images"].shape[1:] == (3, 24, 32)
            assert batch["images"].is_contiguous(memory_format=torch.channels_last)
            for name in batch:
                assert torch.equal(batch[name], other[name])
            seen += batch["index"].tolist()
            states.append(first.state_dict())
        assert sorted(seen[:7]) == sorted(seen[7:]) == list(range(7))
        later = stream()
        later.load_state_dict(states[3])
        assert torch.equal(later.next([0], 1)[0]["masks"], _at(stream(), 5)["masks"])
        for made in (first, again, later):
            made.close()

    def test_pictures_of_one_size_are_measured_together(self):
        rng = np.random.default_rng(0)
        shapes = [(8, 8), (9, 8), (8, 8), (8, 8), (9, 8)]
        images = [rng.integers(0, 255, (*s, 3)).astype(np.uint8) for s in shapes]
        masks = [np.zeros(s, np.uint8) for s in shapes]
        examples = SegmentSet("x", HeldPairs(images, masks), np.array(shapes))
        batches = list(whole_pictures(examples, 2))
        assert [batch["index"].tolist() for batch in batches] == [[0, 2], [3], [1, 4]]


def _at(stream, number):
    for _ in range(number):
        (batch,) = stream.next([0], 1)
    stream.close()
    return batch


def test_the_built_in_scenes_are_always_the_same_and_show_every_class():
    images, masks = scenes("train", 30)
    again, _ = scenes("train", 2)
    np.testing.assert_array_equal(images[:2], again)
    assert images.shape == (30, 96, 96, 3)
    assert set(np.unique(masks).tolist()) == set(range(len(NAMES)))
    assert 0.02 < (masks > 0).mean() < 0.2
    assert not np.array_equal(scenes("test", 1)[0], images[:1])


def test_a_finished_model_is_measured_on_a_part_or_on_other_data(tmp_path):
    sets = prepare(write_folders(tmp_path / "one", train=4, val=2, test=3))
    other = write_folders(tmp_path / "two", val=2)
    section, image = SegmentData(path=str(tmp_path / "one")), PixelSection(fit="stretch")

    def read(name, part):
        return read_segment_set(section, image, sets.classes, sets.pixels, name, part=part)

    assert len(read("test", True)) == 3
    assert len(read("val", True)) == 2
    assert len(read(str(other), False)) == 2
    with pytest.raises(DataError, match=r"there is no part 'tset'.*did you mean --split=test"):
        read("tset", True)
