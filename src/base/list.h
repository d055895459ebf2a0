/* A doubly linked list with its links inside the members. The caller locks. */
#ifndef DSC_BASE_LIST_H
#define DSC_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct dsc_list dsc_list;
struct dsc_list {
  dsc_list *next, *previous;
};

static inline void dsc_list_init(dsc_list *list) { list->next = list->previous = list; }
static inline bool dsc_list_is_empty(const dsc_list *list) { return list->next == list; }

static inline void dsc_list_append(dsc_list *list, dsc_list *member) {
  member->previous = list->previous;
  member->next = list;
  list->previous->next = member;
  list->previous = member;
}

/* The member may be removed twice. */
static inline void dsc_list_remove(dsc_list *member) {
  member->previous->next = member->next;
  member->next->previous = member->previous;
  dsc_list_init(member);
}

#define dsc_list_entry(member, type, field) ((type *)((char *)(member)-offsetof(type, field)))

#endif
