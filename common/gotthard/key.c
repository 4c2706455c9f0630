/* SPDX-License-Identifier: ISC */
#include "gotthard/key.h"
