/* SPDX-License-Identifier: ISC */
/* What the two parts of session files share: session-file.c and session-file-scan.c. */
#pragma once

#define SESSION_FILE_SUFFIX ".session"
