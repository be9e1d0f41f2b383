"""Floating-point operations of models of video, counted as :mod:`attncli.models.flops` does. No torch."""

from __future__ import annotations

from dataclasses import replace

from attncli.models.flops import Flops, stack_flops
from attncli.models.vision.video_config import VideoConfig


def video_flops(config: VideoConfig) -> Flops:
    """Operations of a forward pass over one clip, all its scales."""
    encoder, width = config.encoder, config.encoder.width
    time, rows, columns = encoder.grid
    cells = rows * columns
    space, whole = slice(1, 3), slice(0, 3)
    if config.space_time == "joint":
        stages = [(1, config.stage(whole, encoder.layers))]
    elif config.space_time == "divided":
        over_time = replace(config.stage(slice(0, 1), encoder.layers, prefix=0), intermediate=0)
        stages = [(time, config.stage(space, encoder.layers)), (cells, over_time)]
    else:
        stages = [(time, config.stage(space, encoder.layers))]
        if config.space_time == "factorised":
            stages.append((1, config.stage(slice(0, 1), config.temporal_layers)))
    parts = [(count, stack_flops(stage, stage.length, causal=False)) for count, stage in stages]
    extra = 2 * time * cells * width * width * encoder.layers if config.space_time == "divided" else 0
    seen = config.tubelet * config.seen
    if config.tokenizer == "patch":
        made = 2 * cells * seen * config.patch**2 * width
    else:
        made, before, (down, across) = 0, seen, config.image
        for after in config.widths:
            made += 2 * down * across * before * after * 9
            down, across, before = down // 2, across // 2, after
    return Flops(
        projections=config.scales * (sum(count * part.projections for count, part in parts) + extra),
        attention=config.scales * sum(count * part.attention for count, part in parts),
        feed_forward=config.scales * sum(count * part.feed_forward for count, part in parts),
        head=2 * width * config.labels,
        tokens=config.scales * time * made,
    )
