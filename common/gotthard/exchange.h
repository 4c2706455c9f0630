/* SPDX-License-Identifier: ISC */
/*
 * The two sides of REQ and ACK: the operator's (ask.h) and the device's (responder.h).
 */
#pragma once

#include "gotthard/ask.h"
#include "gotthard/responder.h"
