/* SPDX-License-Identifier: ISC */
/*
 * The frames of a control connection between a client and the relay ("GTR1"): type u8, flags u8 =
 * 0, length u16 (at most 1024), body. Pure: bytes to struct and back. See docs/protocol.md,
 * section 3.
 */
#pragma once

#include "gotthard/join.h"

#define GT_CONTROL_VERSION   1
#define GT_CONTROL_HEADER    4
#define GT_CONTROL_BODY_MAX  1024
#define GT_CONTROL_FRAME_MAX (GT_CONTROL_HEADER + GT_CONTROL_BODY_MAX)
#define GT_CONTROL_ALPN      "gotthard-r/1"
#define GT_SOFTWARE_MAX      64

enum gt_control_type {
    GT_CONTROL_HELLO = 0x01,
    GT_CONTROL_WELCOME = 0x02,
    GT_CONTROL_RENDEZVOUS = 0x10,
    GT_CONTROL_SESSION = 0x11,
    GT_CONTROL_PEER = 0x12,
    GT_CONTROL_OPEN = 0x20,
    GT_CONTROL_TICKET = 0x21,
    GT_CONTROL_STREAM_END = 0x22,
    GT_CONTROL_PING = 0x30,
    GT_CONTROL_PONG = 0x31,
    GT_CONTROL_RESTARTING = 0x3e,
    GT_CONTROL_BYE = 0x3f,
    GT_CONTROL_ERROR = 0x40,
    GT_CONTROL_SPARE = 0x80, /* may be skipped by a relay that does not know it */
};

/* PEER's reason, BYE's and ERROR's and STREAM_END's code: one list, so that one table names them.
 */
enum gt_code {
    GT_CODE_NONE = 0,
    GT_CODE_BYE = 1,         /* the other side said goodbye */
    GT_CODE_LOST = 2,        /* the other side's control connection went away */
    GT_CODE_REPLACED = 3,    /* the same identity came again with a greater generation */
    GT_CODE_NEW_PROCESS = 4, /* the device's process was restarted: its streams are gone */
    GT_CODE_EXPIRED = 5,     /* a deadline or the session's lifetime passed */
    GT_CODE_LIMIT = 6,       /* a quota or limit of the relay */
    GT_CODE_NO_PORT = 7,     /* the relay's port range is used up */
    GT_CODE_PROTOCOL = 8,    /* that frame, there and then, is a violation */
    GT_CODE_VERSION = 9,     /* no version in common */
    GT_CODE_TAKEN = 10,      /* the slot belongs to somebody else, or to a greater generation */
    GT_CODE_NO_SESSION = 11, /* no such rid here */
    GT_CODE_SHUTDOWN = 12,   /* the relay is stopping */
    GT_CODE_INTERNAL = 13,   /* the relay could not */
    GT_CODE_HUNG_UP = 14,    /* as LOST, and it looks as if the other side's process was killed */
};
/* A few words for people; "code N" for numbers this version does not know. Static storage. */
const char *gt_code_text(unsigned code);

struct gt_control_frame {
    enum gt_control_type type;
    uint8_t rid[GT_RID_SIZE]; /* of every type from RENDEZVOUS to STREAM_END; BYE, ERROR, SPARE */
    union {
        struct {
            uint16_t version_min, version_max;
            char software[GT_SOFTWARE_MAX + 1];
        } hello;
        struct {
            uint16_t version;
            uint8_t boot_id[16];
            uint32_t heartbeat_ms;
            uint16_t max_streams;
            uint32_t ttl_s;
        } welcome;
        struct {
            uint32_t generation;
            uint16_t port_hint;
            uint32_t ttl_s;
        } rendezvous;
        struct {
            uint16_t port;
            uint32_t ttl_left_s;
            bool is_peer_up;
        } session;
        struct {
            bool is_up;
            uint8_t reason;
        } peer;
        struct {
            uint32_t stream, attempt;
        } open;
        struct gt_ticket ticket;
        struct {
            uint32_t stream, attempt;
            uint16_t code;
            uint64_t n_up, n_down; /* bytes operator to device, device to operator */
        } stream_end;
        uint64_t ping; /* PING and PONG */
        struct {
            uint32_t reconnect_in_ms, try_for_ms;
        } restarting;
        uint16_t code; /* BYE and ERROR */
        struct {
            uint32_t stream, attempt;
            bool is_spare;
        } spare;
    };
};

enum {
    GT_CONTROL_E_SHORT = 1, /* not a whole frame yet */
    GT_CONTROL_E_UNKNOWN,   /* an unknown type of 0x80 or above: skip *ret_used bytes */
    GT_CONTROL_E_BAD,       /* close: unknown type below 0x80, flags, length, or a body that lies */
};

/* Never fails for a frame whose strings are within their limits. Returns the number of bytes. */
size_t gt_control_encode(const struct gt_control_frame *frame,
                         uint8_t ret[static GT_CONTROL_FRAME_MAX]);
/* *ret_used is set with 0 and E_UNKNOWN. */
int gt_control_decode(const uint8_t *in, size_t n, struct gt_control_frame *ret_frame,
                      size_t *ret_used) GT_MUST_CHECK;
