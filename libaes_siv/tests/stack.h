/* SPDX-License-Identifier: MIT
 *
 * stack.h - what a function leaves on its stack. For libaes_siv's tests and the engine's.
 */
#ifndef AES_SIV_TESTS_STACK_H_
#define AES_SIV_TESTS_STACK_H_

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

#define STACK ((size_t)1 << 18)

/* Runs a function in a thread whose stack is a mapped file. Returns the STACK bytes of that file, valid until the next
 * call, or NULL when the thread cannot be set up. */
static unsigned char const *stack_after(void *(*function)(void *), void *argument)
{
    static unsigned char left[STACK];
    pthread_attr_t attributes;
    pthread_t thread;
    FILE *const file = tmpfile();
    unsigned char *stack;

    if (!CHECK(file != NULL) || !CHECK(ftruncate(fileno(file), (off_t)STACK) == 0))
        return NULL;
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    if (!CHECK(stack != MAP_FAILED))
        return NULL;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstack(&attributes, stack, STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, function, argument) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
    CHECK(pread(fileno(file), left, STACK, 0) == (ssize_t)STACK);
    CHECK(munmap(stack, STACK) == 0 && fclose(file) == 0);
    return left;
}

#endif
