"""The memory models, and what each keeps in order.

- `sc`: sequential consistency; every execution is an interleaving of the threads.
- `tso`: x86. A store waits in a buffer, and a later load of its thread may pass it; nothing else
  passes anything.
- `rc11`: C11 as repaired in 2017. Relaxed accesses may pass each other, but no load finds a store
  that comes after it (no load buffering).
- `weak`: rc11 with load buffering, as on Arm and POWER, where no acquire, release, fence or
  dependency is in its way (IMM).
"""

from __future__ import annotations

STORE_STORE = "two stores"
LOAD_LOAD = "two loads"
STORE_LOAD = "a store and a later load"
LOAD_STORE = "a load and a later store"
BRANCH_STORE = "a load and the stores behind a branch on it"

# The pairs of relaxed accesses of one thread that a model always keeps in order.
KEEPS: dict[str, frozenset[str]] = {
    "sc": frozenset({STORE_STORE, LOAD_LOAD, STORE_LOAD, LOAD_STORE, BRANCH_STORE}),
    "tso": frozenset({STORE_STORE, LOAD_LOAD, LOAD_STORE, BRANCH_STORE}),
    "rc11": frozenset({LOAD_STORE, BRANCH_STORE}),
    "weak": frozenset({BRANCH_STORE}),
}
MODELS = tuple(KEEPS)
