/* The system calls that the benchmark times, with as little as possible around them: one workload per process.
 *
 *   ops walk DIR               readdir and lstat of everything below DIR
 *   ops create DIR N SIZE      N new files of SIZE bytes, 100 to a directory
 *   ops edit DIR N             64 bytes in the middle of each, in place
 *   ops read DIR N             each of them, whole
 *   ops rename DIR N           each to another name in its directory
 *   ops unlink DIR N           each of the renamed files, then the directories
 *   ops bigwrite FILE MB       a new file in writes of 1 MiB, then fsync
 *   ops bigread FILE           all of it, in reads of 128 KiB
 *   ops remove FILE MB DISK    unlink of a file of MB MiB, and waiting (at most 5 s) until the file system of DISK has nine tenths of that back
 *   ops append FILE N SIZE     N appends of SIZE bytes, one write each
 *   ops random FILE N MB       N writes of 4 KiB at random blocks of a file of MB MiB that is there
 *   ops sync FILE N            N times a write of 4 KiB at the end, and fsync
 *   ops record FILE            writes 200 bytes over those of a file that is there, and fdatasync: what a change that is made durable costs at the least
 *   ops poke FILE              one byte in the middle of a file that is there
 *   ops stat DIR N             lstat of N names made by create
 *   ops digest DIR N           reads each of them and prints one number for names, sizes and contents
 *
 * Every call that fails ends the program with a message and status 1. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { PER_DIR = 100, MIB = 1 << 20, BLOCK = 4096 };

static void die(const char *what, const char *path)
{
    fprintf(stderr, "ops: %s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

static int open_or_die(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        die("open", path);
    return fd;
}

static void write_or_die(int fd, const void *data, size_t len, const char *path)
{
    ssize_t done = write(fd, data, len);
    if (done < 0 || (size_t)done != len)
        die("write", path);
}

static void close_or_die(int fd, const char *path)
{
    if (close(fd) != 0)
        die("close", path);
}

static char *name(char *out, size_t len, const char *dir, const char *prefix, long i)
{
    if (snprintf(out, len, "%s/d%03ld/%s%05ld.txt", dir, i / PER_DIR, prefix, i) >= (int)len) {
        errno = ENAMETOOLONG;
        die("name", dir);
    }
    return out;
}

static void directory(char *out, size_t len, const char *dir, long i)
{
    if (snprintf(out, len, "%s/d%03ld", dir, i / PER_DIR) >= (int)len) {
        errno = ENAMETOOLONG;
        die("name", dir);
    }
}

/* xorshift64: the same numbers in every run. */
static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fill(char *data, size_t len, uint64_t seed)
{
    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint64_t word = next(&seed);
        memcpy(data + i, &word, 8);
    }
}

static long walk(const char *dir)
{
    long seen = 0;
    DIR *open_dir = opendir(dir);
    if (!open_dir)
        die("opendir", dir);
    struct dirent *entry;
    while ((entry = readdir(open_dir)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        struct stat st;
        if (fstatat(dirfd(open_dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            die("lstat", entry->d_name);
        seen++;
        if (S_ISDIR(st.st_mode)) {
            char below[4096];
            if (snprintf(below, sizeof below, "%s/%s", dir, entry->d_name) >= (int)sizeof below) {
                errno = ENAMETOOLONG;
                die("walk", dir);
            }
            seen += walk(below);
        }
    }
    closedir(open_dir);
    return seen;
}

static void create(const char *dir, long n, long size)
{
    char path[4096], *data = malloc((size_t)size + 8);
    fill(data, (size_t)size, 88172645463325252ULL);
    for (long i = 0; i < n; i++) {
        if (i % PER_DIR == 0) {
            directory(path, sizeof path, dir, i);
            if (mkdir(path, 0755) != 0)
                die("mkdir", path);
        }
        int fd = open_or_die(name(path, sizeof path, dir, "f", i), O_WRONLY | O_CREAT | O_EXCL);
        write_or_die(fd, data, (size_t)size, path);
        close_or_die(fd, path);
    }
    free(data);
}

static void edit(const char *dir, long n)
{
    char path[4096], data[64];
    memset(data, 'e', sizeof data);
    for (long i = 0; i < n; i++) {
        int fd = open_or_die(name(path, sizeof path, dir, "f", i), O_WRONLY);
        if (pwrite(fd, data, sizeof data, 700) != (ssize_t)sizeof data)
            die("pwrite", path);
        close_or_die(fd, path);
    }
}

static void read_all(const char *dir, long n)
{
    char path[4096], data[65536];
    for (long i = 0; i < n; i++) {
        int fd = open_or_die(name(path, sizeof path, dir, "f", i), O_RDONLY);
        ssize_t got;
        while ((got = read(fd, data, sizeof data)) > 0)
            ;
        if (got < 0)
            die("read", path);
        close_or_die(fd, path);
    }
}

/* FNV-1a, 64 bits, over each path below DIR, its length and its content. */
static uint64_t hash(uint64_t state, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        state = (state ^ ((const unsigned char *)data)[i]) * 1099511628211ULL;
    return state;
}

static uint64_t digest(const char *dir, long n)
{
    char path[4096], data[65536];
    uint64_t state = 14695981039346656037ULL;
    for (long i = 0; i < n; i++) {
        uint64_t len = 0;
        int fd = open_or_die(name(path, sizeof path, dir, "f", i), O_RDONLY);
        ssize_t got;
        state = hash(state, path + strlen(dir), strlen(path + strlen(dir)));
        while ((got = read(fd, data, sizeof data)) > 0) {
            state = hash(state, data, (size_t)got);
            len += (uint64_t)got;
        }
        if (got < 0)
            die("read", path);
        state = hash(state, &len, sizeof len);
        close_or_die(fd, path);
    }
    return state;
}

static void rename_all(const char *dir, long n)
{
    char from[4096], to[4096];
    for (long i = 0; i < n; i++)
        if (rename(name(from, sizeof from, dir, "f", i), name(to, sizeof to, dir, "g", i)) != 0)
            die("rename", from);
}

static void unlink_all(const char *dir, long n)
{
    char path[4096];
    for (long i = 0; i < n; i++)
        if (unlink(name(path, sizeof path, dir, "g", i)) != 0)
            die("unlink", path);
    for (long i = 0; i < n; i += PER_DIR) {
        directory(path, sizeof path, dir, i);
        if (rmdir(path) != 0)
            die("rmdir", path);
    }
}

static void bigwrite(const char *path, long mib)
{
    char *data = malloc(MIB);
    int fd = open_or_die(path, O_WRONLY | O_CREAT | O_TRUNC);
    for (long i = 0; i < mib; i++) {
        fill(data, MIB, 1 + (uint64_t)i);
        write_or_die(fd, data, MIB, path);
    }
    if (fsync(fd) != 0)
        die("fsync", path);
    close_or_die(fd, path);
    free(data);
}

static void bigread(const char *path)
{
    static char data[128 << 10];
    int fd = open_or_die(path, O_RDONLY);
    ssize_t got;
    while ((got = read(fd, data, sizeof data)) > 0)
        ;
    if (got < 0)
        die("read", path);
    close_or_die(fd, path);
}

static uint64_t free_bytes(const char *disk)
{
    struct statvfs at;
    if (statvfs(disk, &at) != 0)
        die("statvfs", disk);
    return (uint64_t)at.f_bfree * at.f_frsize;
}

static void remove_big(const char *path, long mib, const char *disk)
{
    struct timespec pause = { 0, 1000000 };
    uint64_t enough = free_bytes(disk) + (uint64_t)mib * MIB / 10 * 9;
    if (unlink(path) != 0)
        die("unlink", path);
    for (int i = 0; i < 5000 && free_bytes(disk) < enough; i++)
        nanosleep(&pause, NULL);
}

static void append(const char *path, long n, long size)
{
    char *data = malloc((size_t)size);
    memset(data, 'a', (size_t)size);
    int fd = open_or_die(path, O_WRONLY | O_CREAT | O_APPEND);
    for (long i = 0; i < n; i++)
        write_or_die(fd, data, (size_t)size, path);
    close_or_die(fd, path);
    free(data);
}

static void random_writes(const char *path, long n, long mib)
{
    char data[BLOCK];
    uint64_t state = 88172645463325252ULL, blocks = (uint64_t)mib * MIB / BLOCK;
    fill(data, sizeof data, 7);
    int fd = open_or_die(path, O_WRONLY);
    for (long i = 0; i < n; i++)
        if (pwrite(fd, data, BLOCK, (off_t)(next(&state) % blocks * BLOCK)) != BLOCK)
            die("pwrite", path);
    close_or_die(fd, path);
}

static void synced(const char *path, long n)
{
    char data[BLOCK];
    int fd = open_or_die(path, O_WRONLY | O_CREAT | O_APPEND);
    for (long i = 0; i < n; i++) {
        fill(data, sizeof data, 1 + (uint64_t)i);
        write_or_die(fd, data, BLOCK, path);
        if (fsync(fd) != 0)
            die("fsync", path);
    }
    close_or_die(fd, path);
}

static void record(const char *path)
{
    char data[200];
    fill(data, sizeof data, 3);
    int fd = open_or_die(path, O_WRONLY);
    write_or_die(fd, data, sizeof data, path);
    if (fdatasync(fd) != 0)
        die("fdatasync", path);
    close_or_die(fd, path);
}

static void poke(const char *path)
{
    struct stat st;
    int fd = open_or_die(path, O_RDWR);
    if (fstat(fd, &st) != 0)
        die("fstat", path);
    if (pwrite(fd, "!", 1, st.st_size / 2 + 1) != 1)
        die("pwrite", path);
    close_or_die(fd, path);
}

static void stat_all(const char *dir, long n)
{
    char path[4096];
    struct stat st;
    for (long i = 0; i < n; i++)
        if (lstat(name(path, sizeof path, dir, "f", i), &st) != 0)
            die("lstat", path);
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "", *path = argc > 2 ? argv[2] : "";
    long a = argc > 3 ? atol(argv[3]) : 0, b = argc > 4 ? atol(argv[4]) : 0;
    if (!strcmp(what, "walk"))
        printf("%ld\n", walk(path));
    else if (!strcmp(what, "create"))
        create(path, a, b);
    else if (!strcmp(what, "edit"))
        edit(path, a);
    else if (!strcmp(what, "read"))
        read_all(path, a);
    else if (!strcmp(what, "rename"))
        rename_all(path, a);
    else if (!strcmp(what, "unlink"))
        unlink_all(path, a);
    else if (!strcmp(what, "bigwrite"))
        bigwrite(path, a);
    else if (!strcmp(what, "bigread"))
        bigread(path);
    else if (!strcmp(what, "remove") && argc > 4)
        remove_big(path, a, argv[4]);
    else if (!strcmp(what, "append"))
        append(path, a, b);
    else if (!strcmp(what, "random"))
        random_writes(path, a, b);
    else if (!strcmp(what, "sync"))
        synced(path, a);
    else if (!strcmp(what, "record"))
        record(path);
    else if (!strcmp(what, "poke"))
        poke(path);
    else if (!strcmp(what, "stat"))
        stat_all(path, a);
    else if (!strcmp(what, "digest"))
        printf("%016llx\n", (unsigned long long)digest(path, a));
    else {
        fprintf(stderr, "ops: what? see the top of ops.c\n");
        return 2;
    }
    return 0;
}
