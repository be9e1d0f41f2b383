"""Pictures of detection: boxes in the picture, and precision over recall."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attncli.metrics.detection import Found, Scores

_MOST_CURVES = 12


def colour(number: int) -> tuple[int, int, int]:
    """Of a class: neighbours differ, and the same class is the same everywhere."""
    hue = (number * 0.618034 + 0.02) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95 if number % 2 else 0.8)
    return int(255 * red), int(255 * green), int(255 * blue)


def draw_boxes(image: np.ndarray, found: Found, names: list[str]) -> Image.Image:
    """The picture (uint8 [H, W, 3]) with every box of ``found``, its class and score."""
    drawn = Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    side = max(drawn.size)
    scale = max(1, round(360 / side)) if side < 360 else 1
    if scale > 1:  # small pictures, so that words can be read
        drawn = drawn.resize((drawn.width * scale, drawn.height * scale), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(drawn)
    line = max(1, round(max(drawn.size) / 400))
    font = ImageFont.load_default(size=float(np.clip(max(drawn.size) / 50, 9, 28)))
    order = np.argsort(found.scores, kind="stable")  # the surest on top
    for at in order:
        x0, y0, x1, y1 = (float(side) * scale for side in found.boxes[at])
        tint = colour(int(found.labels[at]))
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=tint, width=line)
        text = f"{names[int(found.labels[at])]} {found.scores[at]:.2f}"
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        high, wide = bottom - top + 4, right - left + 4
        base = y0 - high if y0 >= high else min(y0, drawn.height - high)
        start = min(max(0.0, x0), max(0.0, drawn.width - wide))
        pen.rectangle((start, base, start + wide, base + high), fill=tint)
        dark = sum(tint) > 400
        pen.text(
            (start + 2 - left, base + 2 - top), text, fill=(0, 0, 0) if dark else (255, 255, 255), font=font
        )
    return drawn


def draw_precision_recall(scores: Scores, path: Path) -> None:
    """Precision over recall at IoU 0.5, a curve for each class and their mean."""
    from matplotlib.figure import Figure

    from attncli.reports.fonts import use_fonts

    if not scores.precisions:
        return
    ranked = sorted(scores.precisions, key=lambda name: -scores.classes[name]["map50"])
    half = _MOST_CURVES // 2
    shown = ranked if len(ranked) <= _MOST_CURVES else ranked[:half] + ranked[-half:]
    names = list(scores.precisions)
    with use_fonts(names):
        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        axis = figure.subplots()
        for name in shown:
            tint = tuple(part / 255 for part in colour(names.index(name)))
            label = f"{name} {scores.classes[name]['map50']:.3f}"
            axis.plot(scores.recalls, scores.precisions[name], color=tint, linewidth=1.3, label=label)
        mean = np.mean(list(scores.precisions.values()), 0)
        label = f"mean of {len(names)} {scores.metrics['map50']:.3f}"
        axis.plot(scores.recalls, mean, color="black", linewidth=2.2, label=label)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        axis.set_xlabel("recall")
        axis.set_ylabel("precision")
        axis.set_title("IoU 0.5", fontsize=10)
        legend = axis.legend(fontsize=8, loc="lower left")
        for text in legend.get_texts():
            text.set_parse_math(False)
        figure.savefig(path, dpi=130)
