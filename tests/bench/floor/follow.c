/* Follows its callers' CPU, and keeps the other one of two busy: as daemon/src/fuse/follow.rs and neighbour.rs do it. */

#define _GNU_SOURCE
#include "floor.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOOK_EVERY = 32, LOOK_AGAIN = 8 }; /* requests */
enum { FAST = 150000, QUIET = 800000, TAKEN = 250000, REST = 1000000 }; /* nanoseconds */

static atomic_uint served;
static atomic_int neighbour_is, awake, resting;
static pthread_mutex_t sleeping = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A thread; 0: this one. */
static int pin(int thread, int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return sched_setaffinity(thread, sizeof one, &one);
}

static void pause_a_little(void)
{
    for (int i = 0; i < 16; i++)
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Until it is quiet (0), or somebody else wants the CPU (1). */
static int spin(void)
{
    unsigned count = atomic_load(&served);
    uint64_t now = nanoseconds(), last = now;
    for (;;) {
        pause_a_little();
        sched_yield();
        uint64_t before = now;
        now = nanoseconds();
        if (atomic_load(&served) != count) {
            count = atomic_load(&served);
            last = now;
        } else if (now - last > QUIET)
            return 0;
        if (now - before > TAKEN)
            return 1;
    }
}

static void *neighbour(void *nothing)
{
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; }
        humble = { sizeof humble, SCHED_OTHER, 0, 19, 0, 100000, 0, 0 };
    syscall(SYS_sched_setattr, 0, &humble, 0);
    atomic_store(&neighbour_is, (int)syscall(SYS_gettid));
    for (;;) {
        pthread_mutex_lock(&sleeping);
        while (!atomic_load(&awake))
            pthread_cond_wait(&woken, &sleeping);
        pthread_mutex_unlock(&sleeping);
        int disturbed = spin();
        atomic_store(&resting, disturbed);
        atomic_store(&awake, 0);
        if (disturbed) {
            nanosleep(&(struct timespec){ .tv_nsec = REST }, NULL);
            atomic_store(&resting, 0);
        }
    }
    return nothing;
}

int follow_begin(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, neighbour, NULL);
}

/* Field 39 of /proc/PID/stat; -1 if it cannot be seen. */
static int cpu_of(uint32_t pid)
{
    char path[32], line[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0)
        close(fd);
    line[len > 0 ? len : 0] = 0;
    char *at = strrchr(line, ')');
    for (int field = 2; at && field < 39; field++)
        at = strchr(at + 1, ' ');
    return at ? atoi(at) : -1;
}

static void wake_neighbour(int other)
{
    static int spins_on = -1;
    int thread = atomic_load(&neighbour_is);
    if (thread == 0)
        return;
    if (spins_on != other && pin(thread, other) == 0)
        spins_on = other;
    if (spins_on != other || atomic_load(&awake) || atomic_load(&resting))
        return;
    pthread_mutex_lock(&sleeping);
    atomic_store(&awake, 1);
    pthread_cond_signal(&woken);
    pthread_mutex_unlock(&sleeping);
}

void follow(uint32_t pid)
{
    static int until, pinned = -1;
    static uint64_t looked;
    static unsigned looked_at;
    unsigned count = atomic_fetch_add(&served, 1) + 1;
    if (until-- > 0)
        return;
    uint64_t now = nanoseconds();
    int fast = now - looked < (uint64_t)FAST * (count - looked_at);
    looked = now;
    looked_at = count;
    int cpu = cpu_of(pid), before = pinned;
    if (cpu != pinned && cpu >= 0 && pin(0, cpu) == 0)
        pinned = cpu;
    until = (pinned == before ? LOOK_EVERY : LOOK_AGAIN) - 1;
    if (fast && pinned >= 0 && pinned < 2 && sysconf(_SC_NPROCESSORS_ONLN) == 2)
        wake_neighbour(1 - pinned);
}
