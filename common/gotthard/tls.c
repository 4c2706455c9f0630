/* SPDX-License-Identifier: ISC */
#include "gotthard/tls.h"
