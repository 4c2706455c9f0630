/* SPDX-License-Identifier: ISC */
/* A QR code (ISO/IEC 18004) for a terminal that shows UTF-8, by libqrencode. */
#pragma once

#include "gotthard/base/base.h"

/* Returns the lines of the code of @text, or NULL: it is too long, there is no memory, or this
 * program was built without libqrencode. @has_color: draws black on white whatever the terminal's
 * colors are; otherwise they must be light on dark. The caller wipes and frees it. */
char *qr_text(const char *text, bool has_color) GT_MUST_CHECK;
