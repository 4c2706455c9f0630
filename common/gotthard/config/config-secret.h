/* SPDX-License-Identifier: ISC */
/*
 * The secret within the text of a file: the file contains it alone, or in a line VARIABLE=secret as
 * in a file of a shell, of systemd (EnvironmentFile=) or of keygen.
 */
#pragma once

#include "gotthard/base/base.h"

/*
 * Finds the secret of @variable in @text, which it changes. Tolerates and removes: a byte order
 * mark, CRLF, empty lines around the secret, "export ", blanks around a line VARIABLE=secret, and
 * quotes around its secret. Returns NULL with *ret_secret within @text, never empty; or a static
 * reason.
 */
const char *gt_configsecret_find(char *text, const char *variable, char **ret_secret) GT_MUST_CHECK;
