"""`python -m tests.bench.speed.child MODULE:FUNCTION OPTIONS`: one measured side, all by itself.

OPTIONS is JSON, and so is the last line it prints. What a side prints on the way goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys

if __name__ == "__main__":
    name, _, function = sys.argv[1].partition(":")
    with contextlib.redirect_stdout(sys.stderr):
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        report = getattr(importlib.import_module(name), function)(json.loads(sys.argv[2]))
    print(json.dumps(report))
