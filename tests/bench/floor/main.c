/* The least that a FUSE daemon costs on this machine.
 *
 *   floor DIR [KEEP] mounts over DIR (as root) and serves until it is unmounted; prints its process id when it is usable
 *
 * Alone it does nothing but answer: it begins with an empty directory, keeps names and attributes in memory, throws written bytes away
 * and reads zeros. With the directory KEEP it does the least that a daemon must do whose death may lose nothing: it begins with
 * KEEP/base; each change is a record in a log in KEEP, and written bytes are in a file there, before it answers; fsync has both on the
 * disk. Nothing reads the log: it is there for what it costs.
 *
 * It asks the kernel for the same caching as llfs (no OPEN, no FLUSH, answers that are valid for ever), has one thread that answers,
 * follows its callers' CPU and keeps the other one of two busy in the same way (follow.c).
 * Errors of the disk are not handled: it ends. */

#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { BUFFER = (1 << 20) + 8192, READAHEAD_KIB = 512 };

static int fail(const char *what)
{
    fprintf(stderr, "floor: ");
    perror(what);
    return 1;
}

/* As many as allowed, in a table of that size at once: to grow when there are threads it waits for all CPUs each time. */
static int many_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -1;
    if (limit.rlim_max > 1 << 20)
        limit.rlim_max = 1 << 20;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || dup2(0, (int)limit.rlim_cur - 1) < 0)
        return -1;
    return close((int)limit.rlim_cur - 1);
}

/* Makes the mount read ahead as far as one of llfs (daemon/src/fuse/readahead.rs). */
static int read_ahead(const char *dir)
{
    char knob[64];
    struct stat st;
    if (stat(dir, &st) != 0)
        return -1;
    snprintf(knob, sizeof knob, "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
    FILE *file = fopen(knob, "w");
    if (!file)
        return -1;
    fprintf(file, "%d\n", READAHEAD_KIB);
    return fclose(file);
}

/* Serves until there is no mount any more. */
static int session(int device, int keep)
{
    static char buffer[BUFFER] __attribute__((aligned(4096)));
    int nowhere = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++) /* nobody is to wait for the ends of its pipes */
        dup2(nowhere, fd);
    if (many_descriptors() != 0 || follow_begin() != 0 || (keep >= 0 && ahead_begin() != 0))
        return 1;
    bytes_begin(keep);
    tree_begin(keep < 0 ? -1 : openat(keep, "base", O_PATH | O_DIRECTORY | O_CLOEXEC));
    for (;;) {
        if (read(device, buffer, BUFFER) > 0)
            serve(device, buffer);
        else if (errno == ENODEV)
            return 0;
        else if (errno != EINTR && errno != EAGAIN && errno != ENOENT)
            return 1;
    }
}

int main(int argc, char **argv)
{
    char options[128];
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC), keep = -1;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "floor: DIR [KEEP]\n");
        return 2;
    }
    if (argc == 3 && (keep = open(argv[2], O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        return fail(argv[2]);
    if (keep >= 0 && faccessat(keep, "base", X_OK, 0) != 0)
        return fail("KEEP/base");
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", device);
    if (device < 0 || mount("floor", argv[1], "fuse.floor", MS_NOSUID | MS_NODEV, options) != 0)
        return fail("mount");
    pid_t child = fork();
    if (child == 0)
        return session(device, keep);
    close(device); /* so that the next line fails and does not wait, if the child does not serve */
    if (child < 0 || read_ahead(argv[1]) != 0) {
        umount2(argv[1], MNT_DETACH);
        return fail("serve");
    }
    printf("%d\n", (int)child);
    return 0;
}
