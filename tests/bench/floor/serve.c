/* Requests and their answers. */

#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define FOREVER 0xffffffffULL /* seconds */
enum { WRITE_MAX = 1 << 20, LISTING_MAX = 1 << 17, NAME_LONGEST = 255, SUID_SGID = S_ISUID | S_ISGID };

typedef const struct fuse_in_header header;

/* The answer's body is made here, unless `reply` says that it is elsewhere. */
static char out[WRITE_MAX + 4096] __attribute__((aligned(4096)));
static const char *reply;

static void stamp(struct timespec *time)
{
    clock_gettime(CLOCK_REALTIME_COARSE, time);
}

static void altered(struct node *n)
{
    stamp(&n->modified);
    n->changed = n->modified;
}

static void fill(struct fuse_attr *a, const struct node *n)
{
    *a = (struct fuse_attr){ .ino = n->ino, .size = n->size, .blocks = (n->size + 511) / 512, .mode = n->mode, .nlink = n->nlink,
        .uid = n->uid, .gid = n->gid, .rdev = n->rdev, .blksize = 4096,
        .atime = (uint64_t)n->accessed.tv_sec, .atimensec = (uint32_t)n->accessed.tv_nsec,
        .mtime = (uint64_t)n->modified.tv_sec, .mtimensec = (uint32_t)n->modified.tv_nsec,
        .ctime = (uint64_t)n->changed.tv_sec, .ctimensec = (uint32_t)n->changed.tv_nsec };
}

static void fill_entry(struct fuse_entry_out *e, struct node *n)
{
    *e = (struct fuse_entry_out){ .entry_valid = FOREVER, .attr_valid = FOREVER, .nodeid = n ? n->ino : 0 };
    if (n) {
        fill(&e->attr, n);
        n->lookups++;
    }
}

static int entry(struct node *n)
{
    fill_entry((void *)out, n);
    return sizeof(struct fuse_entry_out);
}

static int attributes(const struct node *n)
{
    struct fuse_attr_out *answer = (void *)out;
    *answer = (struct fuse_attr_out){ .attr_valid = FOREVER };
    fill(&answer->attr, n);
    return sizeof *answer;
}

/* The handlers: each gets the inode that the request is about, and what follows the header, and gives the length of the answer's body or
 * a negative errno. */

static int begin(struct node *n, header *in, char *body)
{
    const struct fuse_init_in *asked = (void *)body;
    /* As in daemon/src/fuse/capabilities.rs. */
    uint32_t want = FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_EXPLICIT_INVAL_DATA
        | FUSE_HANDLE_KILLPRIV_V2 | FUSE_ASYNC_READ | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS
        | FUSE_POSIX_ACL | FUSE_CACHE_SYMLINKS | FUSE_ABORT_ERROR | FUSE_MAX_PAGES;
    (void)n, (void)in;
    *(struct fuse_init_out *)out = (struct fuse_init_out){ .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = asked->max_readahead, .flags = want & asked->flags, .max_background = UINT16_MAX,
        .congestion_threshold = UINT16_MAX, .max_write = WRITE_MAX, .time_gran = 1, .max_pages = WRITE_MAX / 4096 };
    return sizeof(struct fuse_init_out);
}

static int look_up(struct node *dir, header *in, char *body)
{
    struct name *found = find(dir, body);
    (void)in;
    return entry(found ? found->node : NULL);
}

static int get_attributes(struct node *n, header *in, char *body)
{
    (void)in, (void)body;
    return attributes(n);
}

static void kill_privileges(struct node *n)
{
    n->mode &= n->mode & S_IXGRP ? ~(uint32_t)SUID_SGID : ~(uint32_t)S_ISUID;
}

static void set_time(struct timespec *time, int now, uint64_t seconds, uint32_t nanoseconds)
{
    if (now)
        stamp(time);
    else
        *time = (struct timespec){ .tv_sec = (time_t)seconds, .tv_nsec = nanoseconds };
}

static int set_attributes(struct node *n, header *in, char *body)
{
    const struct fuse_setattr_in *set = (void *)body;
    const uint32_t valid = set->valid, ids = FATTR_UID | FATTR_GID;
    (void)in;
    if (valid & FATTR_SIZE) {
        int error = resize(n, set->size);
        if (error)
            return -error;
        stamp(&n->modified);
    }
    if ((valid & FATTR_KILL_SUIDGID) || ((valid & ids) && !S_ISDIR(n->mode)))
        kill_privileges(n);
    if (valid & FATTR_MODE)
        n->mode = (n->mode & S_IFMT) | (set->mode & ~(uint32_t)S_IFMT);
    if (valid & FATTR_UID)
        n->uid = set->uid;
    if (valid & FATTR_GID)
        n->gid = set->gid;
    if (valid & FATTR_ATIME)
        set_time(&n->accessed, valid & FATTR_ATIME_NOW, set->atime, set->atimensec);
    if (valid & FATTR_MTIME)
        set_time(&n->modified, valid & FATTR_MTIME_NOW, set->mtime, set->mtimensec);
    stamp(&n->changed);
    return attributes(n);
}

static int read_link(struct node *n, header *in, char *body)
{
    (void)in, (void)body;
    reply = target_of(n);
    return (int)strlen(reply);
}

static struct node *make(struct node *dir, header *in, const char *text, uint32_t mode)
{
    struct node *n = make_node(mode, in->uid, dir->mode & S_ISGID ? dir->gid : in->gid);
    if (S_ISDIR(mode)) {
        n->mode |= dir->mode & S_ISGID;
        dir->nlink++;
    }
    link_name(dir, text, n);
    altered(dir);
    return n;
}

static int refuses(struct node *dir, const char *text)
{
    return strlen(text) > NAME_LONGEST ? -ENAMETOOLONG : find(dir, text) ? -EEXIST : 0;
}

static int make_special(struct node *dir, header *in, char *body)
{
    const struct fuse_mknod_in *how = (void *)body;
    const char *text = body + sizeof *how;
    int error = refuses(dir, text);
    if (error)
        return error;
    struct node *n = make(dir, in, text, how->mode & ~(how->umask & 0777));
    n->rdev = how->rdev;
    return entry(n);
}

static int make_directory(struct node *dir, header *in, char *body)
{
    const struct fuse_mkdir_in *how = (void *)body;
    const char *text = body + sizeof *how;
    int error = refuses(dir, text);
    return error ? error : entry(make(dir, in, text, S_IFDIR | ((how->mode & 07777) & ~(how->umask & 0777))));
}

static int make_link(struct node *dir, header *in, char *text)
{
    int error = refuses(dir, text);
    if (error)
        return error;
    struct node *n = make(dir, in, text, S_IFLNK | 0777);
    n->target = strdup(text + strlen(text) + 1);
    n->size = strlen(n->target);
    return entry(n);
}

static int link_to(struct node *dir, header *in, char *body)
{
    const struct fuse_link_in *how = (void *)body;
    struct node *n = node_of(how->oldnodeid);
    int error = n ? refuses(dir, body + sizeof *how) : -ESTALE;
    (void)in;
    if (error)
        return error;
    n->nlink++;
    stamp(&n->changed);
    link_name(dir, body + sizeof *how, n);
    altered(dir);
    return entry(n);
}

/* Takes a name away; the last one of an inode takes that away too, as soon as the kernel has forgotten it. */
static int take_away(struct name *gone)
{
    struct node *dir = gone->parent, *n = gone->node;
    int is_dir = S_ISDIR(n->mode);
    if (is_dir && !is_empty(n))
        return -ENOTEMPTY;
    n->nlink -= is_dir ? n->nlink : 1;
    dir->nlink -= (uint32_t)is_dir;
    stamp(&n->changed);
    unlink_name(gone);
    altered(dir);
    drop_if_unused(n);
    return 0;
}

static int take_name_away(struct node *dir, header *in, char *text)
{
    struct name *gone = find(dir, text);
    (void)in;
    return gone ? take_away(gone) : -ENOENT;
}

/* What a directory's move does to the counts of links. */
static void moved(struct node *n, struct node *from, struct node *to)
{
    if (S_ISDIR(n->mode)) {
        from->nlink--;
        to->nlink++;
    }
    stamp(&n->changed);
    altered(from);
    altered(to);
}

static void exchange(struct name *a, struct name *b)
{
    struct node *n = a->node;
    a->node = b->node;
    b->node = n;
    moved(a->node, b->parent, a->parent);
    moved(b->node, a->parent, b->parent);
}

static int move(struct node *from, const char *text, struct node *to, uint32_t flags)
{
    const char *new_text = text + strlen(text) + 1;
    struct name *old = find(from, text), *there = to ? find(to, new_text) : NULL;
    if (!to)
        return -ESTALE;
    if (!old)
        return -ENOENT;
    if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    if (flags & RENAME_NOREPLACE && there)
        return -EEXIST;
    if (flags & RENAME_EXCHANGE) {
        if (there)
            exchange(old, there);
        return there ? 0 : -ENOENT;
    }
    if (strlen(new_text) > NAME_LONGEST)
        return -ENAMETOOLONG;
    if (there && there->node == old->node)
        return 0;
    int error = there ? take_away(there) : 0;
    if (error)
        return error;
    moved(old->node, from, to);
    link_name(to, new_text, old->node);
    unlink_name(old);
    return 0;
}

static int rename_plainly(struct node *dir, header *in, char *body)
{
    const struct fuse_rename_in *how = (void *)body;
    (void)in;
    return move(dir, body + sizeof *how, node_of(how->newdir), 0);
}

static int rename_somehow(struct node *dir, header *in, char *body)
{
    const struct fuse_rename2_in *how = (void *)body;
    (void)in;
    return move(dir, body + sizeof *how, node_of(how->newdir), how->flags);
}

static int read_file(struct node *n, header *in, char *body)
{
    static char zeros[WRITE_MAX];
    const struct fuse_read_in *r = (void *)body;
    uint64_t left = r->offset < n->size ? n->size - r->offset : 0, size = left < r->size ? left : r->size;
    (void)in;
    if (keeps_bytes())
        read_bytes(n, out, size, r->offset);
    else
        reply = zeros;
    return (int)size;
}

static int write_file(struct node *n, header *in, char *body)
{
    const struct fuse_write_in *w = (void *)body;
    int error = write_bytes(n, body + sizeof *w, w->size, w->offset);
    (void)in;
    if (error)
        return -error;
    if (w->write_flags & FUSE_WRITE_KILL_SUIDGID)
        kill_privileges(n);
    altered(n);
    *(struct fuse_write_out *)out = (struct fuse_write_out){ .size = w->size };
    return sizeof(struct fuse_write_out);
}

static int copy_range(struct node *n, header *in, char *body)
{
    const struct fuse_copy_file_range_in *c = (void *)body;
    struct node *to = node_of(c->nodeid_out);
    uint64_t left = c->off_in < n->size ? n->size - c->off_in : 0, size = left < c->len ? left : c->len, done = 0;
    (void)in;
    if (!to || !keeps_bytes())
        return to ? -ENOSYS : -ESTALE;
    if (size > INT32_MAX)
        size = INT32_MAX;
    while (done < size) {
        uint64_t part = size - done < WRITE_MAX ? size - done : WRITE_MAX;
        read_bytes(n, out, part, c->off_in + done);
        int error = write_bytes(to, out, part, c->off_out + done);
        if (error)
            return -error;
        done += part;
    }
    kill_privileges(to);
    altered(to);
    *(struct fuse_write_out *)out = (struct fuse_write_out){ .size = (uint32_t)done };
    return sizeof(struct fuse_write_out);
}

static int allocate(struct node *n, header *in, char *body)
{
    const struct fuse_fallocate_in *f = (void *)body;
    uint64_t end = f->offset + f->length;
    int error = 0;
    (void)in;
    if (f->mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
        end = end < n->size ? end : n->size;
        if (f->offset < end)
            zero_bytes(n, f->offset, end);
    } else if (f->mode != 0)
        return f->mode == FALLOC_FL_KEEP_SIZE ? 0 : -EOPNOTSUPP;
    else if (end > n->size)
        error = resize(n, end);
    altered(n);
    return -error;
}

static int sync_file(struct node *n, header *in, char *body)
{
    (void)in, (void)body;
    sync_bytes(n);
    return 0;
}

/* Adds a name to the listing in `out`, `at` bytes long; the length with it, or 0 if it does not fit into `most`. */
static size_t list_name(size_t at, size_t most, int plus, struct node *n, const struct fuse_dirent *d, const char *text)
{
    size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET, need = FUSE_DIRENT_ALIGN(head + d->namelen);
    if (at + need > most)
        return 0;
    char *to = out + at;
    memset(to + need - 8, 0, 8);
    if (plus)
        fill_entry((void *)to, n);
    memcpy(to + head - FUSE_NAME_OFFSET, d, FUSE_NAME_OFFSET);
    memcpy(to + head, text, d->namelen);
    return at + need;
}

static int list(struct node *dir, header *in, char *body)
{
    const struct fuse_read_in *r = (void *)body;
    size_t at = 0, with, most = r->size < LISTING_MAX ? r->size : LISTING_MAX;
    int plus = in->opcode == FUSE_READDIRPLUS;
    for (uint64_t cookie = r->offset + 1; cookie <= 2; cookie++) {
        struct fuse_dirent d = { .ino = dir->ino, .off = cookie, .namelen = (uint32_t)cookie, .type = S_IFDIR >> 12 };
        at = list_name(at, most, plus, NULL, &d, "..");
    }
    struct name *n = first_after(dir, r->offset);
    uint64_t last = r->offset;
    for (; n; n = n->after) {
        struct fuse_dirent d = { .ino = n->node->ino, .off = n->cookie, .namelen = (uint32_t)strlen(n->text),
            .type = n->node->mode >> 12 };
        with = list_name(at, most, plus, n->node, &d, n->text);
        if (!with)
            break;
        at = with;
        last = n->cookie;
    }
    dir->cursor = n;
    dir->cursor_after = last;
    return (int)at;
}

static int statistics(struct node *n, header *in, char *body)
{
    (void)n, (void)in, (void)body;
    *(struct fuse_statfs_out *)out = (struct fuse_statfs_out){ .st = { .blocks = 1 << 30, .bfree = 1 << 29, .bavail = 1 << 29,
        .files = 1 << 30, .ffree = 1 << 29, .bsize = 4096, .namelen = NAME_LONGEST, .frsize = 4096 } };
    return sizeof(struct fuse_statfs_out);
}

static struct xattr **xattr_named(struct node *n, const char *name)
{
    struct xattr **at = xattrs_of(n);
    while (*at && strcmp((*at)->name, name))
        at = &(*at)->next;
    return at;
}

/* An extended attribute, or the list of them, for a caller who has `room` bytes, or asks how many it takes. */
static int sized(const char *bytes, size_t length, uint32_t room)
{
    if (room == 0) {
        *(struct fuse_getxattr_out *)out = (struct fuse_getxattr_out){ .size = (uint32_t)length };
        return sizeof(struct fuse_getxattr_out);
    }
    reply = bytes;
    return length <= room ? (int)length : -ERANGE;
}

static int get_xattr(struct node *n, header *in, char *body)
{
    const struct fuse_getxattr_in *g = (void *)body;
    struct xattr *x = *xattr_named(n, body + sizeof *g);
    (void)in;
    return x ? sized(x->value, x->length, g->size) : -ENODATA;
}

static int list_xattrs(struct node *n, header *in, char *body)
{
    static char text[1 << 16];
    size_t length = 0;
    (void)in;
    for (struct xattr *x = *xattrs_of(n); x; x = x->next) {
        size_t more = strlen(x->name) + 1;
        if (length + more > sizeof text)
            return -E2BIG;
        memcpy(text + length, x->name, more);
        length += more;
    }
    return sized(text, length, ((struct fuse_getxattr_in *)body)->size);
}

static int put_xattr(struct node *n, header *in, char *body)
{
    const struct fuse_setxattr_in *s = (void *)body;
    const char *name = body + FUSE_COMPAT_SETXATTR_IN_SIZE, *value = name + strlen(name) + 1;
    struct xattr **at = xattr_named(n, name);
    (void)in;
    if (!strncmp(name, "system.", 7))
        return -EOPNOTSUPP;
    if (*at ? s->flags & XATTR_CREATE : s->flags & XATTR_REPLACE)
        return *at ? -EEXIST : -ENODATA;
    if (*at)
        remove_xattr(at);
    set_xattr(n, name, value, s->size);
    stamp(&n->changed);
    return 0;
}

static int take_xattr_away(struct node *n, header *in, char *name)
{
    struct xattr **at = xattr_named(n, name);
    (void)in;
    if (!*at)
        return -ENODATA;
    remove_xattr(at);
    stamp(&n->changed);
    return 0;
}

static int not_here(struct node *n, header *in, char *body)
{
    (void)n, (void)in, (void)body;
    return -ENOTTY;
}

/* Which are changes, and so recorded before they are answered. */
static const struct {
    int (*handler)(struct node *, header *, char *);
    int changes;
} operations[] = {
    [FUSE_INIT] = { begin, 0 },
    [FUSE_LOOKUP] = { look_up, 0 },
    [FUSE_GETATTR] = { get_attributes, 0 },
    [FUSE_SETATTR] = { set_attributes, 1 },
    [FUSE_READLINK] = { read_link, 0 },
    [FUSE_MKNOD] = { make_special, 1 },
    [FUSE_MKDIR] = { make_directory, 1 },
    [FUSE_SYMLINK] = { make_link, 1 },
    [FUSE_LINK] = { link_to, 1 },
    [FUSE_UNLINK] = { take_name_away, 1 },
    [FUSE_RMDIR] = { take_name_away, 1 },
    [FUSE_RENAME] = { rename_plainly, 1 },
    [FUSE_RENAME2] = { rename_somehow, 1 },
    [FUSE_READ] = { read_file, 0 },
    [FUSE_WRITE] = { write_file, 1 },
    [FUSE_COPY_FILE_RANGE] = { copy_range, 1 },
    [FUSE_FALLOCATE] = { allocate, 1 },
    [FUSE_FSYNC] = { sync_file, 0 },
    [FUSE_FSYNCDIR] = { sync_file, 0 },
    [FUSE_READDIR] = { list, 0 },
    [FUSE_READDIRPLUS] = { list, 0 },
    [FUSE_STATFS] = { statistics, 0 },
    [FUSE_GETXATTR] = { get_xattr, 0 },
    [FUSE_LISTXATTR] = { list_xattrs, 0 },
    [FUSE_SETXATTR] = { put_xattr, 1 },
    [FUSE_REMOVEXATTR] = { take_xattr_away, 1 },
    [FUSE_IOCTL] = { not_here, 0 },
};

static void answer(int device, header *in, int result)
{
    size_t length = result > 0 ? (size_t)result : 0;
    struct fuse_out_header head = { .len = (uint32_t)(sizeof head + length), .error = result < 0 ? result : 0, .unique = in->unique };
    struct iovec parts[] = { { &head, sizeof head }, { (void *)reply, length } };
    if (writev(device, parts, length ? 2 : 1) < 0 && errno != ENOENT) {
        perror("floor: answer");
        exit(1);
    }
}

/* FORGET and BATCH_FORGET have no answer. */
static int forgets(header *in, char *body)
{
    if (in->opcode == FUSE_FORGET)
        forget(in->nodeid, ((struct fuse_forget_in *)body)->nlookup);
    else if (in->opcode == FUSE_BATCH_FORGET) {
        const struct fuse_batch_forget_in *batch = (void *)body;
        const struct fuse_forget_one *one = (void *)(batch + 1);
        for (uint32_t i = 0; i < batch->count; i++)
            forget(one[i].nodeid, one[i].nlookup);
    } else
        return 0;
    return 1;
}

void serve(int device, char *request)
{
    header *in = (void *)request;
    char *body = request + sizeof *in;
    if (forgets(in, body))
        return;
    if (in->pid)
        follow(in->pid);
    int known = in->opcode < sizeof operations / sizeof *operations && operations[in->opcode].handler, result = -ENOSYS;
    struct node *n = node_of(in->nodeid);
    reply = out;
    if (known)
        result = n || in->opcode == FUSE_INIT ? operations[in->opcode].handler(n, in, body) : -ESTALE;
    if (known && operations[in->opcode].changes && result >= 0)
        record(request, in->opcode == FUSE_WRITE ? sizeof *in + sizeof(struct fuse_write_in) : in->len);
    answer(device, in, result);
}
