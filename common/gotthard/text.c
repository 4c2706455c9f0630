/* SPDX-License-Identifier: ISC */
#include "gotthard/text.h"
