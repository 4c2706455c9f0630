/* SPDX-License-Identifier: ISC */
#include "gotthard/exchange.h"
