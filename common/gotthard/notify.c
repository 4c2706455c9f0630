/* SPDX-License-Identifier: ISC */
#include "gotthard/notify.h"
