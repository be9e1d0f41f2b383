import pytest
import torch

from attncli.attention.backends import choice, store


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Choices of backends are measured into a folder of the test session, not the user's."""
    folder = tmp_path_factory.getbasetemp() / "attn-cache"
    monkeypatch.setenv("ATTN_CACHE", str(folder))
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small
    yield folder
    torch.set_num_threads(threads)
    choice._exact.clear()
    store.forget()
