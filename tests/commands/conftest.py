"""The program as commands are tested: in its own process' memory, from an empty folder."""

import pytest
from commands_support import runner


@pytest.fixture
def attn(capfd, monkeypatch, tmp_path):
    """Run a command line; exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    return runner(capfd)
