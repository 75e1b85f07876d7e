"""The process that holds the embedded model: started by `embedded`, ended by the end of its standard input.

A process of its own, because llama.cpp keeps Python's lock while it loads (5.8 s without Ctrl-C or event
loop, measured), aborts the whole process on a torn cache file, and writes its log where it likes.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    """Read one line of settings, load, tell the address, and serve until the parent ends."""
    order = json.loads(sys.stdin.readline())
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        server = serve(order)
    except RuntimeError as error:
        # llama.cpp has logged the reason; a traceback behind it would only hide it.
        sys.exit(str(error))
    os.write(answer, json.dumps({"address": server.listening_address}).encode() + b"\n")
    os.close(answer)
    sys.stdin.read()
    # Stopping the server in good order waits for the running generation; nobody reads it any more.
    os._exit(0)


def serve(order: dict[str, Any]) -> Any:
    """Load the model and listen on a loopback port, for as long as the server is referred to."""
    import xllamacpp  # noqa: PLC0415

    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    params.n_ctx = order["context_tokens"]
    params.api_keys = [order["api_key"]]
    params.cache_ram_mib = order["cache_mib"]
    params.slot_save_path = order["prefixes"]
    params.n_parallel = 1
    # A request is only cancelled between batches: 2,048 tokens kept the server busy for 28 s after the
    # client had gone; 128 evaluate as fast (75.9 and 76.2 tokens/s).
    params.n_batch = params.n_ubatch = 128
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP
    params.warmup = False
    params.verbosity = 1
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
