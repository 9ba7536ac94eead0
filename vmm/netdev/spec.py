"""Network SPECs: `KIND,id=ID,property=value,...`, as QEMU's -netdev takes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from coalesced.vmm.properties import parse_properties

T = TypeVar("T")

# Kind: the module whose `create` makes it.
KINDS: Final = {
    "dgram": "coalesced.vmm.netdev.dgram",
    "hubport": "coalesced.vmm.netdev.hub",
    "socket": "coalesced.vmm.netdev.stream",
    "stream": "coalesced.vmm.netdev.stream",
    "tap": "coalesced.vmm.netdev.tap",
}


class NetdevError(ValueError):
    """A network SPEC cannot be used; the text is one line that says what and why."""


@dataclass
class Spec:
    """A parsed network SPEC. The back end takes its properties out one by one."""

    text: str
    kind: str
    id: str
    _properties: dict[str, str] = field(default_factory=dict)
    _asked_for: list[str] = field(default_factory=list)

    def take(self, key: str) -> str | None:
        """A property's value, None where the SPEC has none. Only those that were taken exist."""
        self._asked_for.append(key)
        return self._properties.pop(key, None)

    def need(self, key: str) -> str:
        """A property's value. Raises NetdevError without one."""
        value = self.take(key)
        if value is None:
            raise self.wrong(f"expected {key}=")
        return value

    def number(self, key: str, lowest: int, highest: int) -> int | None:
        """A property that is a decimal number in a range, both ends included."""
        value = self.take(key)
        if value is None:
            return None
        if not value.isdecimal() or len(value) > 20 or not lowest <= int(value) <= highest:
            raise self.wrong(f"{key}: expected {lowest} to {highest}, got {value!r}")
        return int(value)

    def choice(self, key: str, default: str, *others: str) -> str:
        """A property that is one of several words."""
        value = self.take(key)
        if value is not None and value not in (default, *others):
            raise self.wrong(f"{key}: expected {' or '.join((default, *others))}, got {value!r}")
        return value or default

    def starting(self, prefix: str) -> list[str]:
        """The properties whose names start so."""
        return [key for key in self._properties if key.startswith(prefix)]

    def finish(self) -> None:
        """Raise NetdevError for a property that was not taken."""
        for key in self._properties:
            known = ", ".join(["id", *dict.fromkeys(self._asked_for)])
            raise self.wrong(f"unknown property {key!r}; known here: {known}")

    def wrong(self, reason: str) -> NetdevError:
        """An error about this SPEC."""
        return NetdevError(f"netdev {self.text!r}: {reason}")

    def attempt(self, what: str, call: Callable[[], T]) -> T:
        """The result of a call of the system; its failure is an error about this SPEC."""
        try:
            return call()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise self.wrong(f"{what}: {reason or error}") from error


def parse(text: str) -> Spec:
    """Parse a SPEC. Raises NetdevError; the kind of back end checks the properties."""
    kind, *words = text.split(",")
    if kind not in KINDS:
        raise NetdevError(f"netdev {text!r}: unknown kind {kind!r}; known: {', '.join(KINDS)}")
    try:
        properties = parse_properties(words)
    except ValueError as error:
        raise NetdevError(f"netdev {text!r}: {error}") from error
    name = properties.pop("id", "")
    if not name:
        raise NetdevError(f"netdev {text!r}: expected id=")
    return Spec(text, kind, name, properties)
