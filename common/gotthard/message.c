/* SPDX-License-Identifier: ISC */
#include "gotthard/message.h"
