/* SPDX-License-Identifier: ISC */
#include "gotthard/join.h"
