/* SPDX-License-Identifier: ISC */
#include "gotthard/trust.h"
