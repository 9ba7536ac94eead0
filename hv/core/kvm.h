/* KvmHandle: what the threads of several vCPUs use of it. */
#ifndef COALESCED_KVM_H
#define COALESCED_KVM_H

#include "core.h"

#include <signal.h>

#define LEAVE_SIGNAL SIGRTMIN
#define LEAVE_NS 100000000u /* how long a signal of others, Ctrl-C, may be overlooked */

typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    struct run_page *run;
    uint8_t *io_data;
    int fd;
    struct pending_load load;
    bool keeps;       /* a write that `run` returned stays the caller's until `enter` */
    bool untaken;     /* there is such a write */
    uint32_t element; /* of a string instruction, which `run` returns one by one */
    pid_t thread;     /* whom the timer signals; 0: there is no timer */
    timer_t timer;
    uint64_t armed; /* when it fires, CLOCK_MONOTONIC ns */
} KvmObject;

extern PyTypeObject *KvmType;

/* Have LEAVE_SIGNAL end a KVM_RUN of this process; 0, or -1 with errno set. */
int kvm_handle_signal(void);
/* KVM_RUN once, called without the GIL: 0, or the error's number. The exit before it is over. */
int kvm_enter(KvmObject *k);
/* The vCPU's last exit, or NULL with an exception set. */
PyObject *kvm_tell(KvmObject *k);

#endif
