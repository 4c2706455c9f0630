/* SPDX-License-Identifier: ISC */
/*
 * A failure from its id and the texts of the caller. Exit statuses and default hints come from the
 * table in failure-table.c.
 */
#include "failure-table.h"

#include <stdarg.h>
#include <stdio.h>

int failure_exit(enum failure_id id)
{
    return failure_row(id)->exit;
}

int failure_set(struct failure *ret, enum failure_id id, const char *hint, const char *fmt, ...)
{
    ret->id = id;
    ret->hint = hint ? hint : failure_row(id)->hint;
    va_list args;
    va_start(args, fmt);
    vsnprintf(ret->message, sizeof(ret->message), fmt, args);
    va_end(args);
    return 1;
}
