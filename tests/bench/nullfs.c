/* A FUSE file system that does nothing but answer: the least that any FUSE daemon costs on this machine.
 *
 *   nullfs DIR [KEEP] mounts over DIR (as root) and serves until it is unmounted; prints its process id when it is usable
 *
 * It keeps names, sizes and modes in memory, throws written bytes away and reads zeros. With the directory KEEP it does the least that
 * a daemon must do whose death may lose nothing: each change is a record in a log there, and written bytes are in a file, before it
 * answers; fsync has both on the disk. It asks the kernel for the same
 * caching as llfs (no OPEN, no FLUSH, answers that are valid for ever), has one thread that answers, follows its callers' CPU
 * and keeps the other one of two busy in the same way (daemon/src/fuse/follow.rs, neighbour.rs).
 * Errors that a workload of ops.c cannot meet are not handled: it ends. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = (1 << 20) + 8192, TABLE = 1 << 17, LOOK_EVERY = 32, LOOK_AGAIN = 8 };
enum { FAST = 150000, QUIET = 800000, TAKEN = 250000, REST = 5000000 }; /* nanoseconds */
#define FOREVER 0x7fffffffULL

struct node {
    uint64_t ino, size;
    uint32_t mode, nlink;
    struct timespec changed;
    struct node *next; /* by number */
};

struct name {
    uint64_t parent;
    struct node *node;
    struct name *next;             /* by hash */
    struct name *after, *before;   /* in its directory */
    char text[];
};

static struct node *nodes[TABLE];
static struct name *names[TABLE], *first_in[TABLE]; /* first_in: by number of the directory, which may share a slot */
static uint64_t last_ino = FUSE_ROOT_ID;
static int device, log_file = -1, data_file = -1; /* the files in KEEP */
static char *buffer;

static unsigned slot_of(uint64_t parent, const char *text)
{
    uint64_t h = parent * 0x9e3779b97f4a7c15ULL;
    while (*text)
        h = (h ^ (unsigned char)*text++) * 0x100000001b3ULL;
    return (unsigned)(h >> 20) % TABLE;
}

static struct node *node_of(uint64_t ino)
{
    struct node *n = nodes[ino % TABLE];
    while (n && n->ino != ino)
        n = n->next;
    return n;
}

static struct name *find(uint64_t parent, const char *text)
{
    struct name *n = names[slot_of(parent, text)];
    while (n && (n->parent != parent || strcmp(n->text, text)))
        n = n->next;
    return n;
}

static struct node *make_node(uint32_t mode)
{
    struct node *n = calloc(1, sizeof *n);
    n->ino = last_ino++;
    n->mode = mode;
    n->nlink = 1;
    clock_gettime(CLOCK_REALTIME_COARSE, &n->changed);
    n->next = nodes[n->ino % TABLE];
    nodes[n->ino % TABLE] = n;
    return n;
}

static void link_name(uint64_t parent, const char *text, struct node *node)
{
    struct name *n = calloc(1, sizeof *n + strlen(text) + 1), **at = &names[slot_of(parent, text)];
    strcpy(n->text, text);
    n->parent = parent;
    n->node = node;
    n->next = *at;
    *at = n;
    n->after = first_in[parent % TABLE];
    if (n->after)
        n->after->before = n;
    first_in[parent % TABLE] = n;
}

static void unlink_name(struct name *gone)
{
    struct name **at = &names[slot_of(gone->parent, gone->text)];
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    if (gone->after)
        gone->after->before = gone->before;
    if (gone->before)
        gone->before->after = gone->after;
    else
        first_in[gone->parent % TABLE] = gone->after;
    free(gone);
}

static void forget(uint64_t ino)
{
    struct node **at = &nodes[ino % TABLE];
    while (*at && (*at)->ino != ino)
        at = &(*at)->next;
    if (*at && (*at)->nlink == 0) {
        struct node *gone = *at;
        *at = gone->next;
        free(gone);
    }
}

static void answer(const struct fuse_in_header *in, int error, const void *body, size_t len)
{
    struct fuse_out_header out = { .len = (uint32_t)(sizeof out + len), .error = -error, .unique = in->unique };
    struct iovec parts[] = { { &out, sizeof out }, { (void *)body, len } };
    if (writev(device, parts, len ? 2 : 1) < 0 && errno != ENOENT) {
        perror("nullfs: answer");
        exit(1);
    }
}

static void fill(struct fuse_attr *a, const struct node *n)
{
    *a = (struct fuse_attr){ .ino = n->ino, .size = n->size, .blocks = (n->size + 511) / 512, .mode = n->mode, .nlink = n->nlink,
        .mtime = (uint64_t)n->changed.tv_sec, .mtimensec = (uint32_t)n->changed.tv_nsec,
        .ctime = (uint64_t)n->changed.tv_sec, .ctimensec = (uint32_t)n->changed.tv_nsec, .blksize = 4096 };
}

static struct fuse_entry_out entry(const struct node *n)
{
    struct fuse_entry_out e = { .entry_valid = FOREVER, .attr_valid = FOREVER, .nodeid = n ? n->ino : 0 };
    if (n)
        fill(&e.attr, n);
    return e;
}

/* Where the bytes of a file are: a gigabyte of holes for each. */
static off_t place_of(const struct node *n)
{
    return (off_t)(n->ino % (1 << 13)) << 30;
}

/* Writes a record of the size that llfs has for most changes. */
static void record(const struct fuse_in_header *in)
{
    static off_t end;
    char text[100] = { 0 };
    if (log_file < 0)
        return;
    memcpy(text, in, sizeof *in);
    if (pwrite(log_file, text, sizeof text, end) != sizeof text)
        exit(1);
    end += sizeof text;
}

/* READDIRPLUS: the offset counts names from the newest on. */
static void list(const struct fuse_in_header *in, const struct fuse_read_in *read_in)
{
    static char out[1 << 17];
    size_t len = 0, most = read_in->size < sizeof out ? read_in->size : sizeof out;
    uint64_t place = 0;
    for (struct name *n = first_in[in->nodeid % TABLE]; n; n = n->after) {
        if (n->parent != in->nodeid || place++ < read_in->offset)
            continue;
        size_t text = strlen(n->text), need = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + text);
        if (len + need > most)
            break;
        struct fuse_direntplus *d = (void *)(out + len);
        memset(d, 0, need);
        d->entry_out = entry(n->node);
        d->dirent = (struct fuse_dirent){ .ino = n->node->ino, .off = place, .namelen = (uint32_t)text, .type = n->node->mode >> 12 };
        memcpy(d->dirent.name, n->text, text);
        len += need;
    }
    answer(in, 0, out, len);
}

static void begin(const struct fuse_in_header *in, const struct fuse_init_in *asked)
{
    uint64_t want = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_PARALLEL_DIROPS | FUSE_NO_OPEN_SUPPORT
        | FUSE_NO_OPENDIR_SUPPORT | FUSE_MAX_PAGES | FUSE_EXPLICIT_INVAL_DATA | FUSE_HANDLE_KILLPRIV_V2 | FUSE_CACHE_SYMLINKS;
    struct fuse_init_out out = { .major = 7, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = asked->max_readahead,
        .flags = (uint32_t)want & asked->flags, .max_background = 64, .congestion_threshold = 48, .max_write = 1 << 20,
        .time_gran = 1, .max_pages = 256 };
    answer(in, 0, &out, sizeof out);
}

static void serve(const struct fuse_in_header *in, char *body)
{
    struct node *n = node_of(in->nodeid);
    switch (in->opcode) {
    case FUSE_INIT:
        begin(in, (void *)body);
        return;
    case FUSE_LOOKUP: {
        struct name *found = find(in->nodeid, body);
        struct fuse_entry_out e = entry(found ? found->node : NULL);
        answer(in, 0, &e, sizeof e);
        return;
    }
    case FUSE_GETATTR: {
        struct fuse_attr_out out = { .attr_valid = FOREVER };
        fill(&out.attr, n);
        answer(in, 0, &out, sizeof out);
        return;
    }
    case FUSE_SETATTR: {
        const struct fuse_setattr_in *set = (void *)body;
        struct fuse_attr_out out = { .attr_valid = FOREVER };
        if (set->valid & FATTR_SIZE)
            n->size = set->size;
        record(in);
        fill(&out.attr, n);
        answer(in, 0, &out, sizeof out);
        return;
    }
    case FUSE_MKNOD:
    case FUSE_MKDIR: {
        int dir = in->opcode == FUSE_MKDIR;
        uint32_t mode = dir ? S_IFDIR | ((struct fuse_mkdir_in *)body)->mode : ((struct fuse_mknod_in *)body)->mode;
        struct node *made = make_node(mode);
        link_name(in->nodeid, body + (dir ? sizeof(struct fuse_mkdir_in) : sizeof(struct fuse_mknod_in)), made);
        record(in);
        struct fuse_entry_out e = entry(made);
        answer(in, 0, &e, sizeof e);
        return;
    }
    case FUSE_WRITE: {
        const struct fuse_write_in *w = (void *)body;
        struct fuse_write_out out = { .size = w->size };
        uint64_t end = w->offset + w->size;
        if (data_file >= 0 && pwrite(data_file, w + 1, w->size, place_of(n) + (off_t)w->offset) != (ssize_t)w->size)
            exit(1);
        record(in);
        n->size = end > n->size ? end : n->size;
        clock_gettime(CLOCK_REALTIME_COARSE, &n->changed);
        answer(in, 0, &out, sizeof out);
        return;
    }
    case FUSE_READ: {
        static const char zeros[1 << 20];
        const struct fuse_read_in *r = (void *)body;
        uint64_t left = r->offset < n->size ? n->size - r->offset : 0, size = left < r->size ? left : r->size;
        if (data_file >= 0 && size > 0) {
            static char bytes[1 << 20];
            ssize_t found = pread(data_file, bytes, size, place_of(n) + (off_t)r->offset);
            memset(bytes + (found > 0 ? found : 0), 0, size - (size_t)(found > 0 ? found : 0));
            answer(in, 0, bytes, size);
            return;
        }
        answer(in, 0, zeros, size);
        return;
    }
    case FUSE_RENAME: {
        const char *from = body + sizeof(struct fuse_rename_in), *to = from + strlen(from) + 1;
        struct name *old = find(in->nodeid, from);
        link_name(((struct fuse_rename_in *)body)->newdir, to, old->node);
        unlink_name(old);
        record(in);
        answer(in, 0, NULL, 0);
        return;
    }
    case FUSE_UNLINK:
    case FUSE_RMDIR: {
        struct name *gone = find(in->nodeid, body);
        gone->node->nlink = 0;
        unlink_name(gone);
        record(in);
        answer(in, 0, NULL, 0);
        return;
    }
    case FUSE_FORGET:
        forget(in->nodeid);
        return;
    case FUSE_BATCH_FORGET: {
        const struct fuse_batch_forget_in *batch = (void *)body;
        const struct fuse_forget_one *one = (void *)(batch + 1);
        for (uint32_t i = 0; i < batch->count; i++)
            forget(one[i].nodeid);
        return;
    }
    case FUSE_READDIRPLUS:
    case FUSE_READDIR:
        list(in, (void *)body);
        return;
    case FUSE_FSYNC:
        if (data_file >= 0 && (fdatasync(data_file) != 0 || fdatasync(log_file) != 0))
            exit(1);
        answer(in, 0, NULL, 0);
        return;
    case FUSE_GETXATTR:
        answer(in, ENODATA, NULL, 0);
        return;
    case FUSE_STATFS: {
        struct fuse_statfs_out out = { .st = { .bsize = 4096, .namelen = 255, .frsize = 4096 } };
        answer(in, 0, &out, sizeof out);
        return;
    }
    default:
        answer(in, ENOSYS, NULL, 0);
    }
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return sched_setaffinity(0, sizeof one, &one);
}

/* The neighbour: spins on the CPU where the caller is not, while requests come fast. */
static atomic_uint served;
static atomic_int spin_on, awake, resting;
static pthread_mutex_t sleeping = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;

static int spin(void)
{
    int cpu = -1;
    unsigned count = atomic_load(&served);
    uint64_t now = nanoseconds(), last = now;
    for (;;) {
        int wanted = atomic_load(&spin_on);
        if (wanted != cpu) {
            pin(wanted);
            cpu = wanted;
            now = nanoseconds();
        }
        for (int i = 0; i < 16; i++)
#if defined(__x86_64__)
            __builtin_ia32_pause();
#else
            atomic_signal_fence(memory_order_seq_cst);
#endif
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

/* Pins this thread to the CPU on which the caller ran last: field 39 of /proc/PID/stat. */
static void follow(uint32_t pid)
{
    static int until, pinned = -1;
    static uint64_t looked;
    static unsigned looked_at;
    char path[32], line[1024], *at;
    unsigned count = atomic_fetch_add(&served, 1) + 1;
    if (until-- > 0)
        return;
    uint64_t now = nanoseconds();
    int fast = now - looked < (uint64_t)FAST * (count - looked_at);
    looked = now;
    looked_at = count;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    if (fd >= 0)
        close(fd);
    line[len > 0 ? len : 0] = 0;
    at = strrchr(line, ')');
    for (int field = 2; at && field < 39; field++)
        at = strchr(at + 1, ' ');
    int cpu = at ? atoi(at) : pinned, before = pinned;
    if (cpu != pinned && cpu >= 0 && pin(cpu) == 0)
        pinned = cpu;
    until = (pinned == before ? LOOK_EVERY : LOOK_AGAIN) - 1;
    if (fast && pinned >= 0 && pinned < 2 && sysconf(_SC_NPROCESSORS_ONLN) == 2) {
        atomic_store(&spin_on, 1 - pinned);
        if (!atomic_load(&awake) && !atomic_load(&resting)) {
            pthread_mutex_lock(&sleeping);
            atomic_store(&awake, 1);
            pthread_cond_signal(&woken);
            pthread_mutex_unlock(&sleeping);
        }
    }
}

int main(int argc, char **argv)
{
    char options[128];
    buffer = aligned_alloc(4096, BUFFER + 4096);
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", device);
    if (argc == 3) {
        int dir = open(argv[2], O_PATH | O_DIRECTORY | O_CLOEXEC);
        data_file = openat(dir, "data", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        log_file = openat(dir, "log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (data_file < 0 || log_file < 0) {
            perror("nullfs: KEEP");
            return 1;
        }
    }
    if (argc < 2 || argc > 3 || device < 0 || mount("nullfs", argv[1], "fuse.nullfs", MS_NOSUID | MS_NODEV, options) != 0) {
        perror("nullfs: mount");
        return 1;
    }
    make_node(S_IFDIR | 0755);
    pid_t child = fork();
    if (child) {
        printf("%d\n", (int)child);
        return 0;
    }
    /* Nobody is to wait for the ends of its pipes. */
    int nowhere = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; fd++)
        dup2(nowhere, fd);
    pthread_t thread;
    if (pthread_create(&thread, NULL, neighbour, NULL) != 0)
        return 1;
    for (;;) {
        ssize_t len = read(device, buffer, BUFFER);
        if (len < 0) {
            if (errno == ENODEV)
                return 0;
            if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
                continue;
            return 1;
        }
        struct fuse_in_header *in = (void *)buffer;
        if (in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET && in->pid)
            follow(in->pid);
        serve(in, buffer + sizeof *in);
    }
}
