/* SPDX-License-Identifier: ISC */
/*
 * Decodes arbitrary bytes as an event of a worker. An accepted event is of a known kind, its texts
 * end within their arrays, and its encoding has the same bytes.
 */
#include "worker-events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t bytes[WORKER_EVENT_SIZE] = {0}, again[WORKER_EVENT_SIZE];
    struct worker_event event;

    memcpy(bytes, data, GT_MIN(n, sizeof(bytes)));
    if (!worker_event_decode(bytes, &event))
        return 0;
    must(event.kind <= WORKER_SESSION_ENDED);
    must(strlen(event.service) < sizeof(event.service));
    must(strlen(event.target) < sizeof(event.target));
    must(strlen(event.source) < sizeof(event.source));
    must(strlen(event.why) < sizeof(event.why));
    worker_event_encode(&event, again);
    must(memcmp(again, bytes, sizeof(bytes)) == 0);
    return 0;
}
