/* SPDX-License-Identifier: ISC */
#include "gotthard/resolve.h"
