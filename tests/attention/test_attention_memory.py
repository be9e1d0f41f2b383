"""Memory at 8,192 tokens is linear, forward and backward: measured as the peak of a process of its own."""

import subprocess
import sys

SCRIPT = """
import resource, torch
from attncli.attention import *
from attncli.attention import explain_choice
torch.set_num_threads(2)
torch.manual_seed(0)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB

def run(t, mask=None, heads=2, grad=True, position=None, **options):
    position = build_position(position, width=0, heads=heads, head_dim=16, max_length=t)
    layer = Attention(heads * 16, heads=heads, position=position, **options)
    x = torch.randn(1, t, heads * 16, requires_grad=grad)
    with torch.set_grad_enabled(grad):
        y = layer(x, mask=mask)
    if grad:
        y.sum().backward()
        assert x.grad.isfinite().all()
    return y

def masks(t):
    keep = Padding(torch.arange(t)[None] < t - 100)
    ids = torch.arange(t)[None] // 1000
    return None, Causal(), keep, Causal() & keep, Documents(ids), Window(64, 64), Window(64, 0) & keep

T = 8192
for mask in masks(256):
    run(256, mask)  # kernels and their workspaces
base = peak()
for number, mask in enumerate(masks(T)):
    run(T, mask)
    print(f"mask {number}: {peak() - base:.0f}")
run(T, Causal(), backend="chunked")
run(T, None, dropout=0.1)
run(T, None, position="t5")
run(T, None, position="alibi")
run(T, None, mechanism="window", window=64, position="rotary")
print(f"kinds: {peak() - base:.0f}")
run(4096, None, heads=2, position="shaw")
run(2048, None, heads=2, mechanism="additive")
run(4096, None, heads=2, mechanism="topk", topk=8)
print(f"formula in pieces: {peak() - base:.0f}")
print(peak() - base)
"""


def test_memory_is_linear(own_cache):
    """Weights of 8,192 tokens and two heads alone are 512 MiB; all tensors of linear size are 20."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.split()[-1]) < 160, run.stdout
