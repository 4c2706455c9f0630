/* SPDX-License-Identifier: ISC */
#include "gotthard/mqtt.h"
