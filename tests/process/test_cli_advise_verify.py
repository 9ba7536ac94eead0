"""`coalesced advise --verify`: replays with the advised zones against one in which all exits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.vmm_cli import json_of, one_line, run

BAR, TEXT = 0xE0000000, 0xB8000
COUNT = 0x100  # dwords

LOSSY = """
from coalesced import Bar, PciFunction, Region

class Lossy(PciFunction):
    "Memory whose handler of many writes forgets the last one of each run."

    def __init__(self):
        self.words = [0] * 0x400
        window = Region("lossy", 0x1000, self.read, self.write, write_run=self.run)
        super().__init__(
            name="lossy", vendor_id=0x1234, device_id=0x1055, class_code=0xFF0000,
            bars={0: Bar(window)},
        )

    def read(self, offset, size):
        return self.words[offset // 4]

    def write(self, offset, size, value):
        self.words[offset // 4] = value

    def run(self, offsets, sizes, values):
        for offset, value in list(zip(offsets.tolist(), values.tolist()))[:-1]:
            self.words[offset // 4] = value
        return len(offsets)

    def state(self):
        return {**super().state(), "words": b"".join(w.to_bytes(4, "little") for w in self.words)}
"""


def op(kind: str, address: int, value: int, size: int, name: str) -> str:
    return (
        f"memory_region_ops_{kind} cpu 0 mr 0x1 addr {address:#x} value {value:#x} size {size} "
        f"name '{name}'\n"
    )


def recording(*, lossy: bool) -> Iterator[str]:
    """Fills of the text screen and, if wanted, of the other device."""
    for number in range(3):
        for at in range(0, 4 * COUNT, 4):
            yield op("write", TEXT + at, at + number, 4, "vga-lowmem")
        yield op("read", TEXT + 8, 8 + number, 4, "vga-lowmem")
        if lossy:
            for at in range(0, 4 * COUNT, 4):
                yield op("write", BAR + at, at * 3 + number, 4, "lossy")
            yield op("read", BAR + 4 * COUNT - 4, 12 * COUNT - 12 + number, 4, "lossy")


def exits_of(fills: int) -> int:
    """Of fills with a load each: a store exits when 169 are queued."""
    return fills * (COUNT // 170 + 1)


@pytest.mark.parametrize("accel", ["process", "kvm"])
def test_every_exit_is_predicted_and_every_load_is_as_without_zones(
    tmp_path: Path, accel: str
) -> None:
    if accel == "kvm" and not Path("/dev/kvm").exists():
        pytest.skip("no /dev/kvm")
    (tmp_path / "t").write_text("".join(recording(lossy=False)))
    found = json_of("advise", "t", "--verify", "--accel", accel, cwd=tmp_path)
    proof = found["verified"]
    assert (proof["exits_equal"], proof["loads_equal"], proof["state_equal"]) == (True,) * 3
    assert (proof["dropped"], proof["accel"]) == ([], accel)
    assert (proof["accesses"], proof["loads_checked"]) == (3 * (COUNT + 1), 3)
    assert proof["exits"] == proof["exits_predicted"] == exits_of(3) + 1
    assert found["exits_predicted"]["advised"] == exits_of(3)
    assert proof["exits_without"] == 3 * (COUNT + 1) + 1


def test_a_zone_with_which_a_device_ends_in_another_state_is_taken_out_and_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "t").write_text("".join(recording(lossy=True)))
    (tmp_path / "lossy.py").write_text(LOSSY)
    devices = ("--device", "VGA,addr=02.0", "--device", "lossy.py:Lossy,addr=05.0")
    done = run("advise", "t", "--verify", *devices, "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    text = {"address": TEXT, "size": 4 * COUNT, "kind": "mmio"}
    bad = {"address": BAR, "size": 4 * COUNT, "kind": "mmio"}
    assert found["zones_advised"] == [text]
    (dropped,) = found["verified"]["dropped"]
    assert bad.items() <= dropped.items()
    assert dropped["reason"].startswith(f"the load at {BAR + 4 * COUNT - 4:#x} of line ")
    assert found["verified"]["exits"] == found["verified"]["exits_predicted"]
    (refused,) = [each for each in found["ranges"] if each["address"] == BAR]
    assert (refused["verdict"], refused["exits_saved"]) == ("unproven", None)
    assert f"but a replay with {BAR:#x}+{4 * COUNT:#x} fails: the load at" in refused["reasons"][0]
    report = run("advise", "t", "--verify", *devices, cwd=tmp_path)
    assert report.returncode == 1
    assert f"TAKEN OUT: {BAR:#x}+{4 * COUNT:#x}" in report.stdout
    assert max(map(len, report.stdout.splitlines())) < 80


@pytest.mark.heavy
def test_a_zone_that_fails_on_one_of_several_recordings_is_taken_out_for_all(
    tmp_path: Path,
) -> None:
    for name, lossy in (("good", False), ("bad", True)):
        (tmp_path / name).write_text("".join(recording(lossy=lossy)))
    (tmp_path / "lossy.py").write_text(LOSSY)
    devices = ("--device", "VGA,addr=02.0", "--device", "lossy.py:Lossy,addr=05.0")
    done = run("advise", "good", "bad", "--verify", *devices, "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["zones_advised"] == [{"address": TEXT, "size": 4 * COUNT, "kind": "mmio"}]
    (dropped,) = found["verified"]["dropped"]
    assert dropped["reason"].startswith("in bad: the load at ")
    alone = [each["verified"] for each in found["recordings"]]
    assert [proof["accesses"] for proof in alone] == [3 * (COUNT + 1), 6 * (COUNT + 1)]
    assert found["verified"]["accesses"] == 9 * (COUNT + 1)
    for proof in (found["verified"], *alone):
        assert proof["exits"] == proof["exits_predicted"]
    both = json_of("advise", "good", "good", "--verify", *devices, cwd=tmp_path)
    assert both["verified"]["exits"] == 2 * (exits_of(3) + 1)


def test_what_is_not_checked_is_named(tmp_path: Path) -> None:
    lines = [*recording(lossy=True), op("write", 0x200000, 1, 4, "board")]
    lines += [op("read", 0x3DA, 1, 1, "vga"), op("read", 0x61, 1, 1, "pcspk")]
    lines += [op("read", 0x1F7, 1, 1, "ide")]
    (tmp_path / "t").write_text("".join(lines))
    proof = json_of("advise", "t", "--verify", cwd=tmp_path)["verified"]
    assert proof["missing"] == {"lossy": 3 * (COUNT + 1), "ide": 1}
    assert proof["unchecked"] == {"VGA status 1 (0x3da)": 1, "speaker and timer gate (0x61)": 1}
    assert proof["not_replayed"] == {"accesses to addresses that are RAM here": 1}
    assert proof["loads_checked"] == 3


def test_options_of_a_verification_are_refused_without_it(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("".join(recording(lossy=False)))
    assert "need --verify" in one_line(run("advise", "t", "--accel", "kvm", cwd=tmp_path), 2)
    said = one_line(run("advise", "t", "--verify", "--accel", "direct", cwd=tmp_path), 2)
    assert "--accel direct: it has no ring to verify" in said
