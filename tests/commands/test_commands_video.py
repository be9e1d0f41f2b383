"""attn classify video and what follows it, through the real entry."""

import json
import shutil

import numpy as np
import pytest
from clips_support import write_frames, write_video
from commands_support import runner

SMALL = [
    "model.width=16",
    "model.layers=1",
    "model.temporal_layers=1",
    "model.attention.heads=2",
    "model.attention.backend=reference",
    "clip.frames=4",
    "train.precision=float32",
    "train.threads=1",
    "train.batch=8",
    "evaluate.clips=2",
]


@pytest.fixture
def call(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("ATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return runner(capfd)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two labels that the direction of a bright bar decides, in train and test folders."""
    folder = tmp_path_factory.mktemp("bars")
    for part, count in (("train", 12), ("test", 4)):
        for number in range(count):
            label = ("left", "right")[number % 2]
            place = folder / part / label
            place.mkdir(parents=True, exist_ok=True)
            frames = []
            for at in range(8):
                column = (number * 5 + (at * 3 if label == "right" else -at * 3)) % 32
                pixels = np.zeros((32, 32, 3), np.uint8)
                pixels[:, np.arange(column, column + 6) % 32] = 240
                frames.append(pixels)
            write_video(place / f"{number}.mp4", frames)
    return folder


@pytest.fixture(scope="module")
def run(videos, tmp_path_factory):
    """A small finished run on the bars."""
    from attncli.cli import run as run_program

    out = tmp_path_factory.mktemp("runs") / "bars"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTN_CACHE", str(out.parent / "cache"))
        given = ["classify", "video", "--data", str(videos), "--out", str(out), *SMALL, "train.steps=12"]
        assert run_program([*given, "data.validation=0.3"]) == 0
    return out


def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_is_not(call, tmp_path, videos):
    """Offsets, augmentation and dropout among it."""
    more = [
        "train.augment.shift=4",
        "model.dropout=0.1",
        "train.schedule.kind=constant",
        "train.evaluate_every=2",
    ]
    given = ["classify", "video", "--data", videos, *SMALL, *more]
    whole = call(*given, "train.steps=5", "--out", tmp_path / "whole", "--json")
    assert whole.code == 0, whole.err
    part = call(*given, "train.steps=2", "--out", tmp_path / "part")
    assert part.code == 0, part.err
    resumed = call("resume", tmp_path / "part", "train.steps=5", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["metrics"] == whole.json["metrics"]
    assert {"clip_loss", "test.clip_accuracy"} <= set(whole.json["metrics"])
    last = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()][-1]
        for name in ("whole", "part")
    ]
    assert last[0] == last[1]


def test_the_built_in_clips_give_something_to_look_at(call, tmp_path):
    out = tmp_path / "run"
    ran = call("classify", "video", *SMALL, "data.limit=48", "train.steps=1", "--out", out)
    assert ran.code == 0, ran.err
    assert f"attn inspect {out} {out}/examples/clockwise" in ran.err
    assert sorted(path.name for path in (out / "examples").iterdir()) == sorted(
        ["up", "down", "left", "right", "clockwise", "counterclockwise"]
    )
    labelled = call("classify", out, out / "examples", "--json")
    assert len(labelled.json["results"]) == 6


def test_a_dry_run_says_what_it_would_take(call):
    ran = call("classify", "video", *SMALL, "data.limit=32", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["training examples"] == 32
    assert ran.json["FLOPs a step"] > 1e6
    assert "factorised" in ran.json["model"]


def test_metrics_by_clip_and_by_video(call, run, videos):
    ran = call("evaluate", run, "--split", "test", "--json", "--require", "clip_accuracy>=0")
    assert ran.code == 0, ran.err
    assert {"accuracy", "clip_accuracy", "loss", "clip_loss"} <= set(ran.json["metrics"])
    other = call("evaluate", run, "--data", videos / "test", "--json")
    assert other.json["metrics"] == ran.json["metrics"]
    lines = (run / "predictions" / "test.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert {"video", "label", "predicted", "probabilities"} <= set(json.loads(lines[0]))
    assert (run / "confusion-test.png").stat().st_size > 1000
    assert call("evaluate", run, "--require", "clip_acuracy>=0.5").code == 2


def test_videos_are_labelled_one_or_many(call, run, videos, tmp_path):
    one = call("classify", run, videos / "test" / "left" / "0.mp4", "--nbest", 1)
    assert one.code == 0, one.err
    assert "probability" in one.out
    frames = write_frames(tmp_path / "frames", 6)
    shutil.copytree(videos / "test", tmp_path / "many")
    (tmp_path / "many" / "bad.mp4").write_bytes(b"nothing")
    many = call("classify", run, tmp_path / "many", frames)
    assert many.code == 0, many.err
    rows = [json.loads(line) for line in many.out.splitlines()]
    assert len(rows) == 6
    assert [row["video"] for row in rows if "error" in row] == [str(tmp_path / "many" / "bad.mp4")]
    assert "bad.mp4" in many.err
    told = call("classify", run, tmp_path / "many", "--json").json["results"]
    assert told == rows[:5]
    bad = call("classify", run, tmp_path / "many" / "bad.mp4")
    assert (bad.code, bad.out) == (3, "")
    assert "no video that can be read" in bad.err


def test_applying_and_evaluating_agree(call, run, videos):
    found = call("classify", run, videos / "test", "--json").json["results"]
    lines = [json.loads(line) for line in (run / "predictions" / "test.jsonl").read_text().splitlines()]
    stored = {line["video"]: line["probabilities"] for line in lines}
    assert len(found) == len(stored)
    for row in found:
        for name, share in row["probabilities"].items():
            assert share == pytest.approx(stored[row["video"]][name], abs=1e-6)


def test_what_counted_is_shown(call, run, videos, tmp_path):
    ran = call("inspect", run, videos / "test" / "left" / "0.mp4", "--out", tmp_path / "a.png", "--json")
    assert ran.code == 0, ran.err
    (told,) = ran.json["inputs"]
    assert len(told["clips"]) == 2
    for clip in told["clips"]:
        assert clip["frames"] == sorted(clip["frames"])
        assert sum(clip["weights"]) == pytest.approx(1)
        assert np.array(clip["regions"]).sum((1, 2)) == pytest.approx(np.array(clip["weights"]))
        assert set(clip["key_frames"]) <= set(clip["frames"])
    assert (tmp_path / "a.png").stat().st_size > 5000
    page = (tmp_path / "a.html").read_text()
    assert "default-src 'none'" in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        ("joint", "class"),
        ("divided", "class"),
        ("divided", "mean"),
        ("pooled", "attention"),
        ("frame", "mean"),
    ],
)
def test_every_kind_can_be_inspected(call, videos, tmp_path, kind, pooling):
    given = [*SMALL, f"model.space_time={kind}", f"model.pooling={pooling}", "train.steps=1"]
    scales = ["clip.stride=[1,2]"] if kind == "divided" else []
    out = tmp_path / "run"
    assert call("classify", "video", "--data", videos, "--out", out, *given, *scales).code == 0
    ran = call("inspect", out, videos / "test" / "right" / "1.mp4", "--json")
    assert ran.code == 0, ran.err
    clips = ran.json["inputs"][0]["clips"]
    total = sum(sum(clip["weights"]) for clip in clips)
    places = {clip["clip"].partition(",")[0] for clip in clips}
    assert total == pytest.approx(len(places))


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (["data.fold=1"], 3, "the built-in clips have no folds"),
        (["data.cross_validate=true"], 3, "the built-in clips have no folds"),
        (["data.cross_validate=true", "data.fold=1"], 2, "goes round all folds"),
        (["clip.stride=[]"], 2, "clip.stride"),
        (["clip.stride=[2,2]"], 2, "has a stride twice"),
        (["model.space_time=factorized"], 2, "did you mean factorised"),
        (["model.space_time=frame", "model.tubelet=2"], 2, "sees each frame for itself"),
        (["clip.frames=7"], 2, "not whole tubelets"),
        (["clip.size=30"], 2, "clip.size=[32,32]"),
        (["--data", "nowhere"], 3, "there is no such file or folder"),
    ],
)
def test_what_cannot_be_is_told(call, given, code, told):
    ran = call("classify", "video", *given)
    assert ran.code == code, ran.err
    assert told in ran.err
    assert "Traceback" not in ran.err


def test_broken_clips_end_in_the_command_that_leaves_them_out(call, videos, tmp_path):
    data = shutil.copytree(videos, tmp_path / "data")
    (data / "train" / "left" / "bad.mp4").write_bytes(b"nothing")
    ran = call("classify", "video", "--data", data, *SMALL)
    assert ran.code == 3
    assert "bad.mp4" in ran.err
    assert f"attn classify video --data {data} data.corrupt=skip" in ran.err
    skipped = call("classify", "video", "--data", data, *SMALL, "data.corrupt=skip", "train.steps=1")
    assert skipped.code == 0, skipped.err
    assert "1 that cannot be decoded are left out" in skipped.err


def test_every_fold_is_tested_once(call, videos, tmp_path):
    paths = sorted((videos / "train").rglob("*.mp4"))
    lines = [
        "path,label,group,fold",
        *(f"{p},{p.parent.name},{n // 2},{n % 4 // 2}" for n, p in enumerate(paths)),
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    given = [
        "classify",
        "video",
        "--data",
        tmp_path / "list.csv",
        *SMALL,
        "train.steps=1",
        "data.cross_validate=true",
    ]
    ran = call(*given, "--out", tmp_path / "group", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["folds"] == [0, 1]
    assert len(ran.json["each"]["test.accuracy"]) == 2
    assert ran.json["metrics"]["test.accuracy"] == pytest.approx(sum(ran.json["each"]["test.accuracy"]) / 2)
    tested = [
        json.loads(line)["video"]
        for fold in (0, 1)
        for line in (tmp_path / "group" / f"fold-{fold}" / "predictions" / "test.jsonl")
        .read_text()
        .splitlines()
    ]
    assert sorted(tested) == sorted(map(str, paths))
    again = call(*given, "--out", tmp_path / "group", "--json")
    assert again.json["metrics"] == ran.json["metrics"]
    assert "fold-1 is finished" in again.err


def test_an_exported_run_computes_the_same(call, run, tmp_path, videos):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import torch

    from attncli.commands.trained import load_task, open_run

    ran = call("export", run, "--format", "hf")
    assert ran.code == 2
    assert "--format onnx" in ran.err
    ran = call("export", run, "--format", "onnx", "--out", tmp_path / "onnx")
    assert ran.code == 0, ran.err
    task, _ = load_task(*open_run("evaluate", str(run)), data=False)
    clips = np.random.default_rng(0).normal(size=(3, 4, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        wanted = task.model(torch.from_numpy(clips)).numpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    (found,) = session.run(None, {"pixel_values": clips})
    assert np.allclose(found, wanted, atol=1e-4)
    assert json.loads((tmp_path / "onnx" / "clips.json").read_text())["frames"] == 4
