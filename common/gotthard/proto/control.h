/* SPDX-License-Identifier: ISC */
/*
 * The frames of a control connection between a client and the relay ("GTR1"): type u8, flags u8 =
 * 0, length u16 (at most 1024), body. Pure conversion between bytes and structs. See
 * docs/protocol.md, section 3.
 */
#pragma once

#include "gotthard/proto/join.h"

#define GT_CONTROL_VERSION   1
#define GT_CONTROL_HEADER    4
#define GT_CONTROL_BODY_MAX  1024
#define GT_CONTROL_FILLER    0xff /* a type that stays unknown: its frames are skipped */
#define GT_CONTROL_FRAME_MAX (GT_CONTROL_HEADER + GT_CONTROL_BODY_MAX)
#define GT_CONTROL_PART_MAX  (GT_CONTROL_BODY_MAX - 2) /* bytes of the part in ACCESS */
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
    /* Optional: an unknown type from 0x80 on is skipped. */
    GT_CONTROL_LOAD = 0x81,   /* how many streams the session has */
    GT_CONTROL_ACCESS = 0x82, /* a part of the access list */
    GT_CONTROL_EFFECT = 0x83, /* what the list has caused at the relay */
    GT_CONTROL_LIMIT = 0x90,  /* the value of the limit that the ERROR behind it names */
};

/* The reason in PEER and the code in BYE, ERROR and STREAM_END: one list with one table of texts.
 */
enum gt_code {
    GT_CODE_NONE = 0,
    GT_CODE_BYE = 1,         /* BYE of the other side */
    GT_CODE_LOST = 2,        /* the other side's control connection was lost */
    GT_CODE_REPLACED = 3,    /* the same identity registered with a greater generation */
    GT_CODE_NEW_PROCESS = 4, /* the device's process was restarted, and its streams are lost */
    GT_CODE_EXPIRED = 5,     /* the deadline of a ticket or of a pair passed */
    GT_CODE_LIMIT = 6,       /* another limit of the relay, such as limits.streams */
    GT_CODE_NO_PORT = 7,     /* the relay's port range is used up */
    GT_CODE_PROTOCOL = 8,    /* a frame that is malformed or not allowed in this state */
    GT_CODE_VERSION = 9,     /* no version in common */
    GT_CODE_IN_USE = 10,     /* the slot has another owner, or a greater generation */
    GT_CODE_NO_SESSION = 11, /* unknown rid */
    GT_CODE_SHUTDOWN = 12,   /* the relay is stopping */
    GT_CODE_INTERNAL = 13,   /* internal error of the relay */
    GT_CODE_HUNG_UP = 14,    /* as LOST, and the other side's process was probably killed */
    GT_CODE_LIFETIME = 15,   /* the lifetime of the session passed */
    GT_CODE_IDLE = 16,       /* no stream for the relay's timeouts.idle */
    GT_CODE_PAIRING = 17,    /* the other side, or a session, did not come in timeouts.pairing */
    GT_CODE_GRACE = 18,      /* a lost side did not return in timeouts.session_grace */
    GT_CODE_SESSIONS = 19,   /* the relay's limits.sessions */
    GT_CODE_IDENTITY = 20,   /* the relay's limits.sessions_per_identity */
    GT_CODE_LARGE_LOST = 21, /* STREAM_END only: as LOST, and large packets do not arrive */
    GT_CODE_OLD_KEY = 22,    /* a side authenticated with a key that the relay no longer has */
    GT_CODE_REFUSED = 23,    /* a side is listed in relay.refused, or the access list revokes it */
    GT_CODE_WITHDRAWN = 24,  /* the device no longer grants the session */
};
/* Returns a short text for users, or "code N" for an unknown code. Static; thread-local. */
const char *gt_code_text(unsigned code);
/* As gt_code_text; the text of a limit that has a code of its own also names its value, unless
 * @value is 0: unknown. */
const char *gt_code_limit_text(unsigned code, uint32_t value);

/* The result of an ACCESS frame, in EFFECT. */
enum gt_effect {
    GT_EFFECT_TAKEN = 0,  /* the list is in force by this frame */
    GT_EFFECT_KNOWN = 1,  /* the list was in force before */
    GT_EFFECT_OTHER = 2,  /* the relay has or receives a newer list, or another one of the serial */
    GT_EFFECT_UNUSED = 3, /* no authority is configured at the relay */
    GT_EFFECT_REJECTED = 4, /* malformed, damaged, or of another authority */
};

struct gt_access_effect {
    uint8_t result;   /* enum gt_effect; a later version may have others */
    uint64_t serial;  /* of the list in force at the relay; 0: none */
    uint32_t n_ended; /* TAKEN: sessions that the list has ended */
};

struct gt_control_frame {
    enum gt_control_type type;
    uint8_t rid[GT_RID_SIZE]; /* RENDEZVOUS to STREAM_END, BYE, ERROR, LOAD, LIMIT */
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
            uint16_t segment; /* as in the ticket */
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
        uint32_t load;
        struct gt_span access; /* trust/access-parts.h; borrows from the decoded bytes */
        struct gt_access_effect effect;
        struct {
            uint16_t code;
            uint32_t value;
        } limit;
    };
};

enum {
    GT_CONTROL_E_SHORT = 1, /* incomplete */
    GT_CONTROL_E_UNKNOWN,   /* an unknown type of 0x80 or above: skip *ret_used bytes */
    GT_CONTROL_E_BAD,       /* close: unknown type below 0x80, flags, length, or a malformed body */
};

/* Returns the HELLO of this version. */
struct gt_control_frame gt_control_hello(void);
/* Encodes @frame, whose type must be known and whose strings and part must be within their limits.
 * Returns the number of bytes. */
size_t gt_control_encode(const struct gt_control_frame *frame,
                         uint8_t ret[static GT_CONTROL_FRAME_MAX]);
/* Writes a frame of an optional unknown type and of the maximum size, which a receiver skips.
 * Returns the number of bytes. */
size_t gt_control_encode_filler(uint8_t ret[static GT_CONTROL_FRAME_MAX]);
/* Decodes the first frame of @in. *ret_used, its size in bytes, is set with 0 and E_UNKNOWN. The
 * frame may contain a ticket: wipe it. */
int gt_control_decode(const uint8_t *in, size_t n, struct gt_control_frame *ret_frame,
                      size_t *ret_used) GT_MUST_CHECK;
