/* Inodes and names. */

#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { TABLE = 1 << 17, FIRST_COOKIE = 3 /* 1 and 2 are those of `.` and `..` */, XATTRS_MAX = 1 << 16 };

static struct node *nodes[TABLE];
static struct name *names[TABLE];
static uint64_t last_ino = 1ULL << 40, last_cookie = FIRST_COOKIE;

static struct name **slot_of(const struct node *dir, const char *text)
{
    uint64_t h = dir->ino * 0x9e3779b97f4a7c15ULL;
    while (*text)
        h = (h ^ (unsigned char)*text++) * 0x100000001b3ULL;
    return &names[(h >> 20) % TABLE];
}

struct node *node_of(uint64_t ino)
{
    struct node *n = nodes[ino % TABLE];
    while (n && n->ino != ino)
        n = n->next;
    return n;
}

static struct node *add_node(uint64_t ino)
{
    struct node *n = calloc(1, sizeof *n);
    n->ino = ino;
    n->fd = n->base_dir = -1;
    n->next = nodes[ino % TABLE];
    nodes[ino % TABLE] = n;
    return n;
}

struct node *make_node(uint32_t mode, uint32_t uid, uint32_t gid)
{
    struct node *n = add_node(last_ino++);
    n->mode = mode;
    n->uid = uid;
    n->gid = gid;
    n->nlink = S_ISDIR(mode) ? 2 : 1;
    n->loaded = n->xattrs_loaded = 1;
    clock_gettime(CLOCK_REALTIME_COARSE, &n->modified);
    n->accessed = n->changed = n->modified;
    return n;
}

static void as_in(struct node *n, const struct stat *st)
{
    n->size = (uint64_t)st->st_size;
    n->mode = st->st_mode;
    n->uid = st->st_uid;
    n->gid = st->st_gid;
    n->rdev = (uint32_t)st->st_rdev;
    n->nlink = (uint32_t)st->st_nlink;
    n->accessed = st->st_atim;
    n->modified = st->st_mtim;
    n->changed = st->st_ctim;
}

void tree_begin(int base)
{
    struct node *root = make_node(S_IFDIR | 0755, 0, 0);
    struct stat st;
    nodes[root->ino % TABLE] = NULL;
    root->ino = FUSE_ROOT_ID;
    root->next = nodes[FUSE_ROOT_ID];
    nodes[FUSE_ROOT_ID] = root;
    root->lookups = 1;
    if (base < 0)
        return;
    if (fstat(base, &st) != 0)
        exit(1);
    as_in(root, &st);
    root->base_dir = base;
    root->base_name = strdup(".");
    root->loaded = root->xattrs_loaded = 0;
}

static void destroy(struct node *gone)
{
    struct node **at = &nodes[gone->ino % TABLE];
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    free_bytes(gone);
    /* A directory of the base stays open: inodes that were found there refer to it. And its name stays for ahead.c. */
    if (!S_ISDIR(gone->mode)) {
        if (gone->fd >= 0)
            close(gone->fd);
        free(gone->base_name);
    }
    while (gone->xattrs)
        remove_xattr(&gone->xattrs);
    free(gone->target);
    free(gone);
}

void drop_if_unused(struct node *node)
{
    if (node->nlink == 0 && node->lookups == 0)
        destroy(node);
}

void forget(uint64_t ino, uint64_t lookups)
{
    struct node *n = node_of(ino);
    if (!n)
        return;
    n->lookups -= lookups < n->lookups ? lookups : n->lookups;
    if (n->lookups == 0 && n->fd >= 0 && S_ISREG(n->mode)) {
        close(n->fd);
        n->fd = -1;
    }
    drop_if_unused(n);
}

void link_name(struct node *dir, const char *text, struct node *node)
{
    size_t length = strlen(text) + 1;
    struct name *n = malloc(sizeof *n + length), **slot = slot_of(dir, text);
    memcpy(n->text, text, length);
    n->parent = dir;
    n->node = node;
    n->cookie = last_cookie++;
    n->next = *slot;
    *slot = n;
    n->after = NULL;
    n->before = dir->last;
    if (dir->last)
        dir->last->after = n;
    else
        dir->first = n;
    dir->last = n;
}

void unlink_name(struct name *gone)
{
    struct node *dir = gone->parent;
    struct name **at = slot_of(dir, gone->text);
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    if (gone->after)
        gone->after->before = gone->before;
    else
        dir->last = gone->before;
    if (gone->before)
        gone->before->after = gone->after;
    else
        dir->first = gone->after;
    if (dir->cursor == gone)
        dir->cursor = gone->after;
    free(gone);
}

static int by_ino(const void *a, const void *b)
{
    uint64_t x = ((const struct listed *)a)->ino, y = ((const struct listed *)b)->ino;
    return x < y ? -1 : x > y;
}

size_t list_base(int fd, struct listed **out)
{
    struct entry { uint64_t ino, off; uint16_t length; uint8_t type; char name[]; };
    char buffer[1 << 16] __attribute__((aligned(8)));
    size_t count = 0, room = 0;
    long got;
    while ((got = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < got;) {
            struct entry *e = (void *)(buffer + at);
            at += e->length;
            if (!strcmp(e->name, ".") || !strcmp(e->name, ".."))
                continue;
            if (count == room)
                *out = realloc(*out, (room = room * 2 + 64) * sizeof **out);
            (*out)[count++] = (struct listed){ e->ino, strdup(e->name) };
        }
    qsort(*out, count, sizeof **out, by_ino);
    return count;
}

void free_listed(struct listed *listed, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(listed[i].text);
    free(listed);
}

/* A file with several names in the base is one inode. */
static void load_name(struct node *dir, const char *text)
{
    struct stat st;
    if (fstatat(dir->fd, text, &st, AT_SYMLINK_NOFOLLOW) != 0)
        exit(1);
    struct node *n = st.st_nlink > 1 && !S_ISDIR(st.st_mode) ? node_of(st.st_ino) : NULL;
    if (!n) {
        n = add_node(st.st_ino);
        as_in(n, &st);
        n->base_dir = dir->fd;
        n->base_name = strdup(text);
    }
    link_name(dir, text, n);
}

static void load(struct node *dir)
{
    struct listed *found = NULL;
    if (dir->loaded)
        return;
    long waits_before = waits();
    dir->loaded = 1;
    ahead_too_late(dir);
    dir->fd = openat(dir->base_dir, dir->base_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir->fd < 0)
        exit(1);
    size_t count = list_base(dir->fd, &found);
    for (size_t i = 0; i < count; i++)
        load_name(dir, found[i].text);
    free_listed(found, count);
    ahead_of(dir, waits() != waits_before);
}

struct name *find(struct node *dir, const char *text)
{
    load(dir);
    struct name *n = *slot_of(dir, text);
    while (n && (n->parent != dir || strcmp(n->text, text)))
        n = n->next;
    return n;
}

int is_empty(struct node *dir)
{
    load(dir);
    return dir->first == NULL;
}

struct name *first_after(struct node *dir, uint64_t cookie)
{
    load(dir);
    struct name *n = cookie == dir->cursor_after ? dir->cursor : NULL;
    if (!n)
        for (n = dir->first; n && n->cookie <= cookie;)
            n = n->after;
    return n;
}

const char *target_of(struct node *link)
{
    char text[4096];
    if (!link->target) {
        ssize_t length = readlinkat(link->base_dir, link->base_name, text, sizeof text);
        if (length < 0)
            exit(1);
        link->target = strndup(text, (size_t)length);
    }
    return link->target;
}

void set_xattr(struct node *node, const char *name, const void *value, size_t length)
{
    struct xattr *x = malloc(sizeof *x + strlen(name) + 1);
    strcpy(x->name, name);
    x->value = malloc(length + 1);
    memcpy(x->value, value, length);
    x->length = length;
    x->next = node->xattrs;
    node->xattrs = x;
}

void remove_xattr(struct xattr **at)
{
    struct xattr *gone = *at;
    *at = gone->next;
    free(gone->value);
    free(gone);
}

struct xattr **xattrs_of(struct node *node)
{
    static char list[XATTRS_MAX], value[XATTRS_MAX];
    char path[4200];
    if (node->xattrs_loaded)
        return &node->xattrs;
    node->xattrs_loaded = 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", node->base_dir, node->base_name);
    ssize_t length = llistxattr(path, list, sizeof list);
    for (char *name = list; name < list + length; name += strlen(name) + 1) {
        ssize_t size = lgetxattr(path, name, value, sizeof value);
        if (size >= 0)
            set_xattr(node, name, value, (size_t)size);
    }
    return &node->xattrs;
}
