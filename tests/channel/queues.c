/* A channel as a user would write one: two queues in memory, from nothing but disco/channel.h and the C library. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "channel/subjects.h"
#include "disco/channel.h"

enum { MAX_QUEUED = 3 }; /* then the sender waits, as on any transport */

typedef struct {
  size_t size;
  void *bytes;
} queued_frame;

typedef struct {
  queued_frame frames[MAX_QUEUED];
  unsigned first, count;
} queue;

/* What both ends share; the last one frees it. */
typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t news;
  queue ways[2]; /* [i] is filled by end i */
  bool closed[2], interrupted[2];
} hub;

typedef struct {
  disco_channel channel;
  hub *hub;
  int me;
  void *received; /* lent to the caller until the next receive */
} queue_end;

static disco_status closed(void) { return disco_fail(DISCO_CLOSED, "the queue was closed"); }

static disco_status queue_send(disco_channel *self, const void *frame, size_t size) {
  queue_end *end = (queue_end *)self;
  hub *shared = end->hub;
  queue *way = &shared->ways[end->me];
  queued_frame copy = {size, malloc(size)};
  if (copy.bytes == NULL) return disco_fail(DISCO_MEMORY, "no memory for a frame of %zu bytes", size);
  memcpy(copy.bytes, frame, size);
  pthread_mutex_lock(&shared->lock);
  while (way->count == MAX_QUEUED && !shared->interrupted[end->me] && !shared->closed[!end->me])
    pthread_cond_wait(&shared->news, &shared->lock);
  bool taken = !shared->interrupted[end->me] && !shared->closed[!end->me];
  if (taken) way->frames[(way->first + way->count++) % MAX_QUEUED] = copy;
  pthread_cond_broadcast(&shared->news);
  pthread_mutex_unlock(&shared->lock);
  if (taken) return DISCO_OK;
  free(copy.bytes);
  return closed();
}

static disco_status queue_recv(disco_channel *self, const void **ret_frame, size_t *ret_size) {
  queue_end *end = (queue_end *)self;
  hub *shared = end->hub;
  queue *way = &shared->ways[!end->me];
  free(end->received);
  end->received = NULL;
  queued_frame frame = {0, NULL};
  pthread_mutex_lock(&shared->lock);
  while (way->count == 0 && !shared->interrupted[end->me] && !shared->closed[!end->me])
    pthread_cond_wait(&shared->news, &shared->lock);
  if (way->count > 0 && !shared->interrupted[end->me]) {
    frame = way->frames[way->first];
    way->first = (way->first + 1) % MAX_QUEUED;
    way->count--;
  }
  pthread_cond_broadcast(&shared->news);
  pthread_mutex_unlock(&shared->lock);
  if (frame.bytes == NULL) return closed();
  end->received = frame.bytes;
  *ret_frame = frame.bytes;
  *ret_size = frame.size;
  return DISCO_OK;
}

static void queue_interrupt(disco_channel *self) {
  queue_end *end = (queue_end *)self;
  pthread_mutex_lock(&end->hub->lock); /* held for moments only */
  end->hub->interrupted[end->me] = true;
  pthread_cond_broadcast(&end->hub->news);
  pthread_mutex_unlock(&end->hub->lock);
}

static void hub_free(hub *shared) {
  for (int i = 0; i < 2; i++)
    for (queue *way = &shared->ways[i]; way->count > 0; way->count--) {
      free(way->frames[way->first].bytes);
      way->first = (way->first + 1) % MAX_QUEUED;
    }
  pthread_cond_destroy(&shared->news);
  pthread_mutex_destroy(&shared->lock);
  free(shared);
}

static void queue_destroy(disco_channel *self) {
  queue_end *end = (queue_end *)self;
  hub *shared = end->hub;
  pthread_mutex_lock(&shared->lock);
  shared->closed[end->me] = true;
  bool last = shared->closed[!end->me];
  pthread_cond_broadcast(&shared->news);
  pthread_mutex_unlock(&shared->lock);
  if (last) hub_free(shared);
  free(end->received);
  free(end);
}

static const disco_channel_ops ops = {.struct_size = sizeof(disco_channel_ops),
                                      .send = queue_send,
                                      .recv = queue_recv,
                                      .reply = queue_send,
                                      .recv_reply = queue_recv,
                                      .interrupt = queue_interrupt,
                                      .destroy = queue_destroy};

static disco_channel *make_end(hub *shared, int me) {
  queue_end *end = calloc(1, sizeof(*end));
  if (end == NULL) abort();
  *end = (queue_end){{&ops}, shared, me, NULL};
  return &end->channel;
}

static void connect_queues(channel_pair *ret_pair) {
  hub *shared = calloc(1, sizeof(*shared));
  if (shared == NULL) abort();
  pthread_mutex_init(&shared->lock, NULL);
  pthread_cond_init(&shared->news, NULL);
  ret_pair->controller = make_end(shared, 0);
  ret_pair->worker = make_end(shared, 1);
}

const channel_subject channel_of_queues = {connect_queues};
