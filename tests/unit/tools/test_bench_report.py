"""Figures as JSON, as tables, as charts; what changed between two files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coalesced.tools.bench import exits, plot, report, ring, rows, saved, vga
from coalesced.tools.bench.channels import PEERS
from coalesced.tools.bench.channels import RING as RING_CHANNEL
from coalesced.tools.bench.exits import FLOORS, POLICIES, key_of
from coalesced.tools.bench.host import Host
from coalesced.tools.bench.measure import Spread, Taken, spread
from coalesced.tools.errors import BadInput

MACHINE = Host("one", 2, 2, "Linux 6.1", True, "none", "3.11", 0.1)
RING = ring.Choice()
PER_CALL, PER_BATCH, FROM_C, _ = rows.WAYS
PLACEMENTS = ("split", "same")


def figure(median: float) -> Spread:
    """Nine samples close around a median."""
    return spread([median * (1 + number / 1000) for number in range(-4, 5)])


def ring_section(**changed: float) -> report.Section:
    subjects = [str(subject) for subject in RING.subjects()]
    values = dict.fromkeys(subjects, 50.0)
    values |= {subjects[0]: 8.0, subjects[1]: 30.0}
    values |= dict.fromkeys(ring.FLOORS, 7.0)
    values |= {
        PER_CALL.name(RING_CHANNEL.name): 1000.0,
        PER_CALL.name(PEERS[0].name): 2000.0,
        PER_CALL.name(PEERS[1].name): 1600.0,
        PER_BATCH.name(RING_CHANNEL.name): 20.0,
        PER_BATCH.name(PEERS[0].name): 10.0,
        FROM_C.name("ring.h"): 7.0,
        FROM_C.name("pipe"): 700.0,
    } | changed
    taken = Taken({name: figure(value) for name, value in values.items()})
    times = {PER_CALL.name(PEERS[0].name): np.array([5_000] * 99 + [50_000])}
    missing = {way.key: {"other": "not installed"} if way is PER_CALL else {} for way in rows.WAYS}
    of_rows = rows.figures(taken, times, missing, PEERS)
    return ring.section(RING, taken, 123.4, of_rows, times)


def exit_section(placements: tuple[str, ...] = PLACEMENTS) -> report.Section:
    names = (*POLICIES, *FLOORS)
    costs = dict(
        zip(names, (12_000, 2000, 1500, 10_000, 11_500, 9000, 11_000, 8000, 400), strict=True)
    )
    taken = Taken({key_of(p, n): figure(costs[n]) for p in placements for n in names})
    singles = {key_of(p, n): np.zeros(0, np.int64) for p in PLACEMENTS for n in names}
    for name in names:
        singles[key_of("split", name)] = np.array([costs[name]] * 999 + [costs[name] * 50])
    return exits.section(placements, taken, singles)


def vga_section(taken: Taken | None = None) -> report.Section:
    choice = vga.Choice((1, 16), "adaptive")
    if taken is None:
        names = [str(subject) for subject in choice.subjects()]
        taken = Taken({name: figure(100.0 + at) for at, name in enumerate(names)})
        taken[vga.qemu_name("tcg", "filled")] = figure(70.0)
    return vga.section(choice, taken, {"kvm": "/dev/kvm does not open"})


def members(section: report.Section) -> dict[str, Any]:
    """The section's member of the JSON object, as a script reads it."""
    whole = json.loads(json.dumps(report.Report(MACHINE, [section]).members()))
    found: dict[str, Any] = whole[section.key]
    return found


def test_ring_has_the_keys_that_scripts_rely_on() -> None:
    values = members(ring_section())
    assert values["ns_per_entry"] == 8.0
    assert values["batch"] == 123.4
    assert values["ns_per_entry_each"] == 30.0
    assert values["peers"] == {PEERS[0].name: 2000.0, PEERS[1].name: 1600.0}
    assert values["floors"] == dict.fromkeys(ring.FLOORS, 7.0)
    assert values["spread"]["ns_per_entry"] == [7.968, 8.032]


def test_a_row_compares_the_ring_with_peers_that_are_called_alike() -> None:
    found = members(ring_section())["rows"]
    call, batch = found["per_call"], found["per_batch"]
    assert (call["batch"], batch["batch"]) == (1, rows.BATCH)
    assert (call["best_peer_ratio"], batch["best_peer_ratio"]) == (1.6, 0.5)
    assert set(call["channels"]) == {RING_CHANNEL.name, PEERS[0].name, PEERS[1].name}
    assert call["channels"][PEERS[0].name] == {
        "ns_per_entry": 2000.0, "p50_us": 5.0, "p99_us": 5.0, "p99_9_us": 50.0, "batches": "",
    }  # fmt: skip
    assert batch["channels"][PEERS[0].name]["batches"] == PEERS[0].batches
    assert batch["channels"][PEERS[0].name]["p50_us"] is None
    assert found["from_c"]["best_peer_ratio"] == 100.0
    assert found["from_c_batch"]["best_peer_ratio"] is None
    assert call["missing"] == {"other": "not installed"}


def test_the_matrix_names_every_dimension() -> None:
    matrix = members(ring_section())["matrix"]
    assert {entry["pages"] for entry in matrix} >= set(RING.others)
    assert {entry["burst"] for entry in matrix} >= set(RING.bursts)
    assert {entry["publish_every"] for entry in matrix} == {1, ring.PUBLISH_EVERY}


def test_exit_has_both_placements() -> None:
    values = members(exit_section())
    for figures in (values, values["same"]):
        assert figures["floor_pipe_us"] == 10.0
        assert (figures["block_us"], figures["adaptive_us"], figures["poll_us"]) == (12.0, 2.0, 1.5)
        assert figures["block_ratio"] == 1.2
    assert values["p99_us"] == {
        "block": 12.0, "adaptive": 2.0, "poll": 1.5,
        "pipe": 10.0, "ppoll": 11.5, "eventfd": 9.0, "socketpair": 11.0, "futex": 8.0, "spin": 0.4,
    }  # fmt: skip
    assert values["block_p50_ratio"] == 1.2
    assert values["max_us"]["block"] == 600.0


def test_on_one_cpu_the_split_figures_are_null() -> None:
    values = members(exit_section(("same",)))
    assert values["block_us"] is None
    assert values["floor_pipe_us"] is None
    assert values["same"]["block_us"] == 12.0


def test_vga_has_the_first_ring_at_the_top_and_all_of_them_below() -> None:
    values = members(vga_section())
    assert (values["ring_pages"], values["coalesced_ns_per_write"]) == (1, 100.0)
    assert (values["exit_ns_per_write"], values["direct_ns_per_write"]) == (102.0, 105.0)
    assert (values["load_ns"], values["load_handler_ns"]) == (103.0, 104.0)
    assert values["spread"]["load_ns"] == [102.588, 103.412]
    assert {cell["pattern"] for cell in values["matrix"]} >= {"scattered", "filled"}
    assert vga.LOADS not in {cell["pattern"] for cell in values["matrix"]}
    assert values["wait"] == "adaptive"
    assert values["rings"] == [
        {"ring_pages": 1, "coalesced_ns_per_write": 100.0},
        {"ring_pages": 16, "coalesced_ns_per_write": 101.0},
    ]
    assert values["qemu"] == {"tcg_filled_ns_per_write": 70.0}
    assert values["qemu_missing"] == {"kvm": "/dev/kvm does not open"}
    assert "kvm" not in values


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(report.Report(MACHINE, [ring_section(), vga_section()]), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == ["machine", "complete", "others_cpu_share", "ring", "vga"]


def test_a_busy_machine_is_the_first_thing_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for share in (0.0, 0.9):
        whole = report.Report(MACHINE, [ring_section()], others_cpu_share=share)
        report.show(whole, as_json=False)
        first = capsys.readouterr().out.splitlines()[0]
        assert first.startswith("CPU time of other processes") is (share > 0.5)


def test_what_ctrl_c_left_out_is_null_in_json_and_missing_in_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [str(subject) for subject in vga.Choice((1, 16), "adaptive").subjects()]
    section = vga_section(Taken({names[0]: figure(100.0)}))
    interrupted = report.Report(MACHINE, [section], KeyboardInterrupt())
    report.show(interrupted, as_json=True)
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown["complete"] is False
    assert shown["vga"]["coalesced_ns_per_write"] == 100.0
    assert shown["vga"]["direct_ns_per_write"] is None
    report.show(interrupted, as_json=False)
    table = capsys.readouterr().out
    assert names[0] in table
    assert names[1] not in table
    assert "nan" not in table
    assert "Not complete" in table


def test_tables_have_units_and_spread(capsys: pytest.CaptureFixture[str]) -> None:
    sections = [ring_section(), exit_section(), vga_section()]
    report.show(report.Report(MACHINE, sections), as_json=False)
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
        "1.6 times the ring",
        "5.00/5.00/50.0 us",
        "0.5 times the ring",
        "Without other: not installed",
        "Without QEMU on KVM: /dev/kvm does not open",
    ):
        assert expected in shown


def test_a_saved_file_has_every_sample_and_every_exit(tmp_path: Path) -> None:
    sections = [ring_section(), exit_section()]
    saved.save(tmp_path / "a", report.Report(MACHINE, sections))
    whole = json.loads((tmp_path / "a").read_text())
    assert whole["ring"]["ns_per_entry"] == 8.0
    first = str(RING.subjects()[0])
    assert whole["figures"]["ring"]["samples"][first] == list(figure(8.0).samples)
    block = whole["histograms"]["exit"][key_of("split", "block")]
    assert block == {"us": [12.0, 600.0], "counts": [999, 1]}
    random = np.random.default_rng(6).lognormal(9, 2, 6000).astype(np.int64)
    saved.save(
        tmp_path / "b", report.Report(MACHINE, [sections[1]._replace(singles={"x": random})])
    )
    kept = json.loads((tmp_path / "b").read_text())["histograms"]["exit"]["x"]
    times = np.repeat(np.array(kept["us"]) * 1e3, kept["counts"])
    assert np.abs(times / np.maximum(np.sort(random), 1) - 1).max() < 0.006  # three digits


def test_compare_takes_a_figure_that_has_changed_its_sign(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path, median in zip(paths, (-2.0, 3.0), strict=True):
        rows = [report.Row("gain", figure(median))]
        saved.save(path, report.Report(MACHINE, [report.Section("x", Taken(), "", "%", rows)]))
    (change,) = saved.compare(*paths).figures
    assert (change.ratio, change.beyond_noise) == (-1.5, True)


def test_compare_tells_changes_from_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "a", tmp_path / "b"
    saved.save(before, report.Report(MACHINE, [ring_section()]))
    changed = {ring.C_RING: 14.0, ring.C_RING_EACH: 7.002}
    other = replace(MACHINE, cpu="two", load=9.0)
    saved.save(after, report.Report(other, [ring_section(**changed)]))
    changes = saved.compare(before, after)
    saved.show(changes, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["machine_differs"] == {"cpu": ["one", "two"]}
    beyond = [change for change in told["figures"] if change["beyond_noise"]]
    assert [(change["what"], change["ratio"]) for change in beyond] == [
        (f"floor: {ring.C_RING}", 2.0)
    ]
    saved.show(changes, as_json=False)
    shown = capsys.readouterr().out
    assert "The machines differ: cpu one, then two" in shown
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
    saved.save(good, report.Report(MACHINE, [ring_section()]))
    if text is not None:
        bad.write_text(text)
    with pytest.raises(BadInput, match=f"--compare {bad}"):
        saved.compare(good, bad)


@pytest.mark.heavy
def test_a_plot_is_a_png_of_all_charts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra [bench]")
    path = tmp_path / "plot.png"
    plot.draw(path, [ring_section(), exit_section(), vga_section()], "a machine")
    assert path.read_bytes().startswith(b"\x89PNG")
    partial = vga_section(Taken())
    plot.draw(tmp_path / "partial.png", [ring_section(), partial], "a machine")
    with pytest.raises(BadInput, match="--plot"):
        plot.draw(tmp_path / "no" / "plot.png", [ring_section()], "a machine")


@pytest.mark.heavy
def test_an_axis_spans_a_decade_and_has_plain_numbers() -> None:
    """Figures that differ by 3 % do not fill it."""
    figures = pytest.importorskip("matplotlib.figure", reason="matplotlib comes with [bench]")
    axis = figures.Figure().add_subplot()
    plot.draw_lines(
        axis, report.Chart("", "MiB", "ns", lines=(("an exit", [(16, 1208.0), (64, 1215.0)]),))
    )
    low, high = axis.get_ylim()
    assert high / low == pytest.approx(plot.DECADE)
    labels = {label.get_text() for label in axis.get_yticklabels()}
    assert labels >= {"500", "1,000", "2,000"}


def test_a_table_in_markdown_has_every_row_that_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "table.md"
    sections = [ring_section(), exit_section(), vga_section(Taken())]
    report.write_table(path, report.Report(MACHINE, sections))
    lines = path.read_text().splitlines()
    assert all(line.count("|") == 5 for line in lines)
    assert lines[0].startswith("| on 2 CPUs of one |")
    assert len(lines) == 2 + 3 + len(sections[0].rows) + len(sections[1].rows)
    first = str(RING.subjects()[0])
    assert f"| {first} | 8.00 | 7.97 to 8.03 | 123.4 entries a drain |" in lines
    with pytest.raises(BadInput, match="--table"):
        report.write_table(tmp_path / "no" / "table.md", report.Report(MACHINE, sections))


def test_tables_fit_a_terminal_of_80_columns_whatever_they_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        report.Row("a long name, " * 9, spread([1234567.0, 8.0]), "a remark as well, " * 9),
        report.Row("short", spread([1.0])),
    ]
    section = report.Section("x", None, "A title that is long, " * 6, "Mbit/s", rows)
    section = section._replace(missing={"y": "why not, " * 20})
    machine = replace(MACHINE, cpu="a processor with a name, " * 5)
    report.show(report.Report(machine, [section]), as_json=False)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("a remark as well,") + out.count("a remark") >= 9


def test_a_result_file_without_an_end_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "good"
    saved.save(good, report.Report(MACHINE, [ring_section()]))
    with pytest.raises(BadInput, match="--compare /dev/zero: expected at most 64 MiB, got more"):
        saved.compare(good, Path("/dev/zero"))
