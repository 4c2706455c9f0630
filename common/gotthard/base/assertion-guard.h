/* SPDX-License-Identifier: ISC */
/*
 * Protection from assertions in a library that a remote peer can trigger. libmosquitto 2.0.11
 * aborts the process when a broker sends an MQTT 5 property that it does not know. Guarded work is
 * abandoned when an assertion in it fails, and the process continues. Only for a library that holds
 * no lock while it parses input, and only in a thread of its own.
 */
#pragma once

#include "gotthard/base/base.h"

/* Runs @work. Returns false if an assertion failed inside it. Everything that it worked on is then
 * in an unknown state. */
bool gt_assertion_guard_run(void (*work)(void *userdata), void *userdata) GT_MUST_CHECK;
