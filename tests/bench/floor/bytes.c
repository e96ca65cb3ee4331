/* What files hold, and the log of all changes.
 *
 * A file of the base is written in place. The others share one sparse file, `data`, in which each has parts of 4 KiB times a power of
 * two. Small parts are used again, large ones are punched out and their places left unused. */

#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 4096, SMALL_ORDERS = 5 };
/* No more in one pwrite, so that the page cache's folios stay small (docs/PERFORMANCE.md, "Large folios"). */
enum { PIECE = 1 << 16 };
/* The disk is told to begin after so many new bytes. */
enum { SEND_EVERY = 1 << 20 };
/* So many files of the base are open at most; the directories of the base come on top. */
enum { OPEN_FILES = 4096 };
/* The log has zeros so far ahead: writing over them changes nothing but bytes. */
enum { AHEAD = 1 << 20 };
/* An fsync copies so many blocks into the log, and more of them are synced where they are: as daemon/src/store/flush.rs does it. */
enum { FEW = 16 };
static const uint64_t PLACES = 1ULL << 40; /* half of what the least of the file systems takes */

static int data_file = -1, log_file = -1;
static uint64_t next_place, written_to; /* in the data file; `written_to` of the latest write, for the log */
static off_t log_end, log_ready;
static uint64_t recent[FEW]; /* blocks of the data file that were written since the last sync, `recents` of them */
static unsigned recents;
static struct { uint64_t *places; size_t count, room; } unused[SMALL_ORDERS];

static void must(int holds)
{
    if (!holds) {
        perror("floor");
        exit(1);
    }
}

/* A block at a time: small folios here too. */
static void prepare_log(off_t end)
{
    static char zeros[BLOCK];
    if (end <= log_ready)
        return;
    for (end += AHEAD; log_ready < end; log_ready += BLOCK)
        must(pwrite(log_file, zeros, BLOCK, log_ready) == BLOCK);
}

/* Appends a record of two parts to the log. */
static void append(const void *head, size_t head_length, const void *body, size_t length)
{
    struct iovec parts[] = { { (void *)head, head_length }, { (void *)body, length } };
    prepare_log(log_end + (off_t)(head_length + length));
    must(pwritev(log_file, parts, 2, log_end) == (ssize_t)(head_length + length));
    log_end += (off_t)(head_length + length);
}

void bytes_begin(int keep)
{
    if (keep < 0)
        return;
    data_file = openat(keep, "data", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    log_file = openat(keep, "log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(data_file >= 0 && log_file >= 0);
    /* So long from the beginning: a write that makes it longer would change the file's inode too. */
    must(ftruncate(data_file, (off_t)PLACES) == 0);
    prepare_log(AHEAD);
    must(fdatasync(log_file) == 0);
}

int keeps_bytes(void)
{
    return data_file >= 0;
}

/* Closes the file of the base that was opened longest ago, if too many are open, and remembers this one. */
static void opened(const struct node *file)
{
    static uint64_t open_files[OPEN_FILES];
    static size_t at;
    struct node *oldest = node_of(open_files[at]);
    if (oldest && oldest != file && oldest->fd >= 0) {
        close(oldest->fd);
        oldest->fd = -1;
    }
    open_files[at] = file->ino;
    at = (at + 1) % OPEN_FILES;
}

/* The descriptor of a file of the base, or -1 for the others. */
static int base_file(struct node *file)
{
    if (file->base_name && file->fd < 0) {
        opened(file);
        file->fd = openat(file->base_dir, file->base_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        must(file->fd >= 0);
    }
    return file->fd;
}

static uint64_t room_in(const struct node *file)
{
    if (!file->extent_count)
        return 0;
    const struct extent *last = &file->extents[file->extent_count - 1];
    return last->from + last->length;
}

/* A place for `BLOCK << order` bytes. */
static uint64_t take(struct node *file, unsigned order)
{
    if (order < SMALL_ORDERS && unused[order].count) {
        file->stale = 1;
        return unused[order].places[--unused[order].count];
    }
    uint64_t place = next_place;
    next_place += (uint64_t)BLOCK << order;
    return place;
}

static void give_back(const struct extent *e)
{
    unsigned order = 0;
    while ((uint64_t)BLOCK << order < e->length)
        order++;
    if (order >= SMALL_ORDERS) {
        must(fallocate(data_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)e->place, (off_t)e->length) == 0);
        return;
    }
    if (unused[order].count == unused[order].room) {
        unused[order].room = unused[order].room * 2 + 64;
        unused[order].places = realloc(unused[order].places, unused[order].room * sizeof(uint64_t));
    }
    unused[order].places[unused[order].count++] = e->place;
}

/* Sees to it that there are places up to `end`: each new part is at least as long as all before it. */
static int reserve(struct node *file, uint64_t end)
{
    uint64_t have = room_in(file), need = end > have ? end - have : 0;
    unsigned order = 0;
    if (!need)
        return 0;
    if (end > PLACES || next_place > PLACES)
        return EFBIG;
    if (need < have)
        need = have;
    while ((uint64_t)BLOCK << order < need)
        order++;
    file->extents = realloc(file->extents, (file->extent_count + 1) * sizeof *file->extents);
    struct extent *e = &file->extents[file->extent_count++];
    *e = (struct extent){ have, take(file, order), (uint64_t)BLOCK << order };
    if (file->stale && have < file->size)
        zero_bytes(file, have, file->size);
    return 0;
}

/* Where the byte at `offset` is, which has a place; `length` becomes no more than what follows it there. */
static uint64_t place_of(const struct node *file, uint64_t offset, size_t *length)
{
    const struct extent *e = file->extents + file->extent_count - 1;
    while (e->from > offset)
        e--;
    uint64_t into = offset - e->from;
    if (*length > e->length - into)
        *length = e->length - into;
    return e->place + into;
}

void read_bytes(struct node *file, char *out, size_t length, uint64_t offset)
{
    int fd = base_file(file);
    while (length) {
        uint64_t place = offset;
        size_t part = length;
        ssize_t got = 0;
        if (fd >= 0)
            got = pread(fd, out, part, (off_t)place);
        else if (offset < room_in(file)) {
            place = place_of(file, offset, &part);
            got = pread(data_file, out, part, (off_t)place);
        }
        must(got >= 0);
        memset(out + got, 0, part - (size_t)got); /* holes */
        out += part;
        offset += part;
        length -= part;
    }
}

/* Has the disk begin with new bytes, a MiB at a time. */
static void send(uint64_t place, size_t length)
{
    static uint64_t from, to;
    if (to == from || place != to)
        from = place;
    to = place + length;
    if (to - from >= SEND_EVERY) {
        sync_file_range(data_file, (off_t)from, (off_t)(to - from), SYNC_FILE_RANGE_WRITE);
        from = to;
    }
}

/* Remembers which blocks a write touched, until they are too many. */
static void touched(uint64_t place, size_t length)
{
    for (uint64_t block = place / BLOCK; recents <= FEW && block <= (place + length - 1) / BLOCK; block++) {
        unsigned i = 0;
        while (i < recents && recent[i] != block)
            i++;
        if (i < recents)
            continue;
        if (recents < FEW)
            recent[recents] = block;
        recents++;
    }
}

static void put(int fd, const char *data, size_t length, uint64_t place)
{
    if (fd == data_file)
        touched(place, length);
    while (length) {
        size_t piece = length < PIECE ? length : PIECE;
        must(pwrite(fd, data, piece, (off_t)place) == (ssize_t)piece);
        data += piece;
        place += piece;
        length -= piece;
    }
}

int write_bytes(struct node *file, const char *data, size_t length, uint64_t offset)
{
    uint64_t end = offset + length;
    if (keeps_bytes()) {
        int fd = base_file(file), error = fd < 0 ? reserve(file, end) : 0, is_new = end > file->size;
        if (error)
            return error;
        if (file->stale && offset > file->size)
            zero_bytes(file, file->size, offset);
        if (fd >= 0)
            put(fd, data, length, written_to = offset);
        while (fd < 0 && length) {
            size_t part = length;
            written_to = place_of(file, offset, &part);
            put(data_file, data, part, written_to);
            if (is_new)
                send(written_to, part);
            data += part;
            offset += part;
            length -= part;
        }
    }
    if (end > file->size)
        file->size = end;
    return 0;
}

void zero_bytes(struct node *file, uint64_t from, uint64_t to)
{
    static char zeros[PIECE];
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    int fd = keeps_bytes() ? base_file(file) : -1;
    if (fd >= 0)
        must(fallocate(fd, punch, (off_t)from, (off_t)(to - from)) == 0);
    if (to > room_in(file))
        to = room_in(file);
    while (fd < 0 && from < to) {
        size_t part = to - from;
        uint64_t place = place_of(file, from, &part);
        if (part >= PIECE)
            must(fallocate(data_file, punch, (off_t)place, (off_t)part) == 0);
        else
            put(data_file, zeros, part, place);
        from += part;
    }
}

void free_bytes(struct node *file)
{
    for (unsigned i = 0; i < file->extent_count; i++)
        give_back(&file->extents[i]);
    free(file->extents);
    file->extents = NULL;
    file->extent_count = 0;
    file->stale = 0;
}

int resize(struct node *file, uint64_t size)
{
    if (keeps_bytes()) {
        int fd = base_file(file);
        if (fd >= 0)
            must(ftruncate(fd, (off_t)size) == 0);
        else if (size == 0)
            free_bytes(file);
        else if (size < file->size)
            file->stale = 1;
        else if (file->stale)
            zero_bytes(file, file->size, size);
    }
    file->size = size;
    return 0;
}

/* Makes what was written to the data file durable together with the log: few blocks by a copy in it. */
static void copy_recent(void)
{
    static char blocks[FEW * BLOCK];
    if (recents > FEW)
        must(fdatasync(data_file) == 0);
    else if (recents) {
        for (unsigned i = 0; i < recents; i++)
            must(pread(data_file, blocks + i * BLOCK, BLOCK, (off_t)(recent[i] * BLOCK)) == BLOCK);
        append(recent, sizeof recent, blocks, recents * BLOCK);
    }
    recents = 0;
}

void sync_bytes(struct node *file)
{
    if (!keeps_bytes())
        return;
    if (file->fd >= 0 && S_ISREG(file->mode))
        must(fdatasync(file->fd) == 0);
    copy_recent();
    must(fdatasync(log_file) == 0);
}

/* What was asked, when, and where the bytes went. */
void record(const void *request, size_t length)
{
    struct { uint64_t length, place; struct timespec when; } head = { .length = length, .place = written_to };
    if (log_file < 0)
        return;
    clock_gettime(CLOCK_REALTIME_COARSE, &head.when);
    append(&head, sizeof head, request, length);
}
