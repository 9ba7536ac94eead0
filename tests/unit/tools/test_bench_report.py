"""Figures as JSON, as tables, as charts; what changed between two files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coalesced.tools.bench import exits, plot, report, ring, saved, summary, vga
from coalesced.tools.bench.channels import PEERS
from coalesced.tools.bench.exits import FLOORS, POLICIES, key_of
from coalesced.tools.bench.histogram import Histogram
from coalesced.tools.bench.measure import Spread, Taken, spread
from coalesced.tools.errors import BadInput

MACHINE: dict[str, object] = {"cpu": "one", "cpus": 2, "load": 0.1}
PLACEMENTS = ("split", "same")


def figure(median: float) -> Spread:
    """Nine samples close around a median."""
    return spread([median * (1 + number / 1000) for number in range(-4, 5)])


def ring_section(**changed: float) -> report.Section:
    subjects = [str(subject) for subject in ring.subjects_of(8)]
    values = dict.fromkeys(subjects, 50.0)
    values |= {subjects[0]: 8.0, subjects[1]: 30.0}
    values |= dict.fromkeys(ring.FLOORS, 7.0)
    values |= {PEERS[0].name: 2000.0, PEERS[1].name: 1600.0} | changed
    taken = Taken({name: figure(value) for name, value in values.items()})
    return ring.section(8, taken, 123.4, {"other": "not installed"})


def exit_section(placements: tuple[str, ...] = PLACEMENTS) -> report.Section:
    names = (*POLICIES, *FLOORS)
    costs = dict(zip(names, (12_000, 2000, 1500, 10_000, 9000, 11_000, 8000, 400), strict=True))
    taken = Taken({key_of(p, n): figure(costs[n]) for p in placements for n in names})
    histograms = {key_of(p, n): Histogram() for p in PLACEMENTS for n in names}
    for name in names:
        histograms[key_of("split", name)].add([costs[name]] * 999 + [costs[name] * 50])
    return exits.section(placements, taken, histograms)


def vga_section(taken: Taken | None = None) -> report.Section:
    choice = vga.Choice((1, 16), "adaptive")
    if taken is None:
        names = [str(subject) for subject in choice.subjects()]
        taken = Taken({name: figure(100.0 + at) for at, name in enumerate(names)})
        taken[vga.qemu_name("tcg", "filled")] = figure(70.0)
    return vga.section(choice, taken, {"kvm": "/dev/kvm does not open"})


def test_ring_has_the_keys_that_scripts_rely_on() -> None:
    values = ring_section().values
    assert values["ns_per_entry"] == 8.0
    assert values["batch"] == 123.4
    assert values["ns_per_entry_each"] == 30.0
    assert values["peers"] == {PEERS[0].name: 2000.0, PEERS[1].name: 1600.0}
    assert values["peers_missing"] == {"other": "not installed"}
    assert values["floors"] == dict.fromkeys(ring.FLOORS, 7.0)
    assert values["best_peer_ratio"] == 200.0


def test_the_matrix_names_every_dimension() -> None:
    matrix = ring_section().values["matrix"]
    assert isinstance(matrix, list)
    assert {entry["pages"] for entry in matrix} >= set(ring.SIZES_OF_RING)
    assert {entry["burst"] for entry in matrix} >= set(ring.BURSTS)
    assert {entry["publish_every"] for entry in matrix} == {1, ring.PUBLISH_EVERY}


def test_exit_has_both_placements() -> None:
    values = exit_section().values
    same = values["same"]
    assert isinstance(same, dict)
    for figures in (values, same):
        assert figures["floor_pipe_us"] == 10.0
        assert (figures["block_us"], figures["adaptive_us"], figures["poll_us"]) == (12.0, 2.0, 1.5)
        assert figures["block_ratio"] == 1.2
    assert values["p99_us"] == {
        "block": 12.0, "adaptive": 2.0, "poll": 1.5,
        "pipe": 10.0, "eventfd": 9.0, "socketpair": 11.0, "futex": 8.0, "spin": 0.4,
    }  # fmt: skip
    assert values["block_p50_ratio"] == 1.2
    assert isinstance(values["max_us"], dict)
    assert values["max_us"]["block"] == 600.0


def test_on_one_cpu_the_split_figures_are_null() -> None:
    values = exit_section(("same",)).values
    assert values["block_us"] is None
    assert values["floor_pipe_us"] is None
    assert isinstance(values["same"], dict)
    assert values["same"]["block_us"] == 12.0


def test_vga_has_the_first_ring_at_the_top_and_all_of_them_below() -> None:
    values = vga_section().values
    assert (values["ring_pages"], values["coalesced_ns_per_write"]) == (1, 100.0)
    assert (values["exit_ns_per_write"], values["direct_ns_per_write"]) == (102.0, 103.0)
    assert values["wait"] == "adaptive"
    assert values["rings"] == [
        {"ring_pages": 1, "coalesced_ns_per_write": 100.0},
        {"ring_pages": 16, "coalesced_ns_per_write": 101.0},
    ]
    assert values["qemu"] == {"tcg_filled_ns_per_write": 70.0}
    assert values["qemu_missing"] == {"kvm": "/dev/kvm does not open"}


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    report.show([ring_section(), vga_section()], MACHINE, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["machine", "complete", "ring", "vga"]


def test_what_ctrl_c_left_out_is_null_in_json_and_missing_in_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [str(subject) for subject in vga.Choice((1, 16), "adaptive").subjects()]
    section = vga_section(Taken({names[0]: figure(100.0)}))
    report.show([section], MACHINE, as_json=True, complete=False)
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown["complete"] is False
    assert shown["vga"]["coalesced_ns_per_write"] == 100.0
    assert shown["vga"]["direct_ns_per_write"] is None
    report.show([section], MACHINE, as_json=False, complete=False)
    table = capsys.readouterr().out
    assert names[0] in table
    assert names[1] not in table
    assert "nan" not in table
    assert "Not complete" in table


def test_tables_have_units_and_spread(capsys: pytest.CaptureFixture[str]) -> None:
    report.show([ring_section(), exit_section(), vga_section()], MACHINE, as_json=False)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    shown = " ".join(out.replace("│", " ").split())
    for expected in (
        "cpus 2",
        "median, ns",
        "median, us",
        "7.97 to 8.03",
        "1.20 times the pipe",
        "p99.9 12.0 us, max 600.0 us",
        "200 times the ring",
        "Without other: not installed",
        "Without QEMU on KVM: /dev/kvm does not open",
    ):
        assert expected in shown


def test_a_saved_file_has_every_sample_and_every_exit(tmp_path: Path) -> None:
    sections = [ring_section(), exit_section()]
    saved.save(tmp_path / "a", sections, MACHINE, complete=True)
    whole = json.loads((tmp_path / "a").read_text())
    assert whole["ring"]["ns_per_entry"] == 8.0
    first = str(ring.subjects_of(8)[0])
    assert whole["figures"]["ring"]["samples"][first] == list(figure(8.0).samples)
    assert sum(whole["histograms"]["exit"][key_of("split", "block")]["counts"]) == 1000


def test_compare_tells_changes_from_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "a", tmp_path / "b"
    saved.save(before, [ring_section()], MACHINE, complete=True)
    changed = {ring.C_RING: 14.0, ring.C_RING_EACH: 7.002}
    saved.save(after, [ring_section(**changed)], {**MACHINE, "cpu": "two", "load": 9}, True)
    saved.compare(before, after, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["machine_differs"] == {"cpu": ["one", "two"]}
    beyond = [change for change in told["figures"] if change["beyond_noise"]]
    assert [(change["what"], change["ratio"]) for change in beyond] == [
        (f"floor: {ring.C_RING}", 2.0)
    ]
    saved.compare(before, after, as_json=False)
    shown = capsys.readouterr().out
    assert "Another machine: cpu one, then two" in shown
    assert "7.00 ns" in shown
    assert f"1 of {len(told['figures'])} figures changed" in shown


FIGURES = '{"format": 1, "machine": {}, "figures": '


@pytest.mark.parametrize(
    "text",
    [
        None,
        "no json",
        "[" * 100_000,
        "[]",
        "{}",
        '{"format": 0}',
        '{"format": 1, "machine": [], "figures": {}}',
        '{"format": 1, "machine": {}}',
        FIGURES + "[]}",
        FIGURES + '{"ring": {"samples": {}}}}',
        FIGURES + '{"ring": {"unit": "ns"}}}',
        *(
            FIGURES + '{"ring": {"unit": "ns", "samples": {"one": ' + samples + "}}}}"
            for samples in ("[]", '"abc"', '["a"]', "[null]", "[NaN]", "[true]")
        ),
    ],
    ids=lambda text: str(text)[:60],
)
def test_a_file_that_is_no_result(tmp_path: Path, text: str | None) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    saved.save(good, [ring_section()], MACHINE, complete=True)
    if text is not None:
        bad.write_text(text)
    with pytest.raises(BadInput, match=f"--compare {bad}"):
        saved.compare(good, bad, as_json=False)


def test_a_plot_is_a_png_of_all_charts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra [bench]")
    path = tmp_path / "plot.png"
    plot.draw(path, [ring_section(), exit_section(), vga_section()], "a machine")
    assert path.read_bytes().startswith(b"\x89PNG")
    partial = vga_section(Taken())
    plot.draw(tmp_path / "partial.png", [ring_section(), partial], "a machine")
    with pytest.raises(BadInput, match="--plot"):
        plot.draw(tmp_path / "no" / "plot.png", [ring_section()], "a machine")


def test_the_readmes_table_is_markdown_of_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    summary.write(path, [ring_section(), exit_section(), vga_section()], MACHINE)
    lines = path.read_text().splitlines()
    assert all(line.count("|") == 4 for line in lines)
    assert lines[0].startswith("| what, on 2 CPUs of one |")
    shown = "\n".join(lines)
    for expected in (
        "| 8.00 ns | 7.00 ns C ring, published every 64",
        "| 12.0 µs | 1.20 times a bare C ping-pong over two pipes, 10.0 µs |",
        "p50 2.00 µs, p99 2.00 µs, p99.9 2.00 µs; 0.40 µs two spins in C",
        "| planar VGA write, end to end, 16 pages | 101.0 ns |",
        "70.0 ns QEMU on TCG, filled",
    ):
        assert expected in shown


def test_the_table_says_what_was_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    summary.write(path, [vga_section(Taken()), exit_section(("same",))], MACHINE)
    shown = path.read_text()
    assert "not measured every write exits" in shown
    assert "CPUs split" not in shown
    with pytest.raises(BadInput, match="--table"):
        summary.write(tmp_path / "no" / "table.md", [ring_section()], MACHINE)


def test_tables_fit_a_terminal_of_80_columns_whatever_they_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        ("a name that goes on and on, " * 4, spread([1234567.0, 8.0]), "a remark as well, " * 9),
        ("short", spread([1.0]), ""),
    ]
    section = report.Section("x", {}, "A title that is long, " * 6, "Mbit/s", rows)
    machine = {f"property {n}": "value" for n in range(12)}
    report.show([section._replace(missing={"y": "why not, " * 20})], machine, as_json=False)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("a remark as well,") + out.count("a remark") >= 9


def test_a_result_file_without_an_end_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "good"
    saved.save(good, [ring_section()], MACHINE, complete=True)
    with pytest.raises(BadInput, match="--compare /dev/zero: expected at most 64 MiB, got more"):
        saved.compare(good, Path("/dev/zero"), as_json=False)
