/* SPDX-License-Identifier: ISC */
/*
 * Notifies the clients that their connections are about to end, and in which window to reconnect.
 * Each client chooses a random time in that window. The clients of a small relay reconnect at once;
 * a large relay is not overloaded by them.
 */
#pragma once

#include "control/client.h"

enum restart_kind {
    RESTART_PROCESS, /* a restart: the next process may start seconds later */
    RESTART_UPGRADE, /* a live upgrade: the sockets keep listening */
};

/* Returns the window (ms) for the present number of clients. */
uint32_t restart_notice_window_ms(const struct client_host *clients, enum restart_kind kind);
/* Queues RESTARTING to all clients. Like all frames it is sent before the loop sleeps, in order. */
void restart_notice_send(struct client_host *clients, uint32_t window_ms);
