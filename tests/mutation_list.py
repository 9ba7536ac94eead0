"""Faults that are made on purpose, one at a time, and the test that each must fail."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """Replace the one place of `old` in `file` by `new`: `test` fails."""

    rule: str  # of the design
    how: str
    file: str
    old: str
    new: str
    test: str  # pytest's node id, or file and -k expression


def _c(order: str, rule: str, test: str) -> Mutation:
    headers = {
        "LAST": "ring", "FIRST": "ring", "POSTED": "posted", "LOCK": "ring_lock",
        "OWNER": "shared_ring",
    }  # fmt: skip
    header = headers.get(order.rpartition("_")[2], "exit")
    kind = "release" if "RELEASE" in order else "acquire"
    return Mutation(
        rule,
        f"{order} is memory_order_relaxed",
        f"hv/core/{header}.h",
        f"#define {order} memory_order_{kind}",
        f"#define {order} memory_order_relaxed",
        test,
    )


_VCPU = "tests/unit/hv/test_vcpu.py"
_VCPU_PEERS = "tests/unit/hv/test_vcpu_peers.py"
_MACHINE = "tests/process/test_machine_of_several_vcpus.py"
_SEVERAL = "tests/unit/hv/test_several_vcpus.py"
_POSTED = "tests/unit/hv/test_posted_zones.py"
_OWN = "tests/unit/hv/test_own_rings.py"
_RINGS = "tests/unit/vmm/test_rings_of_devices.py"
_EVENTS = "tests/unit/hv/test_ioeventfds.py"
_RING = "tests/unit/hv/test_ring.py"
_RING_HOSTILE = "tests/unit/hv/test_ring_hostile.py"
_DISPATCH = "tests/unit/vmm/test_dispatch.py"
_PROGRAMS = "tests/unit/tools/test_litmus_programs.py"
_LITMUS = f"{_PROGRAMS}::test_no_execution_of_a_program_goes_wrong_as_it_is_shipped"
_BATCH = "tests/unit/vmm/test_write_batch.py"
_FAILURES = "tests/unit/vmm/test_device_failures.py"
_IN_C = "tests/process/test_exits_in_c.py::test_c_carries_exits_out_as_python_does"
_ZONES = "tests/unit/vmm/test_zones_of_mappings.py"
_TSAN_RING = "tests/c/test_c.py -k test_the_ring_is_free_of_races"
_TSAN_POSTED = "tests/c/test_c.py -k test_posted_writes_are_free_of_races"
_TSAN_LOCK = "tests/c/test_c.py -k test_the_lock_of_a_ring_is_free_of_races"
_TSAN_EXIT = "tests/c/test_c.py -k test_the_doorbell_is_free_of_races"

MUTATIONS = (
    Mutation(
        "1 wholly inside one zone",
        "only the first byte counts",
        "hv/core/vcpu_bus.c",
        "return address >= z->start && last <= z->last;",
        "(void)last; return address >= z->start && address <= z->last;",
        f"{_VCPU}::test_a_write_is_queued_only_where_the_whole_of_it_lies_in_one_zone",
    ),
    Mutation(
        "1 otherwise the write itself exits",
        "what finds the ring full is dropped",
        "hv/core/vcpu_bus.c",
        "    if (status == RING_FULL)\n        return 0;",
        "    if (status == RING_FULL)\n        return 1;",
        f"{_VCPU}::test_every_170th_write_into_a_page_of_ring_exits",
    ),
    Mutation(
        "2 an access over a page boundary is two",
        "a store is one access wherever it lies",
        "hv/core/vcpu_bus.c",
        "    if (size > room)\n        return store_across",
        "    if (size > 8)\n        return store_across",
        f"{_VCPU}::test_a_store_over_a_page_boundary_is_two_accesses",
    ),
    Mutation(
        "2 an access over a page boundary is two",
        "the second part is queued where the first found no room",
        "hv/core/vcpu_bus.c",
        "    if (zone && zone->bulk && !*full) {",
        "    if (zone && zone->bulk) {",
        "tests/unit/tools/test_stress_cores.py::"
        "test_the_second_part_of_a_store_does_not_overtake_the_first_in_a_ring_that_is_drained",
    ),
    Mutation(
        "2 at most 1,000 zones per kind",
        "no limit",
        "hv/zones.py",
        "if len(self._zones) >= NR_IOBUS_DEVS:",
        "if len(self._zones) > 2 * NR_IOBUS_DEVS:",
        "tests/unit/hv/test_zones.py::test_the_1001st_zone_is_refused_with_enospc",
    ),
    Mutation(
        "3 full is (last + 1) mod N == first",
        "KVM's check from 2009 to 6.12",
        "hv/core/ring.h",
        "    if (after == p->first) {",
        "    if ((atomic_load(&p->ring->first) - p->next - 1) % p->slots == 0)\n"
        "        return RING_FULL;\n    if (after == p->slots) {",
        f"{_RING}::test_full_is_one_before_first_wherever_first_stands",
    ),
    Mutation(
        "4 unregistering removes the zones that contain the range",
        "the zones inside the range, as in 2008",
        "hv/zones.py",
        "for at in range(low, high) if addr <= end <= self._zones[at][1]]",
        "for at, zone in enumerate(self._zones) if addr <= zone[0] <= zone[1] <= end]",
        "tests/unit/hv/test_zones.py::test_unregister_removes_the_zones_that_contain_the_range",
    ),
    Mutation(
        "5 drained before any exit",
        "before MMIO exits only",
        "vmm/dispatch.py",
        "        if pending():",
        "        if reason == KVM_EXIT_MMIO and pending():",
        f"{_DISPATCH}::test_mmio_queued_before_a_port_access_is_seen_first",
    ),
    Mutation(
        "5 before a mapping changes",
        "the guest stops, and nothing is flushed",
        "vmm/coalescing.py",
        "        self._drain.flush_before_change()\n\n    def _after_change",
        "\n    def _after_change",
        "tests/unit/vmm/test_zones_of_mappings.py::"
        "test_before_a_change_the_guest_stops_then_the_queue_is_flushed_then_zones_follow",
    ),
    Mutation(
        "5 before the state is looked at",
        "it is looked at as it is",
        "vmm/machine.py",
        "        self.flush()\n        digest",
        "        digest",
        "tests/unit/vmm/test_machine.py::test_the_state_is_taken_after_a_flush",
    ),
    Mutation(
        "5 when the guest died",
        "its writes die with it",
        "vmm/machine.py",
        "            self.flush()\n            raise",
        "            raise",
        f"{_DISPATCH}::test_what_a_dead_guest_had_published_arrives_before_its_death_is_told",
    ),
    Mutation(
        "5 at the latest `staleness` after the write",
        "the timer does nothing",
        "vmm/machine.py",
        "        if self.flush():",
        "        if False:",
        "tests/unit/vmm/test_machine.py::test_a_queued_write_is_delivered_after_the_staleness",
    ),
    Mutation(
        "6 a flush during a drain is a no-op",
        "it drains",
        "vmm/drain.py",
        "            return 0\n        drained = sum(",
        "            pass\n        drained = sum(",
        f"{_DISPATCH}::test_a_flush_during_a_drain_is_a_no_op_and_the_order_stays",
    ),
    Mutation(
        "7 the old zones are gone before the new ones count",
        "the old ones go afterwards",
        "vmm/coalescing.py",
        ".change_coalesced(change) :]",
        ".change_coalesced(change._replace(removed=())) :]\n                "
        "self._accel.change_coalesced(ZoneChange(removed))",
        f"{_ZONES}::test_when_the_owner_of_a_zone_changes_the_old_is_gone_before_the_new_counts",
    ),
    Mutation(
        "8 an outl to 0xcf8 is coalesced",
        "its zone ends ahead of port 0xcf9, as QEMU's does",
        "devices/i440fx.py",
        "coalesced=((0, 4),)",
        "coalesced=((0, 1),)",
        "tests/unit/devices/test_pci_moves.py::test_dwords_at_0xcf8_are_coalesced",
    ),
    Mutation(
        "9 a write whose handler raises is consumed, the rest goes on",
        "few entries end there",
        "vmm/access.py",
        "as error:\n            self.failed(space, address, size, value",
        "as error:\n            raise\n            self.failed(space, address, size, value",
        f"{_FAILURES}::test_a_queued_write_that_raises_is_consumed_told_and_counted",
    ),
    Mutation(
        "9 a write whose handler raises is consumed, the rest goes on",
        "the batch ends there",
        "vmm/routes.c",
        "    return done ? 0 : -1;",
        "    return -1;",
        f"{_BATCH}::test_a_write_that_raises_is_consumed_and_reported_and_the_rest_goes_on",
    ),
    Mutation(
        "9 what Ctrl-C leaves of a batch stays in the ring",
        "it is given back with the batch",
        "vmm/drain.py",
        "                    done = routes.done",
        "                    done = count",
        "tests/unit/vmm/test_cut_batches.py::test_what_ends_a_batch_leaves_the_rest_in_the_ring",
    ),
    Mutation(
        "5 the ring is drained before any exit",
        "not before those that C carries out",
        "vmm/exits.c",
        "drain(e, handle) < 0",
        "false && drain(e, handle) < 0",
        _IN_C,
    ),
    Mutation(
        "10 after fewer than all, the rest is resolved anew",
        "a short count counts as all",
        "vmm/access.py",
        "at += taken or 1",
        "at += (taken and len(run)) or 1",
        f"{_BATCH}::test_after_a_short_count_the_same_region_is_asked_again",
    ),
    Mutation(
        "10 after a mapping change, too",
        "what was resolved stays so",
        "vmm/access.py",
        "            at += taken or 1\n",
        "            at += taken or 1\n            while at < stop:\n"
        "                at += take(run_of(at, stop, base, size, span)) or 1\n",
        f"{_BATCH}::test_behind_a_mapping_change_the_rest_is_resolved_anew",
    ),
    Mutation(
        "11 several vCPUs append under a lock",
        "nobody takes it",
        "hv/core/vm_ring.h",
        "        ring_lock_take(&r->lock);\n",
        "        (void)r;\n",
        f"{_SEVERAL}::test_every_write_of_every_vcpu_arrives_once_and_in_its_order",
    ),
    Mutation(
        "11 a batch of at most 64 entries per holding",
        "a bulk operation is one batch",
        "hv/core/vcpu_bus.c",
        "r->eager && count - i > PUBLISH_AT_LATEST ?",
        "r->eager && count < i ?",
        f"{_SEVERAL}::test_vcpus_that_fill_the_ring_take_turns_of_64_entries",
    ),
    Mutation(
        "11 the VMM is fair among vCPUs",
        "it always looks at the same one first",
        "hv/core/handles.c",
        "    g->turn = (i + 1) % g->count;\n",
        "",
        f"{_MACHINE}::test_of_vcpus_that_exit_all_the_time_each_is_served_in_turn",
    ),
    Mutation(
        "11 a vCPU that has halted stays so",
        "it is entered again with the others",
        "hv/core/handles.c",
        " && !(g->parked & 1u << i)",
        "",
        f"{_MACHINE}::test_ctrl_c_between_exits_of_several_vcpus_loses_and_repeats_none",
    ),
    Mutation(
        "12 published before a later store to RAM",
        "the lock is given back before that",
        "hv/core/vm_ring.h",
        "    vm_ring_publish(r);\n    bool wake",
        "    bool wake",
        f"{_SEVERAL}::test_a_write_is_published_before_a_later_store_to_ram_of_its_vcpu_is_seen",
    ),
    Mutation(
        "13 an exit drains the own rings of its device",
        "it drains the VM's alone",
        "vmm/dispatch.py",
        "            self._drain.flush_some(self._own.at(space, address, size))\n",
        "            pass\n",
        f"{_RINGS}::test_an_exit_drains_the_vms_ring_then_the_own_ring_of_its_device_and_no_other",
    ),
    Mutation(
        "13 an exit drains the own rings of its device",
        "not one that C carries out",
        "vmm/exits.c",
        "if (f && f->pending) {",
        "if (!e && f->pending) {",
        "tests/process/test_cli_zones.py::test_each_device_may_have_a_ring_of_its_own",
    ),
    Mutation(
        "13 other own rings keep their entries",
        "an exit drains all",
        "vmm/dispatch.py",
        "            self._drain.flush_some(self._own.at(space, address, size))\n",
        "            self._drain.flush()\n",
        f"{_RINGS}::test_an_exit_drains_the_vms_ring_then_the_own_ring_of_its_device_and_no_other",
    ),
    Mutation(
        "13 a mapping change drains all rings",
        "from inside a drain it drains none",
        "vmm/coalescing.py",
        "        self._drain.flush_before_change()\n",
        "        self._drain.flush()\n",
        f"{_RINGS}::test_a_mapping_change_drains_all_and_from_inside_a_drain_all_others",
    ),
    Mutation(
        "14 zones name their ring",
        "all go to the VM's",
        "hv/core/vcpu_zones.c",
        "zones[i].ring = ring_of(v, i < (size_t)rings ? (uint8_t)numbers[i] : 0);",
        "zones[i].ring = ring_of(v, 0);",
        f"{_OWN}::test_a_write_goes_into_the_ring_of_its_zone",
    ),
    Mutation(
        "14 giving a ring up takes its zones along",
        "they stay",
        "hv/zones.py",
        "if self._kind(zone).buffer == buffer]",
        "if self._kind(zone).buffer < 0]",
        f"{_OWN}::test_giving_a_buffer_up_takes_its_zones_along",
    ),
    Mutation(
        "14 its descriptor is readable when entries wait",
        "only when it is full",
        "hv/core/own_ring.h",
        "if (own_ring_used(p) < wake_at)",
        "if (own_ring_used(p) < p->slots - 1 + 0 * wake_at)",
        f"{_OWN}::test_the_descriptor_is_readable_from_half_full_on_until_the_ring_is_looked_into",
    ),
    Mutation(
        "14 no wake-up is lost",
        "no fence before `signalled`",
        "hv/core/own_ring.h",
        "#define FENCE_OWN_RING memory_order_seq_cst",
        "#define FENCE_OWN_RING memory_order_relaxed",
        f"{_LITMUS}[own]",
    ),
    Mutation(
        "15 a posted write wakes the VMM",
        "it is queued like any other",
        "hv/core/vcpu_bus.c",
        "    if (queued > 0 && zone->posted)\n        vcpu_post(v);\n",
        "",
        f"{_POSTED}::test_a_posted_write_in_a_bulk_operation_is_shown_at_once",
    ),
    Mutation(
        "15 also in a bulk operation",
        "its fast path takes posted writes",
        "hv/core/ioeventfd.c",
        "z->bulk = z->clear_of_ram && z->clear_of_events && !z->posted;",
        "z->bulk = z->clear_of_ram && z->clear_of_events;",
        f"{_POSTED}::test_a_posted_write_in_a_bulk_operation_is_shown_at_once",
    ),
    Mutation(
        "15 it is drained",
        "the VMM does not look for posted writes",
        "hv/core/handle_run.c",
        "    if (h->watched & WATCH_POSTED && posted_since(",
        "    if (false && posted_since(",
        f"{_POSTED}::test_a_post_before_a_pause_is_reported_after_it",
    ),
    Mutation(
        "15 it is drained",
        "an exit of another device takes its report away",
        "hv/core/handle_run.c",
        "    if ((h->watched & (WATCH_POSTED | POSTED_APART)) == WATCH_POSTED)\n",
        "    if (h->watched & WATCH_POSTED)\n",
        f"{_OWN}::test_an_exit_does_not_take_the_report_of_a_posted_write_between_an_earlier_one_and_it",
    ),
    Mutation(
        "15 no wake-up is lost",
        "no fence before need-wakeup",
        "hv/core/posted.h",
        "#define FENCE_POSTED memory_order_seq_cst",
        "#define FENCE_POSTED memory_order_relaxed",
        f"{_LITMUS}[posted]",
    ),
    Mutation(
        "15 a posted zone overlaps no other",
        "any zone may",
        "hv/zones.py",
        "            if not apart and (there := self._kind(other)) != kind:\n",
        "            if False:\n",
        f"{_POSTED}::test_a_posted_zone_may_not_overlap_one_that_is_none",
    ),
    Mutation(
        "15 where it is also declared as queued it is posted",
        "both zones are registered",
        "vmm/coalescing.py",
        "without(queued, posted + events)",
        "queued",
        "tests/unit/vmm/test_zone_choice.py::test_posted_ranges_are_cut_out_of_the_queued_ones",
    ),
    Mutation(
        "16 what was queued before an ioeventfd is drained before it",
        "it is signalled before they are shown",
        "hv/core/ioeventfd.c",
        "        vm_ring_show(v->ring); /* the VMM drains the ring before it tells the device */\n",
        "",
        f"{_EVENTS}::test_the_entries_before_a_signal_are_shown_when_it_comes",
    ),
    Mutation(
        "16 its length must match",
        "a write of any length does",
        "hv/core/ioeventfd.c",
        "(e->length == 0 || e->length == size)",
        "(e->length == 0 || size > 0)",
        f"{_EVENTS}::test_what_was_queued_before_an_event_is_shown_before_it",
    ),
    Mutation(
        "16 zones are cut around ioeventfds",
        "they overlap",
        "vmm/coalescing.py",
        "        events = self._events[port]\n",
        "        events: list[Range] = []\n",
        "tests/unit/vmm/test_ioeventfd_calls.py::test_zones_are_cut_around_an_ioeventfd",
    ),
    Mutation(
        "16 the ring is drained before an ioeventfd's device is called",
        "the device is called at once",
        "vmm/machine.py",
        "            self.flush()\n            call(count)\n",
        "            call(count)\n",
        "tests/unit/vmm/test_ioeventfd_calls.py::"
        "test_what_was_queued_before_an_event_reaches_its_device_before_the_call",
    ),
    _c("ORDER_ACQUIRE_FIRST", "ordering: producer reads `first`", _TSAN_RING),
    _c("ORDER_RELEASE_LAST", "ordering: producer writes `last`", _TSAN_RING),
    _c("ORDER_ACQUIRE_LAST", "ordering: consumer reads `last`", _TSAN_RING),
    _c("ORDER_RELEASE_FIRST", "ordering: consumer writes `first`", _TSAN_RING),
    _c("ORDER_RELEASE_EXIT", "ordering: payload, then exit sequence", _TSAN_EXIT),
    _c("ORDER_ACQUIRE_EXIT", "ordering: exit sequence, then payload", _TSAN_EXIT),
    _c("ORDER_RELEASE_RESUME", "ordering: result, then resume sequence", _TSAN_EXIT),
    _c("ORDER_ACQUIRE_RESUME", "ordering: resume sequence, then result", _TSAN_EXIT),
    _c("ORDER_RELEASE_POSTED", "ordering: entry, then posted sequence", _TSAN_POSTED),
    _c("ORDER_ACQUIRE_POSTED", "ordering: posted sequence, then entry", _TSAN_POSTED),
    _c("ORDER_ACQUIRE_LOCK", "ordering: a producer takes the ring's lock", _TSAN_LOCK),
    _c("ORDER_RELEASE_LOCK", "ordering: a producer gives the lock back", _TSAN_LOCK),
    _c("ORDER_RELEASE_OWNER", "ordering: entries, then the end of a side", _LITMUS),
    _c("ORDER_ACQUIRE_OWNER", "ordering: the end of a side, then its entries", _LITMUS),
    _c("ORDER_TAKE_OWNER", "ordering: a side is taken over, then its entries", _LITMUS),
    Mutation(
        "trust: an index is checked",
        "the consumer believes `last`",
        "hv/core/ring.h",
        "    if (last >= c->slots ||\n        ring_distance",
        "    if (ring_distance",
        f"{_RING_HOSTILE}::test_an_index_that_is_no_slot_is_reported",
    ),
    Mutation(
        "trust: an index does not go backwards",
        "the consumer takes any slot",
        "hv/core/ring.h",
        "    if (last >= c->slots ||\n        ring_distance(c->next, last, c->slots) < "
        "ring_distance(c->next, c->last, c->slots)) {",
        "    if (last >= c->slots) {",
        f"{_RING_HOSTILE}::test_a_last_that_goes_backwards_is_reported",
    ),
    Mutation(
        "trust: `len` is 1 to 8",
        "up to 9",
        "hv/core/ring.h",
        "    if (e->len - 1u > 7u) {",
        "    if (e->len - 1u > 8u) {",
        f"{_RING_HOSTILE}::test_an_entry_that_breaks_the_rules_is_named",
    ),
    Mutation(
        "trust: nobody waits forever on a dead peer",
        "only a wait without a limit looks for its end",
        "hv/core/wait.c",
        "        if (now >= b->look_at) {",
        "        if (now >= b->look_at && deadline == UINT64_MAX) {",
        "tests/process/test_hv_processes.py::"
        "test_a_dead_guest_is_seen_in_a_row_of_short_waits[poll]",
    ),
    Mutation(
        "waiting: a byte wakes a sleeper",
        "the bytes that are left in a pipe fill it",
        "hv/core/edges.c",
        "    if ((b->undrained || bytes - e->taken >= BYTES_LEFT) && doorbell_drain(b))",
        "    if (false && doorbell_drain(b))",
        "tests/unit/hv/test_edges.py::"
        "test_a_guest_empties_a_pipe_that_was_filled_while_it_did_not_wait",
    ),
    Mutation(
        "trust: nobody waits forever on a dead peer",
        "a sleep that ended by a byte takes the peer's end along",
        "hv/core/edges.c",
        "    if (event.events & (EPOLLHUP | EPOLLERR))",
        "    if (event.events & EPOLLERR)",
        "tests/unit/hv/test_edges.py::test_the_end_of_a_peer_is_seen_in_each_wait_behind_a_byte",
    ),
    Mutation(
        "trust: nobody waits for what a third process took back",
        "the guest does not look at its own word",
        "hv/core/vcpu_exit.c",
        "    if (request_waits(v) || sequence_overwritten(v))",
        "    if (request_waits(v))",
        f"{_VCPU_PEERS}::test_a_word_of_the_guest_that_another_process_overwrites",
    ),
)
