/* SPDX-License-Identifier: ISC */
/*
 * A library that asserts what a stranger decides ends our process for him: libmosquitto 2.0.11 does
 * when a broker sends it a property of MQTT 5 that it does not know. Work that is surveyed here is
 * left alone where its assertion fails, and the process goes on. Only for a library that holds no
 * lock while it reads what strangers say, and only in a thread of its own.
 */
#pragma once

#include "gotthard/base.h"

/* Runs @work. False: an assertion failed inside it, and nothing that it worked on is in a known
 * state. */
bool gt_assertion_holds(void (*work)(void *userdata), void *userdata) GT_MUST_CHECK;
