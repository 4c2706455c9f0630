/* SPDX-License-Identifier: ISC */
/* Logs each NUL-terminated text of its input in every place of a line, for test_log_fields.py. */
#include <stdio.h>
#include <stdlib.h>

#include "gotthard/base/log.h"

int main(void)
{
    char *text = NULL;
    size_t n = 0;

    gt_log_open("log-lines", GT_LOG_INFO);
    while (getdelim(&text, &n, 0, stdin) > 0)
        gt_warn("up value=%s address=%s:%u reason=\"%s\" free %s, (%s) end=%d", text, text, 7u,
                text, text, text, 1);
    free(text);
    return 0;
}
