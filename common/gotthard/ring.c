/* SPDX-License-Identifier: ISC */
#include "gotthard/ring.h"
