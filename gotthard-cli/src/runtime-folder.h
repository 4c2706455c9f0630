/* SPDX-License-Identifier: ISC */
/*
 * The folder of this user's control sockets, of mode 0700: $XDG_RUNTIME_DIR/gotthard, else
 * /run/user/UID/gotthard, else /tmp/gotthard-UID, else $XDG_CACHE_HOME/gotthard or
 * ~/.cache/gotthard. A folder that another user owns or can enter is
 * never used: a user who replaces a socket receives the bytes of a terminal.
 */
#pragma once

#include "gotthard/base/base.h"
#include "local-socket.h"

#define RUNTIME_FOLDER_NAME_MAX 24 /* bytes of a name in it, without the NUL */
#define RUNTIME_FOLDER_MAX      (LOCAL_SOCKET_PATH_MAX - RUNTIME_FOLDER_NAME_MAX - 1)
#define RUNTIME_FOLDER_WHY      480

enum { RUNTIME_FOLDER_E_NONE = 1 };

/* Finds the folder, and creates it. E_NONE: none can be used, for the reason in @ret_why. */
int runtime_folder_find(char ret[static RUNTIME_FOLDER_MAX + 1],
                        char ret_why[static RUNTIME_FOLDER_WHY]) GT_MUST_CHECK;
