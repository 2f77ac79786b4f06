// SPDX-License-Identifier: MIT
// Preloaded into a program that uses OpenSSL and writes no key log: then SSLKEYLOGFILE works for it too.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void write_line(const void *ssl, const char *line)
{
    (void)ssl;
    const char *path = getenv("SSLKEYLOGFILE");
    const int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (file >= 0) {
        dprintf(file, "%s\n", line);
        close(file);
    }
}

void *SSL_CTX_new(const void *method)
{
    void *(*next)(const void *) = (void *(*)(const void *))dlsym(RTLD_NEXT, "SSL_CTX_new");
    void (*set)(void *, void (*)(const void *, const char *)) =
        (void (*)(void *, void (*)(const void *, const char *)))dlsym(RTLD_NEXT, "SSL_CTX_set_keylog_callback");
    void *context = next ? next(method) : NULL;
    if (context && set)
        set(context, write_line);
    return context;
}
