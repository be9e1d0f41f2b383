"""Memory at 8,192 tokens is linear, forward and backward: measured as the peak of a process of its own."""

import subprocess
import sys

SCRIPT = """
import resource, torch
from attncli.attention import *
torch.set_num_threads(1)
torch.manual_seed(0)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB

def run(t, mask=None, heads=1, grad=True, position=None, **options):
    position = build_position(position, width=0, heads=heads, head_dim=16, max_length=t)
    layer = Attention(heads * 16, heads=heads, position=position, **options)
    x = torch.randn(1, t, heads * 16, requires_grad=grad)
    with torch.set_grad_enabled(grad):
        y = layer(x, mask=mask)
    if grad:
        y.sum().backward()
        assert x.grad.isfinite().all()
    return y

def padding(t):
    return Padding(torch.arange(t)[None] < t - 100)

T = 8192
run(256, Causal() & padding(256))  # kernels and their workspaces
base = peak()

def case(label, *args, **options):
    run(*args, **options)
    print(f"{label}: {peak() - base:.0f}")

case("auto", T)
case("auto causal and padded", T, Causal() & padding(T))
case("auto learnt bias", T, Causal(), position="t5")
case("auto dropout", T, Window(64, 64), dropout=0.1)
case("window", T, padding(T), mechanism="window", window=64, position="rotary")
case("chunked causal", T, Causal(), backend="chunked")
case("shaw", 4096, heads=2, position="shaw")
case("top-k", 4096, heads=2, mechanism="topk", topk=8)
case("additive", 1024, heads=2, mechanism="additive")
print(peak() - base)
"""


def test_memory_is_linear(own_cache):
    """Weights of 8,192 tokens alone are 256 MiB (the smaller cases: 128); all of linear size is below 10."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.split()[-1]) < 120, run.stdout
