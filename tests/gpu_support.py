"""A GPU for machines without one: tensors that say ``cuda:0``, computed on the CPU.

Mixing them with tensors of the CPU raises as on a GPU, so that tests find a tensor left behind. It has a
GPU's rules about devices, and none of its rounding, streams or speed.
"""

from __future__ import annotations

import contextlib
import time
import types

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
_INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class OnGpu(Tensor):
    """A tensor that says it is on the GPU; ``elem`` has its values. To PyTorch's C++ it is one of the CPU."""

    @staticmethod
    def __new__(cls, elem: Tensor) -> OnGpu:
        return Tensor._make_wrapper_subclass(
            cls, elem.size(), elem.stride(), elem.storage_offset(),
            dtype=elem.dtype, layout=elem.layout, device=CPU, requires_grad=elem.requires_grad,
        )  # fmt: skip

    def __init__(self, elem: Tensor) -> None:
        self.elem = elem

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"OnGpu({self.elem!r})"

    @classmethod
    def __torch_function__(cls, func, kinds, args=(), kwargs=None):
        return _call(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, kinds, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Move(torch.autograd.Function):
    """From one device to the other, and the gradient back."""

    @staticmethod
    def forward(ctx, x: Tensor, there: bool) -> Tensor:
        ctx.there = there
        return OnGpu(x.detach().clone()) if there else x.elem.clone()

    @staticmethod
    def backward(ctx, grad: Tensor):
        return _Move.apply(grad, not ctx.there), None


class _Generator(torch.Generator):
    """A generator of any device, which is one of the CPU."""

    def __new__(cls, device=None):
        return super().__new__(cls)


class _Event:
    """A point in time: there is no queue."""

    def __init__(self, **_) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, later: _Event) -> float:
        return 1e3 * (later.at - self.at)


class _Functions(TorchFunctionMode):
    def __torch_function__(self, func, kinds, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _call(func, args, kwargs):
    """What Python sees of the device."""
    here = bool(args) and isinstance(args[0], Tensor)
    if here and func in (Tensor.to, Tensor.cpu, Tensor.cuda):
        return _to(func, *args, **kwargs)
    if func in (Tensor.numpy, Tensor.__array__) and isinstance(args[0], OnGpu):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
    if func is F.scaled_dot_product_attention and kwargs.get("is_causal") and isinstance(args[0], OnGpu):
        # C++ would make this mask on what it thinks is the device
        allowed = torch.ones(args[0].shape[-2], args[1].shape[-2], dtype=torch.bool).tril()
        kwargs = {**kwargs, "is_causal": False, "attn_mask": OnGpu(allowed)}
    if func is Tensor.tolist and isinstance(args[0], OnGpu):
        args = (args[0].cpu(),)
    asked = kwargs.get("device", GPU if func is Tensor.new_tensor and isinstance(args[0], OnGpu) else None)
    makes = isinstance(func, types.BuiltinFunctionType | type(Tensor.new_tensor))
    asked = torch.device(asked) if asked is not None and makes else None
    with torch._C.DisableTorchFunctionSubclass():
        if asked is None:
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": CPU})
    there = isinstance(made, OnGpu)
    if there == (asked.type == "cuda"):
        return made
    return made.elem if there else OnGpu(made.detach()).requires_grad_(made.requires_grad)


def _to(func, x, *args, **kwargs):
    there = isinstance(x, OnGpu)
    dtype = layout = None
    if func is not Tensor.to:
        target = func is Tensor.cuda
    elif args and isinstance(args[0], Tensor):
        target, dtype = isinstance(args[0], OnGpu), args[0].dtype
    else:
        copy = kwargs.pop("copy", False)
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        target = there if device is None else device.type == "cuda"
        if copy and target == there:
            x = x.clone()
    with torch._C.DisableTorchFunctionSubclass():
        if dtype is not None or layout is not None:
            x = x.to(dtype=dtype or x.dtype, **({} if layout is None else {"memory_format": layout}))
        return x if target == there else _Move.apply(x, target)


def _run(func, args, kwargs):
    """One operation, on the values."""
    flat, _ = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, Tensor)]
    there = any(isinstance(x, OnGpu) for x in tensors)
    if there and func is not aten.copy_.default:
        _check(func, args, tensors)
    onto = isinstance(args[0], OnGpu) if func is aten.copy_.default else there
    if kwargs.get("device") == GPU:  # in backward passes, which modes of functions do not see
        onto, kwargs = True, {**kwargs, "device": CPU}
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    values, options = tree_map(lambda x: x.elem if isinstance(x, OnGpu) else x, (args, kwargs))
    out = func(*values, **options)
    if not onto:
        return out
    out = tree_map(lambda x: OnGpu(x) if isinstance(x, Tensor) and not isinstance(x, OnGpu) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if there else out


def _check(func, args, tensors) -> None:
    if func is aten.cat.default and torch._C._current_graph_task_id() != -1:
        return  # C++ makes zeros for parts without a gradient, on what it thinks is their device
    if func in _INDEXED:
        if not isinstance(args[0], OnGpu):
            raise RuntimeError("indices should be on cpu, as the indexed tensor is")
        tensors = [args[0], *args[2:3]]  # indices may be on either device
    if any(not isinstance(x, OnGpu) and x.dim() > 0 for x in tensors):
        kinds = ", ".join(type(x).__name__ for x in tensors)
        raise RuntimeError(f"expected all tensors to be on the same device: {func} of {kinds}")


@contextlib.contextmanager
def pretend_gpu(patch):
    """One GPU, as far as this program can tell, within the context; ``patch`` is pytest's monkeypatch."""
    about = types.SimpleNamespace(name="Pretend", total_memory=2**34, major=9, minor=0)
    for name, answer in {
        "is_available": True, "is_initialized": False, "device_count": 1, "current_device": 0,
        "is_current_stream_capturing": False, "set_device": None, "synchronize": None, "_lazy_init": None,
        "manual_seed": None,
        "is_bf16_supported": True, "get_device_properties": about, "get_device_name": "Pretend",
        "max_memory_allocated": 2**20, "memory_allocated": 0, "reset_peak_memory_stats": None,
        "mem_get_info": (2**33, 2**34),
    }.items():  # fmt: skip
        patch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    patch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
    patch.setattr(torch.cuda, "set_rng_state", lambda state, *_: torch.set_rng_state(state))
    patch.setattr(torch, "Generator", _Generator)
    patch.setattr(torch.cuda, "Event", _Event)
    patch.setattr(Tensor, "pin_memory", lambda self, *_: self)
    # modules move by swapping: as a GPU does, a parameter stays the same object
    patch.setattr(torch.__future__, "get_swap_module_params_on_conversion", lambda: True)
    inference = lambda on=True: torch.no_grad() if on else contextlib.nullcontext()  # noqa: E731
    patch.setattr(torch._C, "_InferenceMode", inference)  # in which wrapped tensors have no views
    autocast = torch.autocast
    patch.setattr(torch, "autocast", lambda kind, *args, **options: autocast("cpu", *args, **options))
    with _Functions(), _Operations():
        yield
