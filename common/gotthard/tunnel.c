/* SPDX-License-Identifier: ISC */
#include "gotthard/tunnel.h"
