/* SPDX-License-Identifier: ISC */
/*
 * A doubly linked list through a member of its elements. (Hash tables are those of uthash.) An
 * element in no list points to itself, so that unlinking it is always safe.
 */
#pragma once

#include "gotthard/base/base.h"

struct gt_list {
    struct gt_list *next, *previous;
};

static inline void gt_list_init(struct gt_list *list)
{
    list->next = list->previous = list;
}

static inline bool gt_list_is_empty(const struct gt_list *list)
{
    return list->next == list;
}

/* Appends @element at the end of @list. */
static inline void gt_list_append(struct gt_list *list, struct gt_list *element)
{
    element->next = list;
    element->previous = list->previous;
    list->previous->next = element;
    list->previous = element;
}

static inline void gt_list_unlink(struct gt_list *element)
{
    element->previous->next = element->next;
    element->next->previous = element->previous;
    gt_list_init(element);
}

#define gt_list_entry(element, type, member) gt_container_of(element, type, member)

/* Iterates over @list. The body may unlink and free @at. */
#define gt_list_for_each_safe(at, next_, list)                               \
    for (struct gt_list *at = (list)->next, *next_ = at->next; at != (list); \
         at = next_, next_ = at->next)
