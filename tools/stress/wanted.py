"""The options of a stress run."""

from __future__ import annotations

from dataclasses import dataclass

from coalesced.tools.errors import BadInput

SECONDS = 10.0  # unless another limit is given
SECONDS_MAX = 1e6


@dataclass(frozen=True)
class Wanted:
    """The work of a stress run; None where the run chooses. Raises BadInput."""

    seed: int
    seconds: float | None = None
    entries: int | None = None
    times: int | None = None  # kills or corruptions
    kill: str | None = None  # "hv", "vmm" or "both"
    stop: bool = False
    corrupt: bool = False
    broken: str | None = None
    ring_pages: int | None = None
    wait: str | None = None
    cpus: str | None = None
    staleness: float | None = None  # seconds; 0.0: off
    vcpus: int = 1
    rings: int = 0  # own ones beside the VM's

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds <= SECONDS_MAX:
            raise BadInput(
                f"--seconds {self.seconds:g}: expected a number above 0, at most {SECONDS_MAX:.0f}"
            )
        if self.rings > self.vcpus:
            raise BadInput(f"--rings {self.rings}: expected at most one for each of --vcpus")
        if self.times is not None and self.kill is None and not self.corrupt:
            raise BadInput("--times: expected --kill or --corrupt with it")

    @property
    def limit(self) -> float | None:
        """Seconds that the run takes at most; None: another option ends it."""
        unlimited = self.seconds is None and self.entries is None and self.times is None
        return SECONDS if unlimited else self.seconds

    @property
    def corrupts(self) -> bool:
        """Whether there are corruptions: a double read shows only with them."""
        return self.corrupt or (self.broken == "double-read" and self.kill is None)
