/* SPDX-License-Identifier: ISC */
#include "gotthard/conduit.h"
