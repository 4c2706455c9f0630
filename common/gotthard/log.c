/* SPDX-License-Identifier: ISC */
#include "gotthard/log.h"
