"""Peak memory of one call, measured."""

from __future__ import annotations

from collections.abc import Callable

import torch


def peak_memory(call: Callable[[], object], device: torch.device) -> int:
    """Bytes that ``call`` needs at its peak beyond what was held before.

    On a GPU the allocator's own count; on a CPU the profiler's running sum of allocations and frees, which,
    unlike the resident size, does not depend on what the C library keeps.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    held = peak = 0
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
