/* SPDX-License-Identifier: ISC */
/*
 * The suffix is a number in hex without leading zeros. Its bit i is set if character i is a
 * capital.
 */
#include "host-key-alias.h"

#include <stdio.h>
#include <string.h>

static bool is_capital(char c)
{
    return c >= 'A' && c <= 'Z'; /* whatever the locale */
}

/* Returns the digit of the characters from @name on, at most 4. */
static unsigned digit_of(const char *name)
{
    unsigned digit = 0;

    for (unsigned i = 0; i < 4 && name[i]; i++)
        digit |= (unsigned)is_capital(name[i]) << i;
    return digit;
}

const char *host_key_alias(const char *device, char ret[static HOST_KEY_ALIAS_SIZE])
{
    size_t n = strnlen(device, GT_NAME_MAX);
    bool has_capital = false;
    char *end = ret;

    for (size_t i = 0; i < n; i++)
        *end++ = is_capital(device[i]) ? (char)(device[i] - 'A' + 'a') : device[i];
    for (size_t i = (n + 3) / 4; i-- > 0;) {
        unsigned digit = digit_of(device + 4 * i);

        if (!has_capital && digit > 0)
            *end++ = '+';
        has_capital |= digit > 0;
        if (has_capital)
            *end++ = "0123456789abcdef"[digit];
    }
    strcpy(end, ".gotthard");
    return ret;
}
