/* SPDX-License-Identifier: ISC */
#include "gotthard/sock.h"
