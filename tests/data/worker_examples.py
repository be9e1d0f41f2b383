"""Examples for tests of worker processes: they import no torch, so that workers start quickly."""

import os
import signal
import sys
import time

import numpy as np

from attncli.errors import DataError, Problem


class Drawn:
    """Batches that tell who is in them and what was drawn; ``fault``: what goes wrong, and at which one."""

    def __init__(self, count=40, batch=6, shelves=2, fault=(None, -1), rows=3):
        self.count, self.batch, self.shelves, self.fault, self.rows = count, batch, shelves, fault, rows

    def plan(self, epoch, shelf, rng):
        order = rng.permutation(self.count) + shelf * self.count
        return [order[at : at + self.batch] for at in range(0, self.count, self.batch)]

    def make(self, item, rng):
        what, at = self.fault
        if at in item:
            if what == "data":
                raise DataError(Problem("is damaged", "a.png", "mend it"), then="attn doctor")
            if what == "bug":
                raise KeyError("no such thing")
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "exit":
                os._exit(3)
            if what == "slow":
                time.sleep(30)
        wide = rng.integers(0, 256, (len(item), self.rows, 5, 3), dtype=np.uint8)
        return {
            "images": wide.transpose(0, 3, 1, 2),
            "labels": item % 7,
            "share": rng.random(len(item), dtype=np.float32),
            "none": np.zeros((len(item), 0), np.int64),
            "torch": np.full(len(item), "torch" in sys.modules),
            "index": item,
        }
