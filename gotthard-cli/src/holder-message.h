/* SPDX-License-Identifier: ISC */
/*
 * The messages on a control socket (holder-server.h): one struct for all, and a row table for each
 * type. The socket keeps the borders of messages (SOCK_SEQPACKET in unix(7)); descriptors travel
 * beside OPEN. Pure: bytes in, bytes out. Both ends are the same program of the same user, but each
 * checks everything that it receives.
 *
 *     client                          holder
 *     HELLO, the hash of its secrets and files
 *                                     READY, or STALE: other secrets or files, too old,
 *                                     without room, or the device is lost
 *     OPEN, service, two descriptors
 *                                     ACCEPTED: the descriptors are taken
 *                                     NOTICE ..., CONNECTED: the service is connected,
 *                                     and at the end FAILURE or END
 *
 *     STATUS_QUERY                    STATUS
 *     HOST_KEYS_QUERY                 HOST_KEYS
 */
#pragma once

#include "gotthard/base/text.h"
#include "gotthard/crypto/crypto.h"

#define HOLDER_MESSAGE_MAX   16384 /* bytes of an encoded message */
#define HOLDER_MESSAGE_FDS   2     /* descriptors beside OPEN: for reading and for writing */
#define HOLDER_VERSION       2     /* changes with any type or field */
#define HOLDER_HOST_KEYS_MAX 8192  /* bytes of all lines with the NUL */

enum holder_message_type {
    HOLDER_HELLO = 1,
    HOLDER_READY,
    HOLDER_STALE,
    HOLDER_OPEN,
    HOLDER_ACCEPTED,
    HOLDER_NOTICE,
    HOLDER_CONNECTED,
    HOLDER_FAILURE,
    HOLDER_END,
    HOLDER_STATUS_QUERY,
    HOLDER_STATUS,
    HOLDER_HOST_KEYS_QUERY,
    HOLDER_HOST_KEYS,
};

enum holder_notice_kind {
    HOLDER_NOTICE_WARNING, /* for print_warning() */
    HOLDER_NOTICE_LOG,     /* a whole line of the log */
};

enum holder_kind { HOLDER_KIND_SHARED, HOLDER_KIND_CONNECT };

enum holder_state {
    HOLDER_STATE_CONNECTING,
    HOLDER_STATE_UP,
    HOLDER_STATE_AWAY,
    HOLDER_STATE_CLOSING
};

struct holder_status {
    uint8_t kind;  /* enum holder_kind */
    uint8_t state; /* enum holder_state */
    uint32_t pid;
    char device[GT_NAME_MAX + 1], operator_[GT_NAME_MAX + 1];
    char relay[GT_HOST_MAX + 10]; /* "HOST:PORT" */
    char forwards[2048];          /* "4444:ssh 8080:web"; "": none */
    uint64_t age_ms;              /* since the start */
    uint64_t n_up, n_down;        /* bytes of payload */
    uint16_t n_streams;
};

struct holder_message {
    enum holder_message_type type;
    union {
        uint8_t check[GT_KEY_SIZE];           /* HELLO */
        char service[GT_SERVICE_MAX + 1];     /* OPEN */
        struct holder_status status;          /* STATUS */
        char host_keys[HOLDER_HOST_KEYS_MAX]; /* HOST_KEYS: "ssh-ed25519 AAAA...\n" ... */
        struct {
            uint8_t kind; /* enum holder_notice_kind */
            char text[1100];
        } notice;
        struct {
            uint16_t id; /* enum failure_id */
            char message[640];
            char hint[640];
        } failure;
        struct {
            uint16_t status; /* exit status */
            char text[320];  /* a warning; "": none */
        } end;
    };
};

enum { HOLDER_MESSAGE_E_BAD = 1 };

/* Writes @message to @ret. Returns the number of bytes. */
size_t holder_message_encode(const struct holder_message *message,
                             uint8_t ret[static HOLDER_MESSAGE_MAX]);
/* E_BAD: anything but exactly one message of this version. */
int holder_message_decode(struct gt_span bytes, struct holder_message *ret) GT_MUST_CHECK;
