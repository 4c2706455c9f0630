/* SPDX-License-Identifier: ISC */
/*
 * Two rows of modules are one line of text: a character is twice as high as it is wide. Light
 * modules are drawn, dark ones are the background.
 */
#include "qr.h"

#ifdef HAVE_QRENCODE
#include <qrencode.h>
#include <string.h>

#include "gotthard/crypto/crypto.h"

#define QUIET_ZONE 2 /* modules on each side; 4 by the standard, which readers do not need */
#define COLOR      "\033[97;40m"
#define PLAIN      "\033[0m"

/* Around the code everything is light. */
static bool is_light(const QRcode *code, int x, int y)
{
    x -= QUIET_ZONE;
    y -= QUIET_ZONE;
    if (x < 0 || y < 0 || x >= code->width || y >= code->width)
        return true;
    return !(code->data[y * code->width + x] & 1);
}

static const char *block(bool is_upper, bool is_lower)
{
    if (is_upper)
        return is_lower ? "\xe2\x96\x88" : "\xe2\x96\x80"; /* full block, upper half block */
    return is_lower ? "\xe2\x96\x84" : " ";                /* lower half block */
}

static char *draw(const QRcode *code, bool has_color)
{
    int n = code->width + 2 * QUIET_ZONE;
    size_t line = 3 * (size_t)n + sizeof(COLOR) + sizeof(PLAIN) + 1;
    char *text = malloc(line * ((size_t)n + 1) / 2 + line), *at = text;

    for (int y = 0; text && y < n; y += 2) {
        at = stpcpy(at, has_color ? COLOR : "");
        for (int x = 0; x < n; x++)
            at = stpcpy(at, block(is_light(code, x, y), y + 1 >= n || is_light(code, x, y + 1)));
        at = stpcpy(at, has_color ? PLAIN "\n" : "\n");
    }
    return text;
}

char *qr_text(const char *text, bool has_color)
{
    QRcode *code = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_L);

    if (!code)
        return NULL;
    char *drawn = draw(code, has_color);
    gt_wipe(code->data, (size_t)code->width * (size_t)code->width);
    QRcode_free(code);
    return drawn;
}

#else

char *qr_text(const char *text, bool has_color)
{
    return NULL;
}

#endif
