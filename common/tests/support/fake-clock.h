/* SPDX-License-Identifier: ISC */
/*
 * A clock that skips idle time. While it is started, a wait of the loop in which nothing happens
 * within GRACE_MS ends at once, and all clocks advance by the rest of the wait: a test that waits
 * for a deadline of 45 s takes milliseconds. It replaces clock_gettime(2) and epoll_wait(2) of this
 * executable and of its libraries, so the library needs no hook.
 *
 * With GOTTHARD_TEST_SLOWNESS=10 these clocks run at a tenth of their speed from then on, so that
 * all limits hold on an emulated processor as well (tests/arm).
 *
 * Use it only if every peer runs in the test's own loop: time must not pass for a peer, or for a
 * resolver thread, that is merely slow. It affects only executables that call fake_clock_start, or
 * fake_clock_slow.
 */
#pragma once

void fake_clock_start(void);

/* The clocks run in real time from now on, and stay ahead. */
void fake_clock_stop(void);

/* For a test that waits in real time: GOTTHARD_TEST_SLOWNESS only. */
void fake_clock_slow(void);

/* Returns the time since boot in seconds, as it really is. */
double fake_clock_real(void);
