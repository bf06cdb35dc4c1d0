/* Preloaded into a process whose wall clock is to step: CLOCK_REALTIME is what the kernel says plus an offset that the test writes into
   a shared file. The monotonic clock stays what it is, as when an operator sets the time. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000LL

struct shared {
    _Atomic int64_t offset_ns;
    /* How often somebody asked while the offset was not zero. */
    _Atomic uint64_t asked;
};

static struct shared *shared;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory != MAP_FAILED) shared = memory;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    /* Other libraries' constructors may come before ours. */
    if (!real_clock_gettime) begin();
    int result = real_clock_gettime(clock, time);
    int64_t offset = shared ? atomic_load(&shared->offset_ns) : 0;
    if (result != 0 || offset == 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
    atomic_fetch_add(&shared->asked, 1);
    int64_t now = time->tv_sec * SECOND_NS + time->tv_nsec + offset;
    time->tv_sec = now / SECOND_NS;
    time->tv_nsec = now % SECOND_NS;
    return 0;
}

int gettimeofday(struct timeval *time, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
