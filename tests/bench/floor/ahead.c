/* Reads directories of the base ahead of whoever walks it, while the disk is waited for: as daemon/src/base/ahead.rs does it.
 *
 * Threads list the subdirectories of a directory that was looked into, in the order in which they are shown, and look at what is in
 * them. Nothing is kept of that but by the kernel. */

#define _GNU_SOURCE
#include "floor.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS = 2, JOBS = 256, COLD = 64 };

/* The last one is next. `above` stays open for ever, and so does the name stay where it is. */
static struct job {
    int above;
    const char *name;
} jobs[JOBS];
static unsigned count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;

static void look(struct job job)
{
    struct listed *found = NULL;
    struct stat st;
    int fd = openat(job.above, job.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    size_t names = list_base(fd, &found);
    for (size_t i = 0; i < names; i++) {
        if (fstatat(fd, found[i].text, &st, AT_SYMLINK_NOFOLLOW) != 0)
            break; /* whoever needs it will see */
    }
    free_listed(found, names);
    close(fd);
}

static void *work(void *nothing)
{
    for (;;) {
        pthread_mutex_lock(&lock);
        while (count == 0)
            pthread_cond_wait(&more, &lock);
        struct job job = jobs[--count];
        pthread_mutex_unlock(&lock);
        look(job);
    }
    return nothing;
}

int ahead_begin(void)
{
    pthread_t thread;
    int error = 0;
    for (int i = 0; i < THREADS && !error; i++)
        error = pthread_create(&thread, NULL, work, NULL);
    return error;
}

long waits(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

void ahead_too_late(const struct node *dir)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = count; i-- > 0;)
        if (jobs[i].name == dir->base_name) {
            memmove(jobs + i, jobs + i + 1, (--count - i) * sizeof *jobs);
            break;
        }
    pthread_mutex_unlock(&lock);
}

void ahead_of(const struct node *dir, int waited)
{
    static int cold; /* directories to go in which the base counts as not in memory */
    cold = waited ? COLD : cold - (cold > 0);
    if (!cold)
        return;
    pthread_mutex_lock(&lock);
    for (const struct name *n = dir->last; n; n = n->before) {
        if (!S_ISDIR(n->node->mode))
            continue;
        if (count == JOBS)
            memmove(jobs, jobs + 1, --count * sizeof *jobs);
        jobs[count++] = (struct job){ n->node->base_dir, n->node->base_name };
    }
    pthread_cond_broadcast(&more);
    pthread_mutex_unlock(&lock);
}
