/* SPDX-License-Identifier: ISC */
#include "gotthard/link.h"
