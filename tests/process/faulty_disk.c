/* Makes the disk of an audit log fail: loaded into the gateway by LD_PRELOAD. The file that DISK_FAULT names holds the
   fault of this moment; without it, or empty, the disk is well. Concerns segments only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_segment(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 6) return 0;
    path[length] = 0;
    return strcmp(path + length - 6, ".jsonl") == 0;
}

static int fault_is(const char *wanted) {
    char word[64] = "";
    int fd = open(getenv("DISK_FAULT"), O_RDONLY);
    if (fd < 0) return 0;
    ssize_t length = read(fd, word, sizeof word - 1);
    close(fd);
    return length > 0 && strcmp(word, wanted) == 0;
}

static void stall(const char *fault) {
    while (fault_is(fault)) usleep(2000);
}

ssize_t write(int fd, const void *bytes, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (is_segment(fd)) {
        if (fault_is("write EIO")) return errno = EIO, -1;
        if (fault_is("write ENOSPC")) return errno = ENOSPC, -1;
        if (fault_is("write EROFS")) return errno = EROFS, -1;
        if (fault_is("write ESTALE")) return errno = ESTALE, -1;
        if (fault_is("write EDQUOT")) {
            /* The quota has room for some bytes, once. */
            static int taken;
            if (taken++ == 0 && size > 100) return real(fd, bytes, 100);
            return errno = EDQUOT, -1;
        }
        if (fault_is("write short")) return real(fd, bytes, size > 37 ? 37 : size);
        if (fault_is("write EINTR")) {
            static int interrupted;
            if (interrupted++ % 3) return errno = EINTR, -1;
        }
        stall("write stalls");
    }
    return real(fd, bytes, size);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (is_segment(fd)) {
        if (fault_is("sync EIO")) return errno = EIO, -1;
        if (fault_is("sync ENOSPC")) return errno = ENOSPC, -1;
        if (fault_is("sync slow")) usleep(30000);
        stall("sync stalls");
    }
    return real(fd);
}
