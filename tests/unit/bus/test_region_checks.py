"""A region that is declared with nonsense is refused in words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coalesced.devices.bus.region import Region

GOOD: dict[str, object] = {
    "name": "r",
    "size": 16,
    "read": lambda _o, _s: 0,
    "write": lambda _o, _s, _v: None,
}


class Waiting:
    """Handlers that would run nothing when they are called."""

    async def read(self, _offset: int, _size: int) -> int:
        return 0

    def write(self, _offset: int, _size: int, value: int) -> Iterator[int]:
        yield value


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", 5, "region 5: expected a text as its name"),
        ("size", "16", "region 'r': expected a size above 0, got '16'"),
        ("size", 1.5, "region 'r': expected a size above 0, got 1.5"),
        ("size", -1, "region 'r': expected a size above 0, got -1"),
        ("read", None, "region 'r': read: expected a function, got None"),
        ("write", 3, "region 'r': write: expected a function, got 3"),
        ("write_run", 3, "region 'r': write_run: expected a function, got 3"),
        ("read", Waiting().read, "read: expected a plain function, got a generator or a coroutine"),
        ("write", Waiting().write, "write: expected a plain function, got a generator or a corou"),
        ("take_run", Waiting.read, "take_run: expected a plain function, got a generator or a co"),
        ("coalesced", 7, "coalesced: expected pairs of offset and size, got 7"),
        ("coalesced", (1, 2), "coalesced: expected pairs of offset and size, got (1, 2)"),
        ("coalesced", ((0, "8"),), "coalesced: expected pairs of offset and size, got ((0, '8'),)"),
        ("coalesced", ((8, 9),), "coalesced range 0x8+0x9 does not lie in its 0x10 bytes"),
        ("posted", 7, "posted: expected pairs of offset and size, got 7"),
        ("posted", ((16, 1),), "posted range 0x10+0x1 does not lie in its 0x10 bytes"),
    ],
)
def test_nonsense_is_named(field: str, value: object, said: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        Region(**{**GOOD, field: value})  # type: ignore[arg-type]
    assert said in str(refused.value)
