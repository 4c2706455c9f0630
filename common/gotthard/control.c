/* SPDX-License-Identifier: ISC */
#include "gotthard/control.h"
