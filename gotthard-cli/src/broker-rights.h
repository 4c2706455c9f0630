/* SPDX-License-Identifier: ISC */
/*
 * The access rights that an operator needs at the broker, as a hint. A broker that takes the
 * operator's name from the certificate grants none of them under another name.
 */
#pragma once

#include "identity.h"

/* Writes the rules of mosquitto-example.acl that the operator, @name at the broker, needs. */
void broker_rights_rules(const struct settings *settings, const char *name, char *ret, size_t cap);
/* Replaces the hint of @failure by the rights that are missing, or by the name in the certificate
 * if that is the likely cause. */
void broker_rights_hint(const struct settings *settings, const struct identity *identity,
                        struct failure *failure);
