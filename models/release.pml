/* The release list: ids of dropped registers reach every worker without anybody waiting, and without a next call.
 *
 * A deleter pushes its id on a lock-free list. The next record carries the list: whoever encodes a record, under
 * the session lock, takes all of it by an exchange. If no next record comes:
 *   deleter   push; if asleep0 is set: trylock; if that works: post the list (if there is room), leave
 *   leave     unlock; fence; if door_asleep is set, take it back by an exchange: asleep0 = 0, ring the door; else, if
 *             asleep0 is set and the list is not empty: trylock, post the list, leave again (not if there was no room)
 *   worker 0  with nothing to read: read the bell; door_asleep = 1; asleep0 = 1; fence; look at tail; if the list is
 *             empty: sleep; else trylock, post the list, leave; if that posted nothing, unlock only, and if the list is
 *             still not empty, sleep for 10 ms at most; from the start. With news: asleep0 = 0
 * Whoever finds the lock held lets it be: the holder looks when he leaves. door_asleep belongs to all workers, so it
 * may be set by worker 1 alone; asleep0 is worker 0's.
 *
 * The ring may be full because worker 1 is slow, while worker 0 sleeps. Nobody comes when there is room again, so
 * worker 0 looks from time to time. Having posted nothing it must not ring: the ring would end its own sleep at once,
 * and so on, for as long as the ring is full.
 *
 * Two casts. Without FULL: 2 deleters, 1 caller, worker 0; there is room for everything. FULL: 1 deleter, 1 caller, 2
 * workers; the ring has one place. DROP: worker 0 drops an id too, inside a command. WEDGED: worker 1 never moves.
 *
 * Fences and the two bits of the bell are explained in doorbell.pml: only the variants without a fence have store
 * buffers.
 *
 * Claims: no deadlock; no livelock, but for the looks from time to time; when all is quiet (threads ended, workers
 * with nothing to do) the list is empty and each id was released on each worker; none twice.
 *
 * RUN good
 * RUN good FULL DROP
 * RUN good live FULL
 * RUN good live FULL WEDGED
 * RUN broken BROKEN_LEAVE_LOOK
 * RUN broken BROKEN_LEAVE_FENCE
 * RUN broken BROKEN_SLEEP_LOOK
 * RUN broken BROKEN_SLEEP_FENCE
 * RUN broken BROKEN_CLEAR_LATE
 * RUN broken BROKEN_DELETER
 * RUN broken BROKEN_PUSH
 * RUN broken BROKEN_DRAIN
 * RUN broken BROKEN_NO_ROOM FULL
 * RUN broken live BROKEN_SELF_RING FULL WEDGED
 */
#define RECORDS 4 /* at most: one by the caller, one per id */
#ifdef FULL
#define CAP 1     /* records in the ring */
#define THREADS 2 /* deleters and caller */
#else
#define CAP RECORDS
#define THREADS 3
#endif
#define BIT(i) (1 << (i))
#ifdef DROP
#define ALL (BIT(THREADS - 1) - 1 + BIT(2)) /* ids: bits 0 and 1 are the deleters', bit 2 worker 0's */
#else
#define ALL (BIT(THREADS - 1) - 1)
#endif

byte list;                /* the ids that wait */
byte record[RECORDS + 1]; /* the ids that record i carries */
byte tail;                /* the last record published */
byte position[2];         /* records passed, by worker */
bool lock;
bool door_asleep, asleep0;
bool same, in;            /* the door as worker 0 sees it */
bool in1;                 /* worker 1 has said that it sleeps */
byte released[2];         /* ghost */
byte ended;               /* ghost */

#define ROOM (tail < position[0] + CAP && tail < position[1] + CAP)

#if defined(BROKEN_LEAVE_FENCE) || defined(BROKEN_SLEEP_FENCE)
/* Store buffers: the holder's unlock; worker 0's flags (2 both, 1 asleep0 only). */
bool unlock_held;
byte asleep_held;

active proctype memory() {
end:
  do
  :: d_step { unlock_held -> lock = 0; unlock_held = 0 }
  :: d_step { asleep_held == 2 -> door_asleep = 1; asleep_held = 1 }
  :: d_step { asleep_held == 1 -> asleep0 = 1; asleep_held = 0 }
  od
}
#endif

inline ring() {
  d_step { same = 0; in = 0; in1 = 0 }
}

/* Append a record with all that is on the list. Under the lock, with room. */
inline append() {
#ifdef BROKEN_DRAIN /* left out: the exchange, the list is read first and emptied later */
  record[tail + 1] = list;
  list = 0;
#else
  d_step { record[tail + 1] = list; list = 0 }
#endif
  d_step { assert(ROOM); tail++; posted = 1 }
}

/* Post the list if there is one. room = 0: it has to wait. */
inline post_list() {
  if
  :: list && ROOM -> append()
  :: list && !ROOM -> room = 0
  :: !list
  fi
}

inline unlock() {
#ifdef BROKEN_LEAVE_FENCE /* left out: the fence between the unlock and the looks */
  unlock_held = 1
#else
  lock = 0
#endif
}

inline leave() {
  do
  :: unlock();
#ifdef BROKEN_LEAVE_LOOK /* left out: the looks after the unlock, unless there is a record to tell of */
    if
    :: !posted -> break
    :: else
    fi;
#endif
#ifdef BROKEN_NO_ROOM /* left out: the ring for worker 0 by one who found no room */
    if
    :: !room && !posted -> break
    :: else
    fi;
#endif
    atomic {
      if
      :: door_asleep -> door_asleep = 0
      :: else -> goto not_rung
      fi
    };
#ifdef BROKEN_CLEAR_LATE /* left out: the order, asleep0 is cleared after the ring */
    ring();
    asleep0 = 0;
#else
    asleep0 = 0;
    ring();
#endif
    break;
not_rung:
    if
    :: atomic { !room || !asleep0 || !list -> break }
    :: atomic { room && asleep0 && list ->
#ifdef BROKEN_LEAVE_FENCE
         !unlock_held; /* at the latest when this thread tries the lock again */
#endif
         if
         :: lock -> break
         :: else -> lock = 1
         fi
       }
       post_list()
    fi
  od;
  atomic { room = 0; posted = 0 }
}

inline push(i) {
#ifdef BROKEN_PUSH /* left out: the compare-and-swap */
  saw = list;
  list = saw | BIT(i)
#else
  list = list | BIT(i)
#endif
}

/* The last reference goes. Any thread. */
inline drop(i) {
  push(i);
#ifndef BROKEN_DELETER /* left out: the look at worker 0 after the push */
  if
  :: atomic { asleep0 -> skip };
    if
    :: atomic { !lock -> lock = 1; room = 1; posted = 0 };
      post_list();
      leave()
    :: lock
    fi
  :: !asleep0
  fi
#endif
}

proctype deleter(byte i) {
  bool room, posted;
  byte saw;
  drop(i);
  ended++
}

proctype caller() {
  bool room = 1, posted;
  atomic { !lock && ROOM -> lock = 1 } /* waits for room without the lock, then looks again under it */
  append();
  leave();
  ended++
}

/* Run record n: the releases come first, each once. */
inline run_record(w, n) {
  assert(!(released[w] & record[n]));
  released[w] = released[w] | record[n];
  if
  :: released[1 - w] & record[n] -> record[n] = 0 /* not read again: fewer states */
  :: else
  fi
}

proctype worker0() {
  bool room, posted, dropped, nap;
  byte saw;
  do
  :: atomic {
       tail > position[0] ->
       asleep0 = 0;
       run_record(0, position[0] + 1);
#ifdef DROP
       if
       :: !dropped -> dropped = 1
       :: else -> goto passed
       fi
#endif
     };
#ifdef DROP
    drop(2);
passed:
#endif
    position[0] = position[0] + 1
  :: else ->
    same = 1;
#ifdef BROKEN_SLEEP_FENCE /* left out: the fence between the flags and the looks */
    asleep_held = 2;
#else
    door_asleep = 1;
    asleep0 = 1;
#endif
    if
    :: tail > position[0] -> goto awake
    :: else
    fi;
    nap = 0;
#ifndef BROKEN_SLEEP_LOOK /* left out: the look at the list before sleeping */
    if
    :: list ->
      if
      :: lock -> nap = 1
      :: atomic { !lock -> lock = 1; room = 1; posted = 0 };
        post_list();
#ifdef BROKEN_SELF_RING /* left out: the difference, worker 0 leaves like everybody else */
        leave();
        nap = 1
#else
        if
        :: posted -> leave(); goto awake
        :: else -> unlock(); nap = (list != 0)
        fi
#endif
      fi
    :: else
    fi;
#endif
    in = same;
end:
    if
    :: !in
    :: in && nap ->
progress:
      in = 0 /* 10 ms */
    fi;
awake:
#ifdef BROKEN_SLEEP_FENCE
    !asleep_held;
#endif
    atomic { same = 0; nap = 0; room = 0; posted = 0 }
  od
}

proctype worker1() {
end:
  do
#if defined(FULL) && !defined(WEDGED)
  :: tail > position[1] ->
    d_step { run_record(1, position[1] + 1); position[1] = position[1] + 1; in1 = 0 }
#endif
  :: d_step { !in1 -> in1 = 1; door_asleep = 1 }
  od
}

/* When nothing moves any more. */
proctype quiet() {
  timeout;
  assert(ended == THREADS && !list && released[0] == ALL);
#ifdef FULL
  assert(released[1] == ALL)
#endif
}

init {
  atomic {
    run deleter(0); run caller(); run worker0();
#ifdef FULL
    run worker1();
#else
    run deleter(1);
    position[1] = RECORDS; /* no worker 1 */
#endif
#ifndef WEDGED
    run quiet()
#endif
  }
}
