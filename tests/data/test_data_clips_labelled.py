"""Sets of videos: where they are found, how they are cut into parts, kept and made into batches."""

import json
import shutil

import numpy as np
import pytest
from clips_support import level, levels, write_frames, write_video

from attncli.data.clips.augment import vary_clip
from attncli.data.clips.batches import training_batches
from attncli.data.clips.folds import hold_out
from attncli.data.clips.labelled import prepare_videos, read_video_set
from attncli.data.clips.rows import ClipRows
from attncli.data.clips.store import ArrayVideos, FileVideos
from attncli.data.images.augment import Augmentation
from attncli.errors import DataError
from attncli.recipe.video import ClipSection, VideoData

CLIP = ClipSection(frames=4, stride=[2])


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Files of 9 to 12 frames."""
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{n}.mp4", 9 + n % 4) for n in range(8)]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def by_label(folder, originals, splits=("",)):
    for split in splits:
        for number, path in enumerate(originals):
            place = folder / split / ("fall", "walk")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place / f"clip{number}.mp4")
    return folder


def write_list(folder, originals, groups=None, folds=None, splits=None):
    rows = [
        "path,label"
        + (",group" if groups else "")
        + (",fold" if folds else "")
        + (",split" if splits else "")
    ]
    for number, path in enumerate(originals):
        shutil.copy(path, folder / path.name)
        more = [values[number] for values in (groups, folds, splits) if values]
        rows.append(",".join(map(str, [path.name, ("fall", "walk")[number % 2], *more])))
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder


def section(path, **more):
    return VideoData(path=str(path), **more)


def test_folders_of_labels_are_read_and_kept(data, originals):
    sets = prepare_videos(section(by_label(data, originals), validation=0.25), CLIP)
    assert sets.labels.names == ["fall", "walk"]
    assert (len(sets.train), len(sets.validation), sets.tests) == (6, 2, [])
    assert sets.format.size == (48, 64)
    assert isinstance(sets.train.videos, ArrayVideos)
    for at, place in enumerate(sets.train.places):
        number = int(place[-5])
        assert sets.train.videos.frames(at) == 9 + number % 4
        shown = levels(sets.train.videos.read(at, np.arange(9)))
        assert all(abs(a - level(n)) < 12 for n, a in enumerate(shown))
        assert sets.train.targets[at] == number % 2
    again = prepare_videos(section(data, validation=0.25), CLIP)
    assert (again.train.videos.pixels == sets.train.videos.pixels).all()


def test_split_folders_and_folders_of_frames(data, originals):
    by_label(data, originals[:4], ("train", "val"))
    for label in ("fall", "walk"):
        write_frames(data / "test" / label / "a", 7)
    sets = prepare_videos(section(data), CLIP)
    assert [len(part) for part in (sets.train, sets.validation, *sets.tests)] == [4, 4, 2]
    assert sets.tests[0].name == "test"
    assert levels(sets.tests[0].videos.read(0, np.array([6, 0]))) == [level(6), level(0)]


def test_decoding_when_asked_for_gives_the_same(data, originals):
    by_label(data, originals)
    kept = prepare_videos(section(data), CLIP)
    asked = prepare_videos(section(data, memory=0), CLIP)
    assert isinstance(asked.train.videos, FileVideos)
    assert "decoded as they are needed" in asked.describe()
    batches = [
        training_batches(sets.train, CLIP, sets.format, None, batch=3, seed=5) for sets in (kept, asked)
    ]
    for _ in range(4):
        (one,), (other,) = (stream.next([0], 1) for stream in batches)
        assert set(one) == set(other)
        assert all((one[name] == other[name]).all() for name in one)


def test_folds_keep_groups_apart(data, originals):
    groups, folds = [0, 0, 1, 1, 2, 2, 3, -1], [0, 0, 1, 1, 2, 2, 1, -1]
    write_list(data, originals, groups, folds)
    sets = prepare_videos(section(data, fold=0, validation=0.3), CLIP)
    numbers = {
        part.name: {int(place[-5]) for place in part.places}
        for part in (sets.train, sets.validation, *sets.tests)
    }
    assert numbers["test"] == {0, 1}
    assert 7 in numbers["train"]
    sides = {name: {groups[n] for n in found} for name, found in numbers.items()}
    assert not sides["train"] & sides["validation"]
    assert not sides["test"] & (sides["train"] | sides["validation"])
    assert set.union(*numbers.values()) == set(range(8))
    with pytest.raises(DataError, match="no fold 9") as wrong:
        prepare_videos(section(data, fold=9), CLIP)
    assert "it has 0, 1, 2" in wrong.value.problems[0].hint


def test_a_group_in_two_folds_is_refused(data, originals):
    write_list(data, originals[:4], ["a", "a", "b", "b"], [0, 1, 1, 1])
    with pytest.raises(DataError, match="group a stands in fold 0 and in fold 1"):
        prepare_videos(section(data, fold=0), CLIP)


def test_a_column_of_splits(data, originals):
    splits = ["train", "train", "val", "val", "test", "test_night", "train", "train"]
    write_list(data, originals, splits=splits)
    sets = prepare_videos(section(data), CLIP)
    assert [(part.name, len(part)) for part in (sets.train, sets.validation, *sets.tests)] == [
        ("train", 4), ("validation", 2), ("test", 1), ("test_night", 1)
    ]  # fmt: skip
    other = read_video_set(section(data), CLIP, sets.labels, sets.format, "test_night", part=True)
    assert other.places == [str(data / "5.mp4")]


def test_json_lines_and_groups_on_both_sides_are_told(data, originals):
    for path in originals:
        shutil.copy(path, data / path.name)
    rows = [
        {"video": path.name, "class": "ab"[n % 2], "split": ("train", "test")[n > 5], "group": n % 3}
        for n, path in enumerate(originals)
    ]
    (data / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sets = prepare_videos(section(data / "all.jsonl"), CLIP)
    assert sets.shared == ["0", "1"]
    assert "groups on more than one side: 0, 1" in sets.describe()


@pytest.mark.parametrize("corrupt", ["refuse", "skip"])
def test_broken_videos_are_named_or_left_out(data, originals, corrupt):
    by_label(data, originals)
    (data / "walk" / "bad1.mp4").write_bytes(b"nothing")
    (data / "fall" / "bad2.mp4").write_bytes(originals[0].read_bytes()[:700])
    if corrupt == "skip":
        sets = prepare_videos(section(data, corrupt=corrupt), CLIP)
        assert len(sets.train) + len(sets.validation) == 8
        assert "2 that cannot be decoded are left out" in sets.describe()
        return
    with pytest.raises(DataError) as wrong:
        prepare_videos(section(data), CLIP)
    assert [problem.where for problem in wrong.value.problems] == [
        str(data / "fall" / "bad2.mp4"),
        str(data / "walk" / "bad1.mp4"),
    ]
    assert wrong.value.then.endswith("data.corrupt=skip")


def test_what_is_wrong_with_a_list_is_told_at_once(data, originals):
    shutil.copy(originals[0], data / "a.mp4")
    (data / "clips.csv").write_text("path,label,fold\na.mp4,x,0\n,x,0\nhttp://x/a.mp4,y,zero\nb.mp4,y,1\n")
    with pytest.raises(DataError) as wrong:
        prepare_videos(section(data), CLIP)
    told = "\n".join(f"{p.where}: {p.what}" for p in wrong.value.problems)
    assert "clips.csv:3: no path of a video" in told
    assert "clips.csv:4: http://x/a.mp4 is an address" in told
    assert "clips.csv:5): there is no such file" in told


def one_label(data, one):
    by_label(data, [one, one, one])
    shutil.rmtree(data / "walk")


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda data, one: None, "no video in this folder; it is empty"),
        (lambda data, one: write_video(data / "a.mp4", 3), "stand in no folder of a label"),
        (lambda data, one: one_label(data, one), "one label only"),
        (lambda data, one: by_label(data, [one]), "1 video only, so none"),
        (
            lambda data, one: write_frames(data / "train" / "x"),
            "a folder of pictures where a folder of a label",
        ),
    ],
)
def test_layouts_that_are_none(data, originals, build, what):
    build(data, originals[0])
    with pytest.raises(DataError, match=what):
        prepare_videos(section(data), CLIP)


def test_sizes_that_differ_need_one(data, originals):
    by_label(data, originals)
    write_video(data / "walk" / "other.mp4", [np.zeros((32, 32, 3), np.uint8)] * 9)
    with pytest.raises(DataError, match="2 sizes") as wrong:
        prepare_videos(section(data), CLIP)
    assert "clip.size=[48,64]" in wrong.value.problems[0].hint
    sets = prepare_videos(section(data), ClipSection(frames=4, size=[24, 32], channels="grey"))
    assert sets.format.size == (24, 32)
    assert sets.train.videos.read(0, np.array([0])).shape == (1, 24, 32, 1)


def test_a_rate_needs_times(data):
    for label in ("a", "b"):
        write_frames(data / label / "clip")
    with pytest.raises(DataError, match="which have no times"):
        prepare_videos(section(data), ClipSection(rate=5.0))


# Batches


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    lengths = [5, 12, 20, 7, 9, 16]
    pixels = rng.integers(0, 256, (sum(lengths), 8, 8, 1), np.uint8)
    return ArrayVideos(pixels, np.cumsum([0, *lengths]))


def rows_of(arrays, **more):
    shape = {"frames": 4, "strides": [2], "batch": 4, "size": (8, 8)} | more
    return ClipRows(arrays, np.arange(len(arrays)), **shape)


def test_a_batch_holds_what_the_videos_hold(arrays):
    rows = rows_of(arrays, clips=3)
    found = {}
    for item in rows.plan(0, 0, np.random.default_rng(0)):
        made = rows.make(item, np.random.default_rng(0))
        for at, row in enumerate(made["row"]):
            found[int(row)] = {name: values[at] for name, values in made.items()}
    assert sorted(found) == list(range(len(rows.spread)))
    for one in found.values():
        video = int(one["index"])
        assert one["labels"] == video
        clip = one["clips"].transpose(0, 2, 3, 1)
        keep = one.get("keep", np.ones(4, bool))
        whole = arrays.read(video, np.arange(arrays.frames(video)))
        starts = [
            s for s in range(len(whole)) if np.array_equal(whole[s : s + 7 : 2][: keep.sum()], clip[keep])
        ]
        assert starts
        assert keep.all() == (len(whole) >= 7)


def test_training_goes_on_exactly_where_it_was(arrays):
    from attncli.data.order import EpochBatches

    how = Augmentation(flip=0.5, shift=2, erase=0.3)
    stream = EpochBatches(rows_of(arrays, how=how), 3)
    whole = [stream.next([0], 1)[0] for _ in range(7)]
    for stop in (1, 3, 6):
        first = EpochBatches(rows_of(arrays, how=how), 3)
        for _ in range(stop):
            first.next([0], 1)
        second = EpochBatches(rows_of(arrays, how=how), 3)
        second.load_state_dict(first.state_dict())
        for wanted in whole[stop:]:
            (found,) = second.next([0], 1)
            assert all((found[name] == wanted[name]).all() for name in wanted)
        first.close()
        second.close()
    stream.close()


def test_worker_processes_make_the_same_batches(arrays):
    from attncli.data.order import EpochBatches

    streams = [EpochBatches(rows_of(arrays, how=Augmentation(shift=2)), 3, workers=n) for n in (0, 2)]
    for _ in range(4):
        (one,), (other,) = (stream.next([0], 1) for stream in streams)
        assert all((one[name] == other[name]).all() for name in one)
    for stream in streams:
        stream.close()


def test_all_frames_of_a_clip_are_varied_alike():
    frame = np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)
    clip = np.repeat(frame[None], 5, 0)
    how = Augmentation(flip=0.5, shift=4, scale=0.5, operations=2, erase=0.5, brightness=0.4)
    changed = 0
    for seed in range(20):
        found = vary_clip(clip, np.random.default_rng(seed), how, (24, 24))
        assert (found == found[:1]).all()
        changed += bool((found[0] != frame).any())
    assert changed == 20


def test_mixed_clips_keep_their_frames_together(arrays):
    rows = rows_of(arrays, how=Augmentation(cutmix=1.0), frames=2, strides=[1])
    made = rows.make(np.arange(6), np.random.default_rng(2))
    assert set(made) == {"clips", "labels", "other", "share", "index"}
    plain = rows_of(arrays, frames=2, strides=[1]).make(np.arange(6), np.random.default_rng(2))
    changed = (made["clips"] != plain["clips"]).any((1, 2))  # [B, H, W]
    for at in np.flatnonzero(made["other"] != made["labels"]):
        assert abs((1 - made["share"][at]) * 64 - changed[at].sum()) <= 6


# Groups


def test_groups_are_held_out_whole_and_near_the_share():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 400)
    labels = rng.integers(0, 3, 400)
    held = hold_out(labels.tolist(), groups.tolist(), 0.2)
    for group in range(40):
        assert len(set(held[groups == group])) == 1
    for label in range(3):
        assert abs(held[labels == label].mean() - 0.2) < 0.08
    again = hold_out(labels.tolist(), groups.tolist(), 0.2)
    assert (held == again).all()


def test_some_group_is_held_out_and_never_all():
    assert hold_out(["a", "b"], [1, 1], 0.5).sum() == 0
    for share in (0.01, 0.5, 0.99):
        held = hold_out(["a", "b", "a"], [1, 2, 3], share)
        assert 0 < held.sum() < 3
    barred = hold_out(["a", "b", "a", "b"], [1, 1, 2, 3], 0.9, [False, True, True, True])
    assert not barred[:2].any()
