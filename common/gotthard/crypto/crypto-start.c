/* SPDX-License-Identifier: ISC */
/* The allocation functions of OpenSSL, and the end of a process whose OpenSSL is incomplete; see
 * the header. */
#include "gotthard/crypto/crypto-start.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "gotthard/base/exit-status.h"
#include "gotthard/base/log.h"

static _Thread_local unsigned n_failed;
static _Thread_local bool is_first_use;

static _Noreturn void end_process(const char *reason)
{
    gt_error("the initialization of OpenSSL failed reason=\"%s\"", reason);
    _exit(GT_EXIT_INTERNAL);
}

/* A first use must not see the failure: inside of a pthread_once(), OpenSSL 3.5 would report it by
 * a function that calls the same pthread_once(), and wait for itself indefinitely. */
static void *counted(void *memory, size_t n)
{
    if (memory || n == 0)
        return memory;
    if (is_first_use)
        end_process("out of memory");
    n_failed++;
    return NULL;
}

static void *counted_malloc(size_t n, const char *file, int line)
{
    return counted(n > 0 ? malloc(n) : NULL, n);
}

static void *counted_realloc(void *memory, size_t n, const char *file, int line)
{
    if (n > 0)
        return counted(realloc(memory, n), n);
    free(memory);
    return NULL;
}

static void counted_free(void *memory, const char *file, int line)
{
    free(memory);
}

/* Prevents the cleanup at exit as well: the thread of libmosquitto is never joined, and may still
 * use libcrypto then. */
static void start(void)
{
    CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free);
    OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}

unsigned gt_crypto_n_failed_allocations(void)
{
    return n_failed;
}

void gt_crypto_require_complete(unsigned before)
{
    if (n_failed != before)
        end_process("out of memory");
}

void gt_crypto_first_use(bool (*use)(void))
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    is_first_use = true;
    pthread_once(&once, start);
    bool is_complete = use();
    is_first_use = false;
    if (!is_complete)
        end_process("an algorithm of TLS 1.3 is missing");
}
