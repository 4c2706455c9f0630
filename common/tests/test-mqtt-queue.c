/* SPDX-License-Identifier: ISC */
/*
 * The queue between a connection's thread and the loop: it blocks the thread when it is full, loses
 * nothing, keeps the order, and releases the thread when it is closed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs these before it */
#include <cmocka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "gotthard/mqtt/mqtt-queue.h"

enum { N_EVENTS = 20000 }; /* many times the limit in bytes */

static struct gt_mqtt_queue queue;
static struct ev_loop *loop;
static ev_async wakeup;
static atomic_int n_pushed;

static void on_wakeup(struct ev_loop *l, ev_async *async, int revents)
{
}

static struct gt_mqtt_event *make(enum gt_mqtt_event_type type, int id)
{
    struct gt_mqtt_event *event = gt_mqtt_event_new(type, "topic", gt_span("payload", 7));

    assert_non_null(event);
    event->id = id;
    return event;
}

static void *push_all(void *arg)
{
    for (int i = 0; i < N_EVENTS; i++) {
        struct gt_mqtt_event *event =
            gt_mqtt_event_new(GT_MQTT_EVENT_MESSAGE, "topic", gt_span("payload", 7));

        if (event)
            event->id = i;
        if (!gt_mqtt_queue_push(&queue, event))
            return NULL;
        n_pushed = i + 1;
    }
    return arg;
}

/* Waits until the thread has been blocked for some time. */
static int wait_until_blocked(void)
{
    int before;

    do {
        before = n_pushed;
        nanosleep(&(struct timespec){0, 200000000}, NULL);
    } while (n_pushed != before || before == 0);
    return before;
}

static int begin(void **state)
{
    loop = ev_loop_new(0);
    ev_async_init(&wakeup, on_wakeup);
    ev_async_start(loop, &wakeup);
    gt_mqtt_queue_init(&queue, 0, loop, &wakeup);
    n_pushed = 0;
    return 0;
}

static int end(void **state)
{
    gt_mqtt_queue_deinit(&queue);
    ev_async_stop(loop, &wakeup);
    ev_loop_destroy(loop);
    return 0;
}

static void test_full_queue_blocks_and_loses_nothing(void **state)
{
    pthread_t thread;
    void *result;

    assert_int_equal(pthread_create(&thread, NULL, push_all, &queue), 0);
    int n_full = wait_until_blocked();
    assert_true(n_full < N_EVENTS);
    assert_in_range(queue.n_bytes, 1 << 20, (1 << 20) + 16384);
    for (int i = 0; i < N_EVENTS;) {
        struct gt_mqtt_event *event = gt_mqtt_queue_pop(&queue);

        if (!event)
            continue;
        assert_int_equal(event->id, i++);
        free(event);
    }
    pthread_join(thread, &result);
    assert_ptr_equal(result, &queue);
    assert_null(gt_mqtt_queue_pop(&queue));
}

static void test_end_is_added_to_a_full_queue(void **state)
{
    pthread_t thread;
    void *result;
    enum gt_mqtt_event_type last = GT_MQTT_EVENT_UP;

    assert_int_equal(pthread_create(&thread, NULL, push_all, &queue), 0);
    wait_until_blocked();
    assert_true(gt_mqtt_queue_push(&queue, make(GT_MQTT_EVENT_ENDED, 0)));
    while (n_pushed < N_EVENTS || queue.first) {
        struct gt_mqtt_event *event = gt_mqtt_queue_pop(&queue);

        if (event && event->type == GT_MQTT_EVENT_ENDED)
            last = event->type;
        free(event);
    }
    assert_int_equal(last, GT_MQTT_EVENT_ENDED);
    pthread_join(thread, &result);
}

static void test_close_ends_the_wait(void **state)
{
    pthread_t thread;
    void *result;

    assert_int_equal(pthread_create(&thread, NULL, push_all, &queue), 0);
    wait_until_blocked();
    gt_mqtt_queue_close(&queue);
    pthread_join(thread, &result); /* all the others are freed */
    assert_ptr_equal(result, &queue);
}

static void test_missing_event_is_a_failure(void **state)
{
    assert_false(gt_mqtt_queue_push(&queue, NULL));
    assert_null(gt_mqtt_queue_pop(&queue));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_queue_blocks_and_loses_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_end_is_added_to_a_full_queue, begin, end),
        cmocka_unit_test_setup_teardown(test_close_ends_the_wait, begin, end),
        cmocka_unit_test_setup_teardown(test_missing_event_is_a_failure, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
