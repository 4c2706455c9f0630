/* SPDX-License-Identifier: ISC */
/*
 * A locked list and a wake-up. The lock is held while two pointers change. Messages are delivered
 * without it, so that the callback may post messages.
 */
#include "data/mailbox.h"

static void mailbox_on_wake(struct ev_loop *loop, ev_async *wake, int events)
{
    mailbox_drain(gt_container_of(wake, struct mailbox, wake));
}

void mailbox_init(struct mailbox *mailbox, struct ev_loop *loop, mailbox_fn on_message,
                  void *userdata)
{
    *mailbox = (struct mailbox){.loop = loop, .on_message = on_message, .userdata = userdata};
    pthread_mutex_init(&mailbox->lock, NULL);
    mailbox->last = &mailbox->first;
    ev_async_init(&mailbox->wake, mailbox_on_wake);
    ev_set_priority(&mailbox->wake, EV_MAXPRI);
    ev_async_start(loop, &mailbox->wake);
}

static struct message *mailbox_take_all(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct message *first = gt_steal(&mailbox->first);
    mailbox->last = &mailbox->first;
    pthread_mutex_unlock(&mailbox->lock);
    return first;
}

void mailbox_deinit(struct mailbox *mailbox)
{
    ev_async_stop(mailbox->loop, &mailbox->wake);
    pthread_mutex_destroy(&mailbox->lock);
}

void mailbox_post(struct mailbox *mailbox, struct message *message)
{
    message->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    *mailbox->last = message;
    mailbox->last = &message->next;
    pthread_mutex_unlock(&mailbox->lock);
    ev_async_send(mailbox->loop, &mailbox->wake);
}

bool mailbox_is_empty(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    bool is_empty = !mailbox->first;
    pthread_mutex_unlock(&mailbox->lock);
    return is_empty;
}

void mailbox_drain(struct mailbox *mailbox)
{
    if (mailbox->state == MAILBOX_DELIVERING)
        return;
    mailbox->state = MAILBOX_DELIVERING;
    for (struct message *at = mailbox_take_all(mailbox), *next; at; at = next) {
        next = at->next;
        mailbox->on_message(mailbox->userdata, at);
    }
    mailbox->state = MAILBOX_IDLE;
}

struct message *message_new(enum message_kind kind, struct session_port *session_port)
{
    struct message *message = calloc(1, sizeof(*message));

    if (!message)
        return NULL;
    message->kind = kind;
    message->session_port = session_port;
    return message;
}

struct message *message_free(struct message *message)
{
    if (message)
        gt_wipe(message, sizeof(*message));
    free(message);
    return NULL;
}
