/*
 * The whole of coalesced.hv.core as one unit, for a variant of it that the product never loads.
 *
 * A variant's file defines what is different, names its module in VARIANT and includes this one.
 */
#define _GNU_SOURCE
#define JOINED(a, b) a##b
#define INIT_OF(variant) JOINED(PyInit_, variant)
#ifndef PyInit_core
#define PyInit_core INIT_OF(VARIANT)
#endif

#ifdef BROKEN_RING
#include BROKEN_RING
#endif
#include "core.h"
#include "bell.c"
#include "cpu.c"
#include "cpu_exception.c"
#include "cpu_interrupt.c"
#include "cpu_memory.c"
#include "cpu_string.c"
#include "edges.c"
#include "exit_page.c"
#include "ioeventfd.c"
#include "kvm.c"
#include "kvm_seats.c"
#include "kvm_threads.c"
#include "mapping.c"
#include "module.c"
#include "producer.c"
#include "ringtypes.c"
#include "support.c"
#include "unicorn.c"
#include "vcpu.c"
#include "vcpu_bulk.c"
#include "vcpu_bus.c"
#include "vcpu_call.c"
#include "vcpu_exit.c"
#include "vcpu_zones.c"
#include "vm_ring.c"
/* vcpu.c has one of that name. */
#define get_signals handle_get_signals
#include "handle.c"
#include "handle_code.c"
#include "handle_run.c"
#include "handles.c"
#include "wait.c"
#include "waits.c"
