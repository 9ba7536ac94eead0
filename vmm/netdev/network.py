"""The back ends of a machine, by id."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

from coalesced.vmm.netdev import spec as specs
from coalesced.vmm.netdev.backend import Netdev, NetdevReport
from coalesced.vmm.netdev.host import Host
from coalesced.vmm.netdev.hub import Hub
from coalesced.vmm.netdev.pcap import Pcap


class Network:
    """Makes back ends of SPECs, plugs cards into them, and ends them."""

    def __init__(self, host: Host) -> None:
        self.host: Final = host
        self._netdevs: dict[str, Netdev] = {}
        self._taken_by: dict[str, str] = {}
        self._hubs: dict[int, Hub] = {}
        self._pcap: Pcap | None = None

    def add(self, text: str) -> None:
        """Make the back end of a SPEC. Raises NetdevError."""
        spec = specs.parse(text)
        if spec.id in self._netdevs:
            raise spec.wrong(f"netdev {spec.id!r} already exists")
        module = importlib.import_module(specs.KINDS[spec.kind])
        self._netdevs[spec.id] = module.create(spec, self.host, self)

    def record(self, path: Path) -> None:
        """Write the frames of all back ends that are added from now on to a pcap file."""
        self.host.recorder = self._pcap = Pcap(path, self.host.warn)

    def hub(self, number: int) -> Hub:
        """The hub of that number, made when it is first asked for."""
        if number not in self._hubs:
            self._hubs[number] = Hub(self.host)
        return self._hubs[number]

    def take(self, name: str, taker: str) -> Netdev:
        """The back end of that id, for a card or a hub's port alone. Raises NetdevError."""
        found = self._netdevs.get(name)
        if found is None:
            known = ", ".join(self._netdevs) or "none"
            raise specs.NetdevError(f"there is no netdev {name!r}; known: {known}")
        if name in self._taken_by:
            raise specs.NetdevError(f"netdev {name!r} is already used by {self._taken_by[name]}")
        self.occupy(name, taker)
        return found

    def occupy(self, name: str, taker: str) -> None:
        """Mark a back end as taken."""
        self._taken_by[name] = taker

    def unused(self) -> list[str]:
        """The ids of those that nothing is plugged into."""
        return [name for name in self._netdevs if name not in self._taken_by]

    def report(self) -> dict[str, NetdevReport]:
        """The counters of each so far, by its id."""
        return {name: netdev.report() for name, netdev in self._netdevs.items()}

    def close(self, complete: bool = True) -> None:
        """End all; `complete`: the guest has run to its end. May be called twice."""
        for netdev in self._netdevs.values():
            netdev.close()
        if self._pcap is not None:
            self._pcap.close(complete)
