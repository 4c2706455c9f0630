/* SPDX-License-Identifier: ISC */
/*
 * Connections whose end of file is not acknowledged yet. When a program closes its socket, the
 * kernel drops what it knows about the socket with that acknowledgement. Without one the socket
 * stays, and the peer's kernel repeats the end of file, at first after 0.2 s. Bytes are not held.
 */
#pragma once

/* Connections of @listener are held from their first packet on. No effect if the system denies
 * it. */
void gt_fin_hold(int listener);
/* Releases the accepted connection @fd. Takes one that is not held as well. */
void gt_fin_release(int fd);
