"""Pictures by number: the same from every store, cheap to send to a worker, decoded once."""

import copy
import os
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from pictures_support import class_folder, encode, noise

from attncli.data.faults import Faults
from attncli.data.images.keeping import decoded_bytes, keep_decoded
from attncli.data.images.packed import pack
from attncli.data.images.reading import Unreadable
from attncli.data.images.shaping import Look
from attncli.data.images.store import ArrayPictures, BytesPictures, FilePictures, RaggedPictures
from attncli.data.images.survey import survey
from attncli.data.images.tables import Row

LOOKS = [Look("rgb"), Look("grey", (6, 5)), Look("rgb", (4, 4), "pad"), Look("rgb", (4, 4), room=1.5)]


def sources(folder, count=5, sizes=((8, 9),)):
    """The same pictures in files and as bytes."""
    blobs = [encode(noise(*sizes[n % len(sizes)], seed=n)) for n in range(count)]
    paths = []
    for n, blob in enumerate(blobs):
        paths.append(folder / f"{n}.png")
        paths[-1].write_bytes(blob)
    return FilePictures(paths), BytesPictures.of(blobs)


def sent(pictures):
    """As a worker process receives it, and the bytes that takes."""
    data = bytes(ForkingPickler.dumps(pictures))
    return ForkingPickler.loads(data), len(data)


@pytest.mark.parametrize("look", LOOKS)
def test_files_bytes_and_kept_pictures_are_the_same(tmp_path, look):
    files, blobs = sources(tmp_path, sizes=((8, 9), (12, 7)))
    files, blobs = files.seen(look), blobs.seen(look)
    kept = keep_decoded(files, tmp_path / "cache")
    assert kept.unreadable == {}
    for at in range(5):
        assert (files.read(at) == blobs.read(at)).all()
        assert (files.read(at) == kept.pictures.read(at)).all()
    one = look.size is not None and look.room == 1
    assert isinstance(kept.pictures, ArrayPictures if one else RaggedPictures)
    sizes = survey(files, tmp_path / "cache").sizes
    assert decoded_bytes(files, sizes) == sum(files.read(at).size for at in range(5))
    some = np.array([3, 1])
    assert (files.take(some).read(0) == files.read(3)).all()
    assert (blobs.take(some).take(np.array([1])).read(0) == blobs.read(1)).all()


def test_what_is_on_disk_is_sent_as_its_path(tmp_path):
    files, blobs = sources(tmp_path, 40, sizes=((64, 64),))
    rows = (Row(blobs.bytes_of(at), at % 2, None, f"row {at}", None) for at in range(40))
    packed = pack(rows, Faults(), tmp_path / "cache", "key")
    kept = keep_decoded(files.seen(Look("rgb", (32, 32))), tmp_path / "cache").pictures
    ragged = keep_decoded(files.seen(Look("rgb", (32, 32), room=1.2)), tmp_path / "cache").pictures
    assert packed.labels[:3] == [0, 1, 0]
    for pictures in (packed.pictures, kept, ragged):
        pictures.read(0)
        copied, size = sent(pictures)
        assert size < 3000
        assert (copied.read(7) == pictures.read(7)).all()
    if isinstance(kept, ArrayPictures):
        few = kept.take(np.array([5, 6]))
        assert (few.many(np.array([1, 0]))[0] == kept.read(6)).all()
        assert (sent(few)[0].read(0) == kept.read(5)).all()


def test_pictures_are_decoded_once_and_again_when_a_file_changes(tmp_path, monkeypatch):
    files, _ = sources(tmp_path)
    files = files.seen(Look("rgb"))
    first = keep_decoded(files, tmp_path / "cache")
    reads = []
    monkeypatch.setattr(FilePictures, "read", lambda self, at: reads.append(at) or noise(2, 2))
    assert (keep_decoded(files, tmp_path / "cache").pictures.read(2) == first.pictures.read(2)).all()
    assert reads == []
    keep_decoded(files.seen(Look("grey")), tmp_path / "cache")
    assert len(reads) == 5
    Path(files.paths[2]).write_bytes(encode(noise(9, 9)))
    keep_decoded(files, tmp_path / "cache")
    assert len(reads) == 10


def test_a_damaged_cache_is_built_again_and_a_broken_off_one_is_not_there(tmp_path, monkeypatch):
    files, _ = sources(tmp_path)
    files = files.seen(Look("rgb"))
    kept = keep_decoded(files, tmp_path / "cache").pictures
    (entry,) = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    data = bytearray((entry / "pixels.bin").read_bytes())
    data[10] ^= 1
    (entry / "pixels.bin").write_bytes(bytes(data))
    assert (keep_decoded(files, tmp_path / "cache").pictures.read(0) == kept.read(0)).all()

    def stopped(self, at):
        if at == 3:
            raise KeyboardInterrupt
        return noise(2, 2)

    monkeypatch.setattr(FilePictures, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        keep_decoded(files, tmp_path / "other")
    assert not [p for p in (tmp_path / "other").iterdir() if p.is_dir()]


def test_unreadable_ones_are_left_out_in_order(tmp_path):
    files, _ = sources(tmp_path)
    Path(files.paths[1]).write_bytes(b"x")
    kept = keep_decoded(files.seen(Look("rgb")), tmp_path / "cache")
    assert kept.unreadable == {1: "is no picture (JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000, AVIF)"}
    assert len(kept.pictures) == 4
    assert (kept.pictures.read(1) == files.read(2)).all()
    again = keep_decoded(files.seen(Look("rgb")), tmp_path / "cache")
    assert again.unreadable == kept.unreadable


@pytest.mark.parametrize("count", [5, 1100])
def test_a_survey_reads_every_header_and_is_kept(tmp_path, count, monkeypatch):
    blobs = [encode(noise(3, 4, 1 if n == 2 else 3)) for n in range(3)] + [b"", encode(noise(5, 4))[:-30]]
    pictures = BytesPictures.of(blobs * (count // 5))
    found = survey(pictures, tmp_path)
    assert found.sizes[:5].tolist() == [[3, 4], [3, 4], [3, 4], [0, 0], [0, 0]]
    assert found.grey[:5].tolist() == [False, False, True, False, False]
    assert len(found.unreadable) == 2 * count // 5
    assert found.unreadable[3] == "is empty (no bytes)"
    assert "truncated" in found.unreadable[4]
    monkeypatch.setattr(BytesPictures, "header", lambda self, at: (_ for _ in ()).throw(Unreadable("again")))
    again = survey(pictures, tmp_path)
    assert ("again" in again.unreadable.values()) == (count == 5)
    assert ((again.sizes == found.sizes).all()) == (count != 5)


def test_identity_follows_content():
    blobs = [encode(noise(4, 4, seed=n)) for n in range(3)]
    one, same, other = (
        BytesPictures.of(blobs),
        BytesPictures.of(copy.copy(blobs)),
        BytesPictures.of(blobs[::-1]),
    )
    assert one.identity() == same.identity()
    assert one.identity() != other.identity()
    assert one.identity() != one.take(np.array([0, 1])).identity()


def test_links_in_circles_end(tmp_path):
    from attncli.data.images.folders import picture_files

    class_folder(tmp_path / "a", ("cat",), each=2)
    os.symlink(tmp_path / "a", tmp_path / "a" / "cat" / "again")
    os.symlink(tmp_path / "a" / "cat", tmp_path / "linked")
    assert len(list(picture_files(tmp_path / "a"))) == 2
    assert len(list(picture_files(tmp_path / "linked"))) == 2
