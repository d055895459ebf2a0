/* The release list: ids of dropped registers reach every worker without anybody waiting, and without a next call.
 *
 * A deleter pushes its id on a lock-free list. The next record carries the list: whoever encodes a record, under
 * the session lock, takes all of it by exchange. If no next record comes:
 *   deleter   push; fence; if worker 0 is asleep: try to publish
 *   leaving   unlock; fence; if worker 0 is asleep and the list is not empty: try to publish
 *   worker 0  with nothing to read: read the bell; asleep = 1; fence; if the list is not empty: try to publish;
 *             look at tail again; sleep; asleep = 0
 * To try to publish is a trylock. If somebody has the lock, let it be: he looks when he leaves. That holds for
 * worker 0 too: its asleep = 1 stands before the holder's look, so it may go to sleep and need not spin for the
 * lock.
 *
 * The ring may be full because worker 1 is slow, while worker 0 sleeps. Then the ids stay on the list, and the
 * publisher leaves a mark: wanted = 1. A worker that has moved its position does: fence; if wanted, clear it and
 * ring the readers' bell. So worker 0 comes back and looks at the list. Who leaves the lock tries again if there is
 * room or no mark.
 *
 * Two casts. Without FULL: 2 deleters, 1 caller, worker 0; there is room for everything. FULL: 1 deleter, 1 caller,
 * worker 0, and worker 1, which is slow; the ring has one place. DROP: worker 0 drops an id too, inside a command.
 *
 * Store buffers: the unlock, asleep = 1 and worker 1's position are plain stores and stay in a buffer until
 * `memory` empties it. A fence is "my buffer is empty" as the guard of the next load. Push, trylock and exchange
 * are read-modify-writes, which have no buffer. The two bits of the bell are explained in doorbell.pml.
 *
 * Claims: no deadlock, no livelock; when all is quiet (threads ended, workers with nothing to do) the list is empty
 * and each id was released on each worker; none twice; no record is overwritten that a worker has not passed.
 *
 * RUN good
 * RUN good FULL DROP
 * RUN good live FULL
 * RUN broken BROKEN_LEAVE_LOOK
 * RUN broken BROKEN_LEAVE_FENCE
 * RUN broken BROKEN_SLEEP_LOOK
 * RUN broken BROKEN_SLEEP_FENCE
 * RUN broken BROKEN_DELETER
 * RUN broken BROKEN_PUSH
 * RUN broken BROKEN_DRAIN
 * RUN broken BROKEN_WANTED FULL
 * RUN broken BROKEN_WANTED_LOOK FULL
 * RUN broken BROKEN_WANTED_FENCE FULL
 * RUN broken live BROKEN_SPIN FULL
 */
#define RECORDS 4 /* at most: one by the caller, one per id */
#ifdef FULL
#define CAP 1     /* records in the ring */
#define THREADS 2 /* deleters and caller */
#define PEER 1
#else
#define CAP RECORDS
#define THREADS 3
#define PEER 0
#endif
#ifdef DROP
#define ALL (BIT(THREADS - 1) - 1 + BIT(2)) /* ids: bits 0 and 1 are the deleters', bit 2 worker 0's */
#else
#define ALL (BIT(THREADS - 1) - 1)
#endif
#define BIT(i) (1 << (i))

byte list;              /* the ids that wait */
byte record[RECORDS + 1]; /* the ids that record i carries */
byte tail;              /* the last record published */
byte position[2];       /* records passed, by worker */
byte position_held;     /* worker 1's position in its store buffer, 0 = empty */
bool lock, unlock_held; /* unlock_held: the holder's unlock is in its store buffer */
bool asleep, asleep_held;
bool same, in;          /* the bell of the readers; worker 1 does without */
bool wanted;
byte released[2];       /* ghost */
byte ended;             /* ghost */

#define ROOM (tail < position[0] + CAP && tail < position[1] + CAP)

/* Is it worth another try? A full ring is not, once the mark stands. */
#ifdef BROKEN_WANTED_LOOK /* left out: the look at the room after the mark */
#define MAY_PUBLISH !wanted
#elif defined(BROKEN_WANTED)
#define MAY_PUBLISH ROOM
#elif defined(BROKEN_SPIN) /* left out: the look at the mark before another try */
#define MAY_PUBLISH true
#else
#define MAY_PUBLISH (ROOM || !wanted)
#endif

proctype memory() {
end:
  do
  :: d_step { unlock_held -> lock = 0; unlock_held = 0 }
  :: d_step { asleep_held -> asleep = 1; asleep_held = 0 }
  :: d_step { position_held -> position[1] = position_held; position_held = 0 }
  od
}

inline ring() {
  d_step { same = 0; in = 0 }
}

/* Append a record with all that is on the list. Under the lock. */
inline append() {
#ifdef BROKEN_DRAIN /* left out: the exchange, the list is read first and emptied later */
  record[tail + 1] = list;
  list = 0;
#else
  d_step { record[tail + 1] = list; list = 0 }
#endif
  d_step { assert(ROOM); tail++; sent = 1 }
}

/* Unlock; again = there is something to publish. */
inline leave(again) {
  unlock_held = 1;
  atomic {
#ifndef BROKEN_LEAVE_FENCE /* left out: the fence between the unlock and the looks */
    !unlock_held ->
#endif
    if
    :: asleep && sent -> ring()
    :: else
    fi;
    sent = 0;
#ifndef BROKEN_LEAVE_LOOK /* left out: the look at the list after the unlock */
    again = (asleep && list && MAY_PUBLISH)
#endif
  }
#ifdef BROKEN_LEAVE_FENCE
  !unlock_held /* at the latest when this thread tries the lock again */
#endif
}

inline try_publish(again) {
  do
  :: atomic { lock -> again = 0; break }
  :: atomic { !lock -> lock = 1; again = 0 }
    if
    :: list && ROOM -> append()
#ifndef BROKEN_WANTED /* left out: the mark of a publisher that finds no room */
    :: list && !ROOM -> wanted = 1
#endif
    :: else
    fi;
    leave(again);
    if
    :: again
    :: else -> break
    fi
  od
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
inline drop(i, again) {
  push(i);
#ifndef BROKEN_DELETER /* left out: the look at worker 0 after the push */
  if
  :: asleep -> try_publish(again)
  :: else
  fi
#endif
}

proctype deleter(byte i) {
  bool again, sent;
  byte saw;
  drop(i, again);
  ended++
}

proctype caller() {
  bool again, sent;
  atomic { !lock && ROOM -> lock = 1 } /* waits for room without the lock, then looks again under it */
  append();
  leave(again);
  if
  :: again -> try_publish(again)
  :: else
  fi;
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
  bool again, sent, dropped;
  byte saw;
  do
  :: tail > position[0] ->
    atomic {
      run_record(0, position[0] + 1);
      if
#ifdef DROP
      :: !dropped -> dropped = 1
#endif
      :: else -> goto passed
      fi
    };
    drop(2, again);
passed:
    position[0] = position[0] + 1
  :: else ->
    same = 1;
    asleep_held = 1;
#ifndef BROKEN_SLEEP_FENCE /* left out: the fence between asleep and the looks */
    !asleep_held;
#endif
#ifndef BROKEN_SLEEP_LOOK /* left out: the look at the list before sleeping */
    if
    :: list -> try_publish(again)
    :: else
    fi;
#endif
    if
    :: tail > position[0]
    :: else ->
      in = same;
end:
      !in
    fi;
    d_step { !asleep_held -> asleep = 0; same = 0 }
  od
}

proctype worker1() {
end:
  do
  :: tail > position[1] ->
    d_step { run_record(1, position[1] + 1); position_held = position[1] + 1 } /* the store may come any time later */
    if
#ifdef BROKEN_WANTED_FENCE /* left out: the fence between position and the look at the mark */
    :: wanted -> wanted = 0; ring()
    :: !wanted
#else
    :: !position_held && wanted -> wanted = 0; ring()
    :: !position_held && !wanted
#endif
    fi;
    !position_held
  od
}

/* When nothing moves any more. (Without FULL, worker 1 gets the same records.) */
proctype quiet() {
  timeout;
  assert(ended == THREADS && !list && released[0] == ALL && released[PEER] == ALL)
}

init {
  atomic {
    run memory(); run deleter(0); run caller(); run worker0();
#ifdef FULL
    run worker1();
#else
    run deleter(1);
    position[1] = RECORDS; /* nobody waits for worker 1 */
#endif
    run quiet()
  }
}
