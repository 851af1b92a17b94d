"""Builds and exports what its input names, a line each; answers with exit code and message.

The shards are small: several a table, of several chunks each, of little input.
"""

from __future__ import annotations

import json
import sys

import eegstore
from eegstore import EegStoreError, blocks, plan

plan.SHARD_BYTES, plan.STIMULI_SHARD_ROWS = 1 << 15, 8
plan.CHUNK_BYTES = blocks.CHUNK_BYTES = 1 << 13

for line in sys.stdin:
    command, *arguments = json.loads(line)
    answer: tuple[int, str] = 0, ""
    try:
        if command == "build":
            made, out, executor = arguments
            eegstore.build(made, out, executor=executor, n_workers=2, overwrite=True)
        else:
            eegstore.export(*arguments)
    except EegStoreError as error:
        answer = error.exit_code, str(error)
    except Exception as error:
        answer = 1, f"unexpected {type(error).__name__}: {error}"
    print(json.dumps(answer), flush=True)
