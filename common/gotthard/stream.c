/* SPDX-License-Identifier: ISC */
#include "gotthard/stream.h"
