/* Stands between processes and the disk: the k-th call that changes a folder fails.

   Loaded with LD_PRELOAD. The file that FAULTS_STATE names is mapped into every process of a build
   and says which folder, which call and which error; State in __init__.py is the same struct.
   A write that fails leaves half of its bytes behind. A sync in the folder is only counted: nothing
   loses power here, and to wait for the disk would take most of the time. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct state {
    int64_t seen;    /* calls so far */
    int64_t fail_at; /* number of the call that fails, counted from 1; 0 for none */
    int64_t error;   /* its errno */
    int64_t lasting; /* whether all later calls fail too */
    int64_t failed;  /* calls that failed */
    char call[64];   /* name of the first of them */
    char path[4096]; /* and its file */
    char folder[4096];
};

enum answer { ELSEWHERE, PASSES, FAILS };

static struct state *state;

__attribute__((constructor)) static void map_state(void)
{
    const char *name = getenv("FAULTS_STATE");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    state = mapped == MAP_FAILED ? NULL : mapped;
}

static enum answer judge(const char *call, const char *path)
{
    size_t length = strlen(state->folder);
    if (!length || strncmp(path, state->folder, length) || (path[length] && path[length] != '/'))
        return ELSEWHERE;
    int64_t now = __atomic_add_fetch(&state->seen, 1, __ATOMIC_SEQ_CST);
    if (!state->fail_at || now < state->fail_at || (now > state->fail_at && !state->lasting))
        return PASSES;
    if (__atomic_add_fetch(&state->failed, 1, __ATOMIC_SEQ_CST) == 1) {
        snprintf(state->call, sizeof state->call, "%s", call);
        snprintf(state->path, sizeof state->path, "%.4095s", path);
    }
    errno = (int)state->error;
    return FAILS;
}

/* What becomes of a call on an open file, or on a name in an open folder. */
static enum answer on(const char *call, int file, const char *name)
{
    char link[64], path[8192] = "";
    int before = errno;
    if (!state)
        return ELSEWHERE;
    if (!name || name[0] != '/') {
        snprintf(link, sizeof link, file == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, path, 4095);
        path[length < 0 ? 0 : length] = 0;
    }
    if (name)
        snprintf(path + strlen(path), 4096, "%s%s", *path ? "/" : "", name);
    errno = before;
    return judge(call, path);
}

#define REAL(type, name, parameters)                        \
    static type(*real) parameters;                          \
    if (!real)                                              \
        real = (type(*) parameters)dlsym(RTLD_NEXT, #name);

#define STAND_IN(type, name, parameters, file, path, ...)   \
    type name parameters                                    \
    {                                                       \
        REAL(type, name, parameters)                        \
        return on(#name, file, path) == FAILS ? -1 : real(__VA_ARGS__); \
    }

STAND_IN(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), file, NULL,
         file, data, size, at)
STAND_IN(ssize_t, pwrite64, (int file, const void *data, size_t size, off_t at), file, NULL,
         file, data, size, at)
STAND_IN(ssize_t, writev, (int file, const struct iovec *parts, int n), file, NULL, file, parts, n)
STAND_IN(ssize_t, pwritev, (int file, const struct iovec *parts, int n, off_t at), file, NULL,
         file, parts, n, at)
STAND_IN(ssize_t, sendfile, (int file, int from, off_t *at, size_t size), file, NULL,
         file, from, at, size)
STAND_IN(ssize_t, copy_file_range,
         (int from, off_t *at, int file, off_t *to, size_t size, unsigned flags), file, NULL,
         from, at, file, to, size, flags)
STAND_IN(int, ftruncate, (int file, off_t size), file, NULL, file, size)
STAND_IN(int, ftruncate64, (int file, off_t size), file, NULL, file, size)
STAND_IN(int, fallocate, (int file, int mode, off_t at, off_t size), file, NULL,
         file, mode, at, size)
STAND_IN(int, rename, (const char *from, const char *to), AT_FDCWD, to, from, to)
STAND_IN(int, renameat, (int there, const char *from, int folder, const char *to), folder, to,
         there, from, folder, to)
STAND_IN(int, renameat2,
         (int there, const char *from, int folder, const char *to, unsigned flags), folder, to,
         there, from, folder, to, flags)
STAND_IN(int, link, (const char *from, const char *to), AT_FDCWD, to, from, to)
STAND_IN(int, mkdir, (const char *path, mode_t mode), AT_FDCWD, path, path, mode)
STAND_IN(int, mkdirat, (int folder, const char *path, mode_t mode), folder, path,
         folder, path, mode)
STAND_IN(int, unlink, (const char *path), AT_FDCWD, path, path)
STAND_IN(int, unlinkat, (int folder, const char *path, int flags), folder, path,
         folder, path, flags)
STAND_IN(int, rmdir, (const char *path), AT_FDCWD, path, path)

ssize_t write(int file, const void *data, size_t size)
{
    REAL(ssize_t, write, (int, const void *, size_t))
    if (on("write", file, NULL) != FAILS)
        return real(file, data, size);
    int error = errno;
    if (real(file, data, size / 2) < 0)
        error = errno;
    errno = error;
    return -1;
}

int close(int file)
{
    REAL(int, close, (int))
    int flags = state ? fcntl(file, F_GETFL) : 0;
    int failed = flags > 0 && (flags & O_ACCMODE) && on("close", file, NULL) == FAILS;
    int error = errno, answer = real(file);
    if (!failed)
        return answer;
    errno = error;
    return -1;
}

#define SYNC(name)                                                             \
    int name(int file)                                                         \
    {                                                                          \
        REAL(int, name, (int))                                                 \
        enum answer answer = on(#name, file, NULL);                            \
        return answer == ELSEWHERE ? real(file) : answer == PASSES ? 0 : -1;   \
    }

SYNC(fsync)
SYNC(fdatasync)

/* A mode that the caller did not give is read all the same, and ignored by the system. */
#define MODE(after) \
    va_list rest;                                                              \
    va_start(rest, after);                                                     \
    int mode = va_arg(rest, int);                                              \
    va_end(rest);

#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...)                                 \
    {                                                                          \
        REAL(int, name, (const char *, int, ...))                              \
        MODE(flags)                                                            \
        int changes = flags & (O_ACCMODE | O_CREAT);                           \
        return changes && on("open", AT_FDCWD, path) == FAILS ? -1 : real(path, flags, mode); \
    }

#define OPENAT(name)                                                           \
    int name(int folder, const char *path, int flags, ...)                     \
    {                                                                          \
        REAL(int, name, (int, const char *, int, ...))                         \
        MODE(flags)                                                            \
        int changes = flags & (O_ACCMODE | O_CREAT);                           \
        return changes && on("open", folder, path) == FAILS ? -1              \
                                                             : real(folder, path, flags, mode); \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
