/* SPDX-License-Identifier: ISC */
/*
 * A locked list and a wake-up. The lock is held for the time of two pointers; letters are delivered
 * outside it, so that whoever reads one may post others.
 */
#include "mailbox.h"

static void mailbox_on_wake(struct ev_loop *loop, ev_async *wake, int events)
{
    mailbox_drain(gt_container_of(wake, struct mailbox, wake));
}

void mailbox_init(struct mailbox *mailbox, struct ev_loop *loop, mailbox_fn on_letter,
                  void *userdata)
{
    *mailbox = (struct mailbox){.loop = loop, .on_letter = on_letter, .userdata = userdata};
    pthread_mutex_init(&mailbox->lock, NULL);
    mailbox->last = &mailbox->first;
    ev_async_init(&mailbox->wake, mailbox_on_wake);
    ev_set_priority(&mailbox->wake, EV_MAXPRI);
    ev_async_start(loop, &mailbox->wake);
}

static struct letter *mailbox_take_all(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct letter *first = gt_steal(&mailbox->first);
    mailbox->last = &mailbox->first;
    pthread_mutex_unlock(&mailbox->lock);
    return first;
}

void mailbox_deinit(struct mailbox *mailbox)
{
    ev_async_stop(mailbox->loop, &mailbox->wake);
    pthread_mutex_destroy(&mailbox->lock);
}

void mailbox_post(struct mailbox *mailbox, struct letter *letter)
{
    letter->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    *mailbox->last = letter;
    mailbox->last = &letter->next;
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
    for (struct letter *at = mailbox_take_all(mailbox), *next; at; at = next) {
        next = at->next;
        mailbox->on_letter(mailbox->userdata, at);
    }
    mailbox->state = MAILBOX_IDLE;
}

struct letter *letter_new(enum letter_kind kind, struct dock *dock)
{
    struct letter *letter = calloc(1, sizeof(*letter));

    if (!letter)
        return NULL;
    letter->kind = kind;
    letter->dock = dock;
    return letter;
}

struct letter *letter_free(struct letter *letter)
{
    if (letter)
        gt_wipe(letter, sizeof(*letter));
    free(letter);
    return NULL;
}
