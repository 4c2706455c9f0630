/* SPDX-License-Identifier: ISC */
/*
 * The two sides of REQ and ACK: the operator's (initiator.h) and the device's (responder.h).
 */
#pragma once

#include "gotthard/signaling/initiator.h"
#include "gotthard/signaling/responder.h"
