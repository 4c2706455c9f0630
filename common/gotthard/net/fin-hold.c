/* SPDX-License-Identifier: ISC */
/*
 * A socket filter (classic BPF, socket(7)), which needs no privilege. It sees a packet from its TCP
 * header on. An accepted socket inherits the filter of its listener.
 */
#include "gotthard/net/fin-hold.h"

#include <linux/filter.h>
#include <sys/socket.h>

#include "gotthard/base/base.h"

#define FLAGS_OFFSET 13 /* of a TCP header (RFC 9293, section 3.1) */
#define FLAG_FIN     0x01

void gt_fin_hold(int listener)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS_OFFSET),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, FLAG_FIN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),          /* drop */
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX), /* keep whole */
    };
    struct sock_fprog program = {.len = GT_ARRAY_SIZE(code), .filter = code};

    (void)setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

void gt_fin_release(int fd)
{
    (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &(int){0}, sizeof(int));
}
