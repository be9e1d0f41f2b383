"""What ``attn bench attention`` times at a shape: mechanisms, direct calls, and whole layers."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.attention import MECHANISMS, Causal, attend, build_mechanism
from attncli.attention.layouts import LAYOUTS
from attncli.attention.mechanisms.base import Mechanism
from attncli.attention.table import options_of
from attncli.bench.layers import OURS, TORCH, build_layers
from attncli.bench.layouts import build_layouts, one_step, whole
from attncli.recipe.bench import BenchAttentionRecipe

TYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
PLAIN, KERNEL = "plain formula", "scaled_dot_product_attention"
FLEX = "flex_attention"
_BANDED = ("window", "dilated", "longformer", "bigbird")


@dataclass(frozen=True)
class Shape:
    """What one call is given."""

    precision: str
    direction: str
    length: int
    batch: int
    heads: int
    head_width: int
    causal: bool

    @property
    def scores(self) -> int:
        """Bytes of all scores in float32."""
        return 4 * self.batch * self.heads * self.length**2


@dataclass(frozen=True)
class Case:
    """Something to time: ``call`` takes queries, keys and values [B, H, T, D], or of a layer x [B, T, C]."""

    name: str
    call: Callable[..., Tensor]
    layer: bool = False
    parameters: list[Tensor] = field(default_factory=list)
    """Whose gradients belong to its backward pass too."""
    module: Mechanism | None = None
    """The mechanism of ours that it computes."""
    against: str = ""
    """The case that its time is held against; empty leaves it to :func:`direct`."""
    exact: bool = True
    """Whether it computes what the reference does, near enough for a distance to mean something."""


def plain(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Softmax attention as its formula reads; all [B, H, T, D]."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # [B, H, T, T]
    if causal:
        hidden = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    return scores.softmax(-1) @ v


class Cases:
    """The cases of a recipe, built once; :meth:`at` says which of them fit a shape."""

    def __init__(self, recipe: BenchAttentionRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        core = recipe.model.attention
        self.heads = core.heads or 8
        chosen = recipe.data.mechanisms
        names = list(MECHANISMS) if chosen == ["all"] else chosen or [core.mechanism]
        self.left_out: list[str] = []
        self.modules: dict[str, Mechanism] = {}
        for name in dict.fromkeys(names):
            if recipe.data.causal and not MECHANISMS[name].support.causal:
                self.leave_out(f"{name}: it has no causal form")
                continue
            self.modules[name] = self._build(name)
        layouts = list(LAYOUTS) if recipe.data.layouts == ["all"] else recipe.data.layouts
        self.layouts = build_layouts(
            layouts,
            heads=self.heads,
            head_width=recipe.model.head_width,
            seed=recipe.train.seed,
            device=device,
        )
        self._layers: dict[str, Any] = {}
        self.largest = 2**31
        """Bytes of scores above which what forms them at once is left out."""
        if device.type == "cuda":
            self.largest = torch.cuda.mem_get_info(device)[0] // 8

    def _build(self, name: str) -> Mechanism:
        recipe = self.recipe
        options = {
            key: value for key, value in recipe.model.attention.options().items() if key in options_of(name)
        }
        if "length" in options_of(name):
            options.setdefault("length", max(recipe.data.lengths))
        width = recipe.model.head_width
        torch.manual_seed(recipe.train.seed)
        module = build_mechanism(name, heads=self.heads, kv_heads=self.heads, head_dim=width, **options)
        return module.to(self.device).requires_grad_(False)

    def leave_out(self, text: str) -> None:
        """Note what is not timed, once."""
        if text not in self.left_out:
            self.left_out.append(text)

    def at(self, shape: Shape) -> list[Case]:
        """What is timed at ``shape``; what would form too many scores at once is left out, and noted."""
        mask = Causal() if shape.causal else None
        found: list[Case] = []
        for name, module in self.modules.items():
            quadratic = module.support.backends and not module.linear and name not in _BANDED
            if quadratic and shape.scores * module.score_width > 8 * self.largest:
                self.leave_out(f"{name} at {shape.length:,} tokens: it would take too long")
                continue
            call = partial(_attend, mask=mask, module=module, backend=self.backend_of(module))
            found.append(Case(f"attn {name}", call, module=module))
        if shape.scores <= self.largest:
            found.append(Case(PLAIN, partial(plain, causal=shape.causal)))
        found.append(Case(KERNEL, partial(F.scaled_dot_product_attention, is_causal=shape.causal)))
        if self.recipe.evaluate.peers:
            found += self._kernels(shape) + self._flex(shape) + self._whole(shape)
        return found + self._layouts(shape)

    def _layouts(self, shape: Shape) -> list[Case]:
        """Head layouts as whole layers, and a step of decoding with each; held against the first."""
        found: list[Case] = []
        for name, layer in self.layouts.items():
            calls = {"layer": whole(layer, shape.causal)}
            if shape.direction == "forward":
                calls["decode"] = one_step(layer, shape.length)
            for kind, call in calls.items():
                against = f"{kind} {next(iter(self.layouts))}"
                found.append(Case(f"{kind} {name}", call, layer=True, against=against, exact=False))
        return found

    def backend_of(self, module: Mechanism) -> str:
        """The recipe's backend, for a mechanism that it computes."""
        backend = self.recipe.model.attention.backend
        return backend if backend in module.support.backends else "auto"

    def _kernels(self, shape: Shape) -> list[Case]:
        """On a GPU each of the fused kernels that PyTorch chooses from, where it takes these inputs."""
        if self.device.type != "cuda":
            return []
        from torch.nn.attention import SDPBackend, sdpa_kernel

        def through(kernel: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            with sdpa_kernel(kernel):
                return F.scaled_dot_product_attention(q, k, v, is_causal=shape.causal)

        found = []
        kernels = {"flash": "FLASH_ATTENTION", "cuDNN": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
        for name, kernel in kernels.items():
            case = Case(f"{KERNEL}, {name}", partial(through, getattr(SDPBackend, kernel)))
            tiny = torch.ones(1, 1, 64, shape.head_width, dtype=TYPES[shape.precision], device=self.device)
            try:
                case.call(tiny, tiny, tiny)
            except RuntimeError:
                self.leave_out(f"{case.name}: not for {shape.precision} here")
                continue
            found.append(case)
        return found

    def _flex(self, shape: Shape) -> list[Case]:
        """Flex attention, compiled; causality as a block mask."""
        if self.device.type == "cpu":
            if shape.direction == "backward":
                self.leave_out(f"{FLEX}, backward: it has none on a CPU")
                return []
            if not any(map(shutil.which, ("g++", "clang++", "c++"))):
                self.leave_out(f"{FLEX}: it compiles its kernel, and there is no C++ compiler")
                return []
        blocks = None
        if shape.causal:
            from torch.nn.attention.flex_attention import create_block_mask

            length, device = shape.length, str(self.device)
            blocks = create_block_mask(lambda b, h, q, k: q >= k, None, None, length, length, device=device)
        call = partial(_flex_compiled(self.device.type), block_mask=blocks)
        return [Case(FLEX, call)]

    def _whole(self, shape: Shape) -> list[Case]:
        """Layers with projections, ours among them."""
        if shape.scores > self.largest:
            self.leave_out(f"whole layers at {shape.length:,} tokens: some form all scores at once")
            return []
        exact, layers = self.layers(shape)
        return [
            Case(name, call, True, parameters, exact.mechanism if name == OURS else None)
            for name, (call, parameters) in layers.items()
        ]

    def layers(self, shape: Shape) -> tuple[Any, dict[str, Any]]:
        """The float64 layer and those that are timed, in the precision of ``shape``."""
        if shape.precision not in self._layers:
            exact, layers, left_out = build_layers(
                heads=self.heads,
                head_dim=shape.head_width,
                causal=shape.causal,
                kind=TYPES[shape.precision],
                device=self.device,
                peers=self.recipe.evaluate.peers,
                seed=self.recipe.train.seed,
            )
            for text in left_out:
                self.leave_out(text)
            self._layers[shape.precision] = exact, layers
        return self._layers[shape.precision]


def direct(case: Case) -> tuple[str, ...]:
    """The cases whose time, that of the fastest, ``case`` is held against."""
    if case.against:
        return (case.against,)
    return (TORCH,) if case.layer else (PLAIN, KERNEL)


@cache
def _flex_compiled(kind: str) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    # On a CPU one kernel for all shapes: compiling takes as long as everything else. On a GPU what changes
    # from shape to shape becomes dynamic by itself: a kernel a shape would soon meet PyTorch's limit.
    return torch.compile(flex_attention, dynamic=True if kind == "cpu" else None)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Causal | None, module: Mechanism, backend: str) -> Tensor:
    return attend(q, k, v, mask, mechanism=module, backend=backend)
