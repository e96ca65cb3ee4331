/* What the parts of `floor` (main.c says what it is) know of each other. */

#ifndef FLOOR_H
#define FLOOR_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* A part of a file in the data file; the parts of a file follow each other without gaps. */
struct extent {
    uint64_t from, place, length; /* bytes: in the file, in the data file */
};

struct xattr {
    struct xattr *next;
    size_t length;
    char *value;
    char name[];
};

/* An inode. Those of the base have its numbers there, new ones are above all of them. */
struct node {
    struct node *next; /* by number */
    uint64_t ino, size, lookups;
    uint32_t mode, uid, gid, rdev, nlink;
    struct timespec accessed, modified, changed;

    /* Where it is in the base, whose names never change: a directory there, and a name or NULL. */
    int base_dir;
    char *base_name;
    int fd; /* the file or directory of the base, once it was needed; or -1 */

    /* Of files that are not in the base. `stale`: there may be old bytes in the parts behind the end. */
    struct extent *extents;
    unsigned extent_count;
    int stale;

    /* Of directories: names in the order in which they came, and where the last listing ended. */
    struct name *first, *last, *cursor;
    uint64_t cursor_after;
    int loaded;

    char *target; /* of a symbolic link, once it was needed */
    struct xattr *xattrs;
    int xattrs_loaded;
};

struct name {
    struct name *next;           /* by hash */
    struct name *after, *before; /* in its directory */
    struct node *parent, *node;
    uint64_t cookie;
    char text[];
};

/* tree.c: inodes and names, in memory; those of the base come there when a directory is first looked into. */
void tree_begin(int base); /* the base's directory, or -1 without one */
struct node *node_of(uint64_t ino);
struct node *make_node(uint32_t mode, uint32_t uid, uint32_t gid);
void forget(uint64_t ino, uint64_t lookups);
void drop_if_unused(struct node *node);
struct name *find(struct node *dir, const char *text);
int is_empty(struct node *dir);
void link_name(struct node *dir, const char *text, struct node *node);
void unlink_name(struct name *name);
struct name *first_after(struct node *dir, uint64_t cookie);
const char *target_of(struct node *link);
struct xattr **xattrs_of(struct node *node);
void set_xattr(struct node *node, const char *name, const void *value, size_t length);
void remove_xattr(struct xattr **at);

/* The names in a directory of the base, in the order of their inodes; the number of them. */
struct listed {
    uint64_t ino;
    char *text;
};
size_t list_base(int fd, struct listed **out);
void free_listed(struct listed *listed, size_t count);

/* ahead.c: reads directories of the base before they are asked for. */
int ahead_begin(void);
long waits(void);                               /* of this thread, so far */
void ahead_too_late(const struct node *dir);    /* it is now looked into */
void ahead_of(const struct node *dir, int waited); /* it was looked into, which waited for the disk or did not */

/* bytes.c: what files hold, and the log. All of it ends the program if the disk fails. */
void bytes_begin(int keep); /* the directory for both, or -1: nothing is kept then */
int keeps_bytes(void);
void read_bytes(struct node *file, char *out, size_t length, uint64_t offset);
int write_bytes(struct node *file, const char *data, size_t length, uint64_t offset); /* 0 or an errno */
int resize(struct node *file, uint64_t size);
void zero_bytes(struct node *file, uint64_t from, uint64_t to);
void free_bytes(struct node *file);
void sync_bytes(struct node *file);
void record(const void *request, size_t length);

/* serve.c: the answer to a request of `fuse_in_header` and what follows it. */
void serve(int device, char *request);

/* follow.c: keeps the answering thread where its callers are. */
int follow_begin(void);
void follow(uint32_t pid);

#endif
