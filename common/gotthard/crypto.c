/* SPDX-License-Identifier: ISC */
#include "gotthard/crypto.h"
