"""Position-wise feed-forward nets."""

from __future__ import annotations

from torch import Tensor, nn

from attncli.layers.activations import ACTIVATIONS


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, [..., width] to [..., width].

    ``gelu`` (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415; ``gelu_tanh`` is its tanh
    approximation, as in GPT-2 and ALBERT), ``relu``, and the gated ``swiglu`` and ``geglu`` (Shazeer
    2020, https://arxiv.org/abs/2002.05202), whose first layer is twice as wide: activated half, gate.

    ``inner`` is the width between the two layers. Raises KeyError for an unknown activation.
    """

    def __init__(self, width: int, inner: int, *, activation: str = "gelu", bias: bool = True) -> None:
        super().__init__()
        self.activation, self.gated = ACTIVATIONS[activation]
        self.expand = nn.Linear(width, 2 * inner if self.gated else inner, bias=bias)
        self.contract = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., width]."""
        x = self.expand(x)  # [..., I] or [..., 2I]
        if self.gated:
            x, gate = x.chunk(2, dim=-1)
            return self.contract(self.activation(x) * gate)
        return self.contract(self.activation(x))
