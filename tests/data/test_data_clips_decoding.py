"""Decoding: every frame by its number, and everything that is no video told, not raised."""

import random

import av
import numpy as np
import pytest
from clips_support import frame, level, levels, write_frames, write_sound, write_video
from PIL import Image

from attncli.data.clips.decoding import frames_of, read_frames, survey
from attncli.data.clips.store import timeline
from attncli.data.images.reading import Unreadable

CODECS = [("libx264", "mp4"), ("mpeg4", "avi"), ("mjpeg", "mkv"), ("libvpx-vp9", "webm"), ("gif", "gif")]


def by_av(path):
    """All frames as PyAV gives them."""
    with av.open(str(path)) as container:
        return [raw.to_ndarray(format="rgb24") for raw in container.decode(video=0)]


@pytest.mark.parametrize(("codec", "ending"), CODECS)
def test_frames_by_number_are_those_of_a_plain_decoding(tmp_path, codec, ending):
    if codec not in av.codecs_available:
        pytest.skip("this build has no such encoder")
    path = write_video(tmp_path / f"a.{ending}", 23, codec=codec)
    film = survey(path)
    plain = by_av(path)
    assert film.frames == len(plain) == 23
    assert film.size == (48, 64)
    assert all((a == b).all() for a, b in zip(frames_of(path), plain, strict=True))
    rng = random.Random(0)
    for _ in range(12):
        numbers = np.array(rng.choices(range(23), k=rng.randint(1, 6)))
        found = read_frames(path, film, numbers)
        assert set(found) == set(numbers.tolist())
        assert all((found[n] == plain[n]).all() for n in found)
    for number in range(23):
        assert abs(levels(plain[number][None])[0] - level(number)) < 12


def test_only_what_is_asked_for_is_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 120, gop=10, bframes=0)
    film = survey(path)
    decoded = 0
    from attncli.data.clips import decoding

    inner = decoding._decoded

    def watched(stream, packets=None):
        nonlocal decoded
        for one in inner(stream, packets):
            decoded += 1
            yield one

    monkeypatch.setattr(decoding, "_decoded", watched)
    found = read_frames(path, film, np.array([3, 95]))
    assert sorted(found) == [3, 95]
    assert decoded <= 20


def test_times_of_a_variable_rate(tmp_path):
    times = [0.0, 0.1, 0.2, 0.9, 1.0, 1.5, 1.6]
    film = survey(write_video(tmp_path / "a.mkv", 7, times=times, bframes=0))
    assert np.allclose(film.times, times, atol=2e-3)
    line = timeline(film, 10.0)
    shown = [max(at for at, t in enumerate(times) if t <= k / 10 + 1e-6) for k in range(len(line))]
    assert line.tolist() == shown
    assert timeline(film, 0).tolist() == list(range(7))


@pytest.mark.parametrize(("rate", "wanted"), [(6.0, [0, 2, 4, 6, 8, 10]), (24.0, sorted([*range(12)] * 2))])
def test_another_rate(tmp_path, rate, wanted):
    film = survey(write_video(tmp_path / "a.mp4", 12, rate=12))
    assert timeline(film, rate).tolist() == wanted


def test_rotation_of_the_file_is_applied(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3)
    turned = tmp_path / "b.mp4"
    raw = bytearray(path.read_bytes())
    at = raw.index(b"tkhd") + 4 + 4 + 20 + 16  # the matrix of the track: a quarter turn clockwise
    matrix = [0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 0, 0, 1 << 30]
    raw[at : at + 36] = b"".join(n.to_bytes(4, "big") for n in matrix)
    turned.write_bytes(raw)
    film = survey(turned)
    assert film.size == (64, 48)
    upright, found = next(frames_of(path)), next(frames_of(turned))
    assert (found == np.rot90(upright, -1)).all()
    assert (read_frames(turned, film, np.array([0]))[0] == found).all()


def test_a_folder_of_frames_in_the_order_of_its_numbers(tmp_path):
    folder = write_frames(tmp_path / "clip", 12)
    (folder / "notes.txt").write_text("no frame")
    film = survey(folder)
    assert (film.frames, film.size, film.times) == (12, (48, 64), None)
    assert levels(np.stack(list(frames_of(folder)))) == [level(n) for n in range(12)]
    found = read_frames(folder, film, np.array([10, 2]))
    assert levels(np.stack([found[10], found[2]])) == [level(10), level(2)]
    Image.fromarray(frame(3, (20, 20))).save(folder / "frame12.png")
    with pytest.raises(Unreadable, match="changes its size at frame frame12"):
        survey(folder)


def test_grey_channels(tmp_path):
    path = write_video(tmp_path / "a.mp4", 2)
    grey = next(frames_of(path, "grey"))
    assert grey.shape == (48, 64, 1)
    assert (grey == np.asarray(Image.fromarray(next(frames_of(path))).convert("L"))[..., None]).all()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("v") / "a.mp4", 20).read_bytes()


def malformed():
    """Sixty files: names with functions from the bytes of a good one to those of a bad one."""
    yield "empty", lambda good: b""
    yield "text", lambda good: b"a cat and a dog\n" * 40
    yield "page", lambda good: b"<!doctype html><html><body>404</body></html>"
    yield "pointer", lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    yield (
        "playlist",
        lambda good: (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
        ),
    )
    yield "concat", lambda good: b"ffconcat version 1.0\nfile '/etc/hostname'\n"
    yield (
        "sdp",
        lambda good: (
            b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        ),
    )
    yield "script", lambda good: b"#!/bin/sh\nexit 1\n"
    yield "zeros", lambda good: bytes(5000)
    yield "ones", lambda good: b"\xff" * 5000
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
        yield f"cut at {share}", lambda good, share=share: good[: int(share * len(good))]
    for name in (
        b"ftyp",
        b"moov",
        b"trak",
        b"mdia",
        b"stbl",
        b"stsd",
        b"stsz",
        b"stco",
        b"stts",
        b"avcC",
        b"mdat",
    ):
        yield f"without {name.decode()}", lambda good, name=name: good.replace(name, b"free", 1)
    yield "doubled", lambda good: good + good
    yield "backwards", lambda good: good[::-1]
    yield "header alone", lambda good: good[:32]
    yield "padded before", lambda good: bytes(64) + good
    for seed in range(28):

        def flipped(good, seed=seed):
            rng, raw = random.Random(seed), bytearray(good)
            for _ in range(1 + seed):
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            return bytes(raw)

        yield f"flipped {seed}", flipped


BAD = dict(malformed())
HARMLESS = ("doubled", "padded before", *(f"flipped {n}" for n in range(28)))


def test_there_are_sixty_of_them():
    assert len(BAD) >= 60


def looked(path):
    try:
        return survey(path), ""
    except Unreadable as error:
        return None, error.reason


@pytest.mark.parametrize("name", BAD)
def test_malformed_files_are_told(tmp_path, capfd, good, name):
    path = tmp_path / "a.mp4"
    path.write_bytes(BAD[name](good))
    film, reason = looked(path)
    if film is None:
        assert 5 < len(reason) < 200
        assert "\n" not in reason
    else:
        assert name in HARMLESS or name.startswith("without"), f"{name} passed as {film}"
        assert len(list(frames_of(path))) == film.frames
    assert capfd.readouterr() == ("", "")


def test_what_else_is_no_video(tmp_path):
    (tmp_path / "nothing").mkdir()
    pipe = write_sound(tmp_path / "sound.m4a")
    cases = {
        tmp_path / "absent.mp4": "no such file",
        tmp_path / "nothing": "has no frame",
        pipe: "no video stream",
    }
    for path, reason in cases.items():
        with pytest.raises(Unreadable, match=reason):
            survey(path)


def test_names_are_names_and_no_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    for name in ("concat:a.mp4|b.mp4", "http:a.mp4", "pipe:0", "-i", "a 'b' \"c\".mp4", "%03d.mp4"):
        write_video(tmp_path / "x.mp4", 3)
        (tmp_path / "x.mp4").rename(tmp_path / name)
        assert survey(Path(name)).frames == 3


def test_a_truncated_video_says_so(tmp_path):
    path = write_video(tmp_path / "a.avi", 40, codec="mjpeg")
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    with pytest.raises(Unreadable, match=r"truncated|damaged"):
        survey(path)
