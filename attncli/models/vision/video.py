"""Models of video: tubelets of clips, attention over space and time, a head.

Legend: B clips, S scales, T frames, K channels, R rows and Q columns of pixels; P moments (tubelets in time),
N tokens of a moment, C width, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.layers import LayerStack, build_pooling, initialise
from attncli.layers.pictures import ConvolutionTokens, PatchTokens
from attncli.models.vision.video_config import VideoConfig
from attncli.models.vision.video_encoders import ENCODERS, DividedEncoder
from attncli.ops.dropout import Dropout


class VideoModel(nn.Module):
    """Clips to logits; weights are drawn from PyTorch's generator."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = _tokeniser(config)
        width = config.encoder.width
        self.scale = nn.Embedding(config.scales, width) if config.scales > 1 else None
        self.encoder = ENCODERS[config.space_time](config)
        self.fusion = _Fusion(config) if config.scales > 1 else None
        self.dropout = Dropout(config.head_dropout)
        self.head = nn.Linear(width, config.labels)
        self.head.muon = False
        initialise(self)
        if isinstance(self.encoder, DividedEncoder):
            self.encoder.after_drawing()

    def forward(self, clips: Tensor, keep: Tensor | None = None) -> Tensor:
        """Frames [B, S T, K, R, Q], brought to mean 0 and deviation 1, to logits [B, L].

        ``keep`` bool [B, S T]: False where a short video has ended; such frames change nothing.
        """
        config = self.config
        x, keep = self.frames(clips, keep)  # [B S, T, K, R, Q]
        x, keep = self.embed(x, keep)  # [B S, P, N, C]
        x = self.encoder(x, keep)  # [B S, C]
        if self.fusion is not None:
            x = self.fusion(x.unflatten(0, (-1, config.scales)))
        return self.head(self.dropout(x))

    def frames(self, clips: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the model sees of frames, scale by scale: [B, S T, K, R, Q] to [B S, T, K or 2 K, R, Q]."""
        frames = self.config.frames
        clips = clips.unflatten(1, (-1, frames)).flatten(0, 1)
        keep = None if keep is None else keep.unflatten(1, (-1, frames)).flatten(0, 1)
        if self.config.space_time == "frame":
            if keep is None:
                return clips[:, frames // 2 : frames // 2 + 1], None
            rows = torch.arange(clips.shape[0], device=clips.device)
            return clips[rows, keep.sum(1) // 2].unsqueeze(1), None
        if self.config.motion != "none":
            change = torch.cat((torch.zeros_like(clips[:, :1]), clips.diff(dim=1)), 1)
            clips = change if self.config.motion == "only" else torch.cat((clips, change), 2)
        return clips, keep

    def embed(self, clips: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Frames [B S, T, K, R, Q] to tokens without positions [B S, P, N, C]; ``keep`` to [B S, P]."""
        tubelet = self.config.tubelet
        moments = clips.shape[1] // tubelet
        x = self.tokens(clips.reshape(-1, tubelet * clips.shape[2], *clips.shape[3:]))  # [B S P, N, C]
        x = x.unflatten(0, (-1, moments))
        if self.scale is not None:
            scale = self.scale.weight.repeat(x.shape[0] // self.config.scales, 1)  # [B S, C]
            x = x + scale[:, None, None].to(x.dtype)
        return x, None if keep is None else keep.unflatten(1, (moments, tubelet)).any(2)

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether training recomputes each block's activations in the backward pass."""
        for module in self.modules():
            if isinstance(module, LayerStack | DividedEncoder):
                module.checkpointing = on


def _tokeniser(config: VideoConfig) -> nn.Module:
    """From the stacked frames of a tubelet [.., t K, R, Q] to tokens [.., N, C].

    A linear layer on them is a three-dimensional convolution with its kernel as stride, the tubelet
    embedding.
    """
    channels, width = config.tubelet * config.seen, config.encoder.width
    if config.tokenizer == "patch":
        return PatchTokens(channels, (config.patch, config.patch), width)
    return ConvolutionTokens(channels, list(config.widths))


class _Fusion(nn.Module):
    """The vectors of several scales become one."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        concat, width = config.fusion == "concat", config.encoder.width
        self.pool = None if concat else build_pooling(config.fusion, width)
        self.project = nn.Linear(config.scales * width, width) if concat else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, C] to [B, C]."""
        return self.pool(x) if self.project is None else self.project(x.flatten(1))
