"""Fuzzing. The system's allocator, since mimalloc takes address space by the gigabyte and the fuzzer limits that."""

import os

os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
