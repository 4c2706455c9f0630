/* SPDX-License-Identifier: ISC */
/*
 * The proxy's language: a line an order, a line an answer, "ok ..." or "error ...". The table at
 * the end of orders.c has them all.
 */
#pragma once

#include "proxy.h"

/* Carries out @line (which it takes apart) and prints the answer to standard output. */
void orders_take(struct proxy *proxy, char *line);
