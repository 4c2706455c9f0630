/* SPDX-License-Identifier: ISC */
#include "gotthard/seal.h"
