"""Proves an advice: each recording is replayed with the zones; one that fails is not advised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from coalesced.tools.advise.advice import Advice, Decision, Options, advise
from coalesced.tools.advise.recording import Recording
from coalesced.tools.advise.verdicts import Verdict
from coalesced.tools.advise.verify import MOST, Dropped, Verified, Verifier, trace_of
from coalesced.tools.runs import progress
from coalesced.tools.runs.boards import DEFAULT_MACHINE
from coalesced.tools.runs.options import Accel
from coalesced.vmm.zone import Zone


@dataclass(frozen=True)
class Prover:
    """Replays recordings on a PC with these devices; of a long one the beginning."""

    specs: Sequence[str] | None = None  # None: those of `replay`
    accel: Accel = Accel.process

    def of_one(self, recording: Recording, options: Options) -> Advice:
        """The advice about a recording, with its proof.

        Raises BadInput for one without an access that can be replayed.
        """
        first = advise(recording, options)
        proof = self._proof(recording, first.zones_in_force, first.advised)
        failed = _failed([first], proof.dropped)
        advice = advise(recording, replace(options, decided=failed)) if failed else first
        return replace(advice, verified=proof)

    def of_all(
        self,
        recordings: Callable[[], Iterable[Recording]],
        options: Options,
        study: Callable[[Options], Advice],
    ) -> Advice:
        """The advice about several, with a proof for each: a zone that fails on one is taken out.

        `recordings` reads them, in the order in which `study` has them. Raises BadInput as above.
        """
        advice = study(options)
        zones, dropped = list(advice.advised), list[Dropped]()
        while True:
            proofs = [
                self._proof(recording, each.zones_in_force, zones)
                for recording, each in zip(recordings(), advice.recordings, strict=True)
            ]
            new = _named(advice.recordings, proofs)
            if not new:
                break
            dropped += new
            zones = [zone for zone in zones if zone not in {each.zone for each in new}]
        if dropped:
            failed = _failed(advice.recordings, dropped)
            advice = study(replace(options, decided=failed))
        alone = [
            replace(each, verified=proof)
            for each, proof in zip(advice.recordings, proofs, strict=True)
        ]
        return replace(advice, recordings=alone, verified=_joined(proofs, dropped))

    def _proof(
        self, recording: Recording, in_force: Sequence[Zone], advised: Sequence[Zone]
    ) -> Verified:
        recorded = trace_of(recording)
        later = {f"events behind the first {MOST:,}": max(len(recording.spool) - MOST, 0)}
        with progress.shown(2) as bar:
            bar.show("a replay without zones")
            specs = list(self.specs or DEFAULT_MACHINE)
            verifier = Verifier(recorded, specs, self.accel, later)
            bar.advance()
            bar.show("a replay with zones")
            return verifier.of(in_force, advised)


def _failed(advices: Sequence[Advice], dropped: Sequence[Dropped]) -> dict[Zone, Decision]:
    """The ranges in zones that failed are unproven."""
    return {
        each.zone: Decision(Verdict.UNPROVEN, f"a replay with {failed.zone} fails: {failed.reason}")
        for failed in dropped
        for advice in advices
        for each in advice.ranges
        if each.verdict is Verdict.COALESCE and failed.zone.holds(each.zone)
    }


def _named(advices: Sequence[Advice], proofs: Sequence[Verified]) -> list[Dropped]:
    """The zones that failed, each with the recording that shows it."""
    return [
        Dropped(failed.zone, f"in {advice.trace}: {failed.reason}")
        for advice, proof in zip(advices, proofs, strict=True)
        for failed in proof.dropped
    ]


def _joined(proofs: Sequence[Verified], dropped: Sequence[Dropped]) -> Verified:
    return Verified(
        accel=proofs[0].accel,
        accesses=sum(each.accesses for each in proofs),
        exits_without=sum(each.exits_without for each in proofs),
        exits_predicted=sum(each.exits_predicted for each in proofs),
        exits=sum(each.exits for each in proofs),
        exits_equal=all(each.exits_equal for each in proofs),
        loads_checked=sum(each.loads_checked for each in proofs),
        loads_equal=all(each.loads_equal for each in proofs),
        state_equal=all(each.state_equal for each in proofs),
        dropped=dropped,
        unchecked=_added(each.unchecked for each in proofs),
        missing=_added(each.missing for each in proofs),
        not_replayed=_added(each.not_replayed for each in proofs),
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
