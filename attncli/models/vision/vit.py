"""Vision Transformers: pictures cut into tokens that attend to each other.

    pixels -> tokens (patches or convolutions) + class token, registers + positions -> blocks -> norm -> one
    vector

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929; with convolutions
and pooling by attention Hassani et al. 2021, https://arxiv.org/abs/2104.05704; registers Darcet et al. 2024,
https://arxiv.org/abs/2309.16588.

Legend: B pictures, K channels, R rows and S columns of pixels, N tokens of the grid, P tokens before them,
C width, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.layers import LayerStack, build_pooling, initialise
from attncli.layers.pictures import ConvolutionTokens, PatchTokens
from attncli.models.config import TransformerConfig
from attncli.models.parts import ABSOLUTE, build_stack, position_of
from attncli.models.vision.vit_config import Tokens, VitConfig
from attncli.ops.dropout import Dropout


class PictureEmbeddings(nn.Module):
    """Tokens of pictures behind a class token and registers, with absolute positions where there are some."""

    def __init__(self, tokens: Tokens, channels: int, encoder: TransformerConfig) -> None:
        super().__init__()
        self.grid = encoder.grid
        width = encoder.width
        self.tokens: nn.Module
        if tokens.kind == "convolution":
            self.tokens = ConvolutionTokens(
                channels,
                tokens.widths,
                kernel=tokens.kernel,
                stride=tokens.stride,
                pool=tokens.pool,
                groups=tokens.groups,
                blocks=tokens.blocks,
            )
        else:
            self.tokens = PatchTokens(channels, tokens.patch, width)
        self.prefix = nn.Parameter(torch.empty(encoder.prefix, width)) if encoder.prefix else None
        self.position = position_of(encoder, width) if encoder.position in ABSOLUTE else None
        self.dropout = Dropout(encoder.dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The tokens before the grid's: normal."""
        if self.prefix is not None:
            nn.init.normal_(self.prefix, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """[B, K, R, S] to [B, P + N, C]."""
        x = self.tokens(images)  # [B, N, C]
        if self.prefix is not None:
            x = torch.cat((self.prefix.to(x.dtype).expand(x.shape[0], -1, -1), x), 1)
        if self.position is not None:
            x = self.position.embed(x)
        return self.dropout(x)


class VitEncoder(nn.Module):
    """Embeddings and blocks."""

    def __init__(self, tokens: Tokens, channels: int, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = PictureEmbeddings(tokens, channels, config)
        self.stack: LayerStack = build_stack(config, causal=False)

    def forward(self, images: Tensor, first: bool = False) -> Tensor:
        """[B, K, R, S] to hidden states [B, P + N, C], or with ``first`` to those of the first token [B, 1,
        C]."""
        return self.stack(self.embeddings(images), first=first)


class VitModel(nn.Module):
    """A classifier of pictures; weights are drawn from PyTorch's generator."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = VitEncoder(config.tokens, config.channels, config.encoder)
        width = config.encoder.width
        self.pooling = build_pooling(config.pools, width)
        self.pooling.muon = False
        self.dropout = Dropout(config.head_dropout)
        self.head = nn.Linear(width, config.labels)
        self.head.muon = False  # an output layer, which AdamW trains
        initialise(self, cutoff=config.encoder.init_cutoff)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures [B, K, R, S], brought to mean 0 and deviation 1, to logits [B, L]."""
        return self.head(self.dropout(self.picture(images)))

    def picture(self, images: Tensor) -> Tensor:
        """The vector of each picture, [B, C]; the argument of :meth:`forward`."""
        if self.config.class_token:
            return self.encoder(images, first=True)[:, 0]
        return self.pooling(self.encoder(images)[:, self.config.encoder.prefix :])

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether training recomputes each block's activations in the backward pass."""
        self.encoder.stack.checkpointing = on
