"""What every test runs under: one thread a process, and a cache folder of the session's own."""

import os

# Before torch is imported: pytest-xdist runs a process a core, and more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Bits are compared, and a GPU adds in an order of its own. CUDA_VISIBLE_DEVICES=0 shows it to the tests that
# are meant for one: -k "cuda or gpu or flex"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# As the program sets it for itself; the profiler reads it once a process, whichever test uses it first.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import pytest


@pytest.fixture(scope="session", autouse=True)
def _session_cache(tmp_path_factory):
    """Tests neither read nor fill the user's cache; subprocesses inherit the folder."""
    before = os.environ.get("ATTN_CACHE")
    os.environ["ATTN_CACHE"] = str(tmp_path_factory.mktemp("attn-cache"))
    yield
    if before is None:
        del os.environ["ATTN_CACHE"]
    else:
        os.environ["ATTN_CACHE"] = before


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as device cuda: this machine's, or one of the CPU's that keeps a GPU's rules."""
    import torch
    from gpu_support import pretend_gpu

    if torch.cuda.is_available():
        yield
        return
    with pretend_gpu(monkeypatch):
        yield


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Each device in turn."""
    if request.param == "cuda":
        request.getfixturevalue("gpu")
    return request.param
