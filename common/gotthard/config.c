/* SPDX-License-Identifier: ISC */
#include "gotthard/config.h"
