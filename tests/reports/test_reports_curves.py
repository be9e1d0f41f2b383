from __future__ import annotations

import json

from attncli.reports.curves import draw_curves


def write(folder, records):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def logged(step, **more):
    return {"step": step, "epoch": 0.1, "loss": 5 / step, "learning_rate": 0.1, "gradient_norm": 2.0, **more}


def test_curves_are_a_picture_of_their_numbers(tmp_path):
    records = [logged(k, **{"loss/a": 3 / k, "loss/b": 2 / k}) for k in range(1, 30)]
    records += [{"step": k, "evaluation": {"loss": 4 / k, "accuracy": k / 30, "odd": None}} for k in (10, 20)]
    write(tmp_path, records)
    (tmp_path / "best.json").write_text(json.dumps({"step": 20, "metric": "loss", "value": 0.2}))
    path = draw_curves(tmp_path)
    first = path.read_bytes()
    assert path == tmp_path / "curves.png"
    assert first.startswith(b"\x89PNG")
    write(tmp_path, [*records, logged(30)])
    assert draw_curves(tmp_path).read_bytes() != first


def test_evaluations_alone_or_losses_alone_will_do(tmp_path):
    write(tmp_path, [logged(1)])
    assert draw_curves(tmp_path)
    write(tmp_path, [{"step": 1, "evaluation": {"loss": 1.0}}])
    assert draw_curves(tmp_path)


def test_a_run_without_a_line_has_no_curves(tmp_path):
    assert draw_curves(tmp_path) is None
    assert not (tmp_path / "curves.png").exists()
