/* SPDX-License-Identifier: ISC */
/*
 * Exit statuses of the three programs, with the values of sysexits.h where it has one. Scripts and
 * systemd units depend on the numbers: never change them. They are listed in the man pages.
 */
#pragma once

enum gt_exit_status {
    GT_EXIT_SUCCESS = 0,
    GT_EXIT_USAGE = 64,         /* EX_USAGE: invalid command line */
    GT_EXIT_UNAVAILABLE = 69,   /* EX_UNAVAILABLE: peer unreachable, or the main port is in use */
    GT_EXIT_INTERNAL = 70,      /* EX_SOFTWARE: unexpected error, or out of memory */
    GT_EXIT_TRY_AGAIN = 75,     /* EX_TEMPFAIL: limit reached, or resource in use */
    GT_EXIT_PROTOCOL = 76,      /* EX_PROTOCOL: protocol violation, or no version in common */
    GT_EXIT_REFUSED = 77,       /* EX_NOPERM: request denied */
    GT_EXIT_CONFIGURATION = 78, /* EX_CONFIG: invalid configuration */
    GT_EXIT_BYE_UNSENT = 79,    /* agent's worker: orderly end, but BYE could not be sent */
    GT_EXIT_NOT_STARTED = 127,  /* set by the dynamic loader if a shared library is missing */
    GT_EXIT_INTERRUPTED = 130,  /* 128 + SIGINT, as a shell reports it */
};
