/* The command ring with sleep and wake, in both directions. Three casts of one play:
 *   RING  a writer and 3 readers
 *   DONE  readers with work to do, 2 controller threads that await any done number of any of them
 *   BOTH  a writer, 1 reader, 1 more controller thread: a wait for room and a wait for a done number meet at one reader
 *
 * Forward: the writer publishes records in a ring of CAP places: store tail; fence; if there are sleepers: count the
 * bell up and wake all. A reader with nothing to read: read the bell; sleepers++; fence; look at tail and the guard
 * words again; futex_wait(bell, value read); sleepers--.
 *
 * Backward: the writer waits for room, another controller thread for a done number. Each reader has one word
 * awaited[], the smallest number somebody waits for; controller threads share one bell. To wait: read the bell; lower
 * awaited[w]; fence; look at done[w] and the guard words again; futex_wait; from the start. Reader: store done; fence;
 * if done >= awaited: clear awaited by an exchange, count the bell up and wake all. In this model record i has
 * sequence i, so that the done number is the ring position too.
 *
 * Store buffers. A store of tail or done goes to a buffer of one entry; the process `memory` empties it in its own
 * time. A fence is "my buffer is empty" as the guard of the next load. Where a fence follows a read-modify-write
 * (sleepers, awaited), which has no buffer, its absence is modelled by the load moving up before it.
 *
 * A futex is two bits per sleeper. `same`: the bell still has the value that the sleeper read. `in`: it is inside
 * futex_wait. This is the counter (without its wrap at 2^32) in far fewer states.
 *
 * Claims: no deadlock, no livelock; every reader runs every record once, in order, whole; no record is overwritten
 * before all readers have passed it; a wait ends only when it is satisfied or a guard word is set; a failure ends
 * the waits for all workers; with a fault all end but a wedged reader.
 *
 * RUN good RING
 * RUN good RING FAULT READERS=2 LAST=4
 * RUN good DONE READERS=1 LAST=4
 * RUN good DONE FAIL READERS=2 LAST=2
 * RUN good BOTH READERS=1 LAST=5
 * RUN good BOTH FAULT READERS=1 LAST=4
 * RUN good live RING READERS=2
 * RUN good live DONE READERS=1 LAST=4
 * RUN good live BOTH READERS=1
 * RUN broken BROKEN_TAIL_FENCE RING
 * RUN broken BROKEN_SLEEPERS_FENCE RING
 * RUN broken BROKEN_BELL_LATE RING
 * RUN broken BROKEN_BELL_BUMP RING
 * RUN broken BROKEN_WAKE_ONE RING
 * RUN broken BROKEN_PUBLISH RING
 * RUN broken BROKEN_ROOM RING
 * RUN broken BROKEN_FAULT_CHECK RING FAULT READERS=2
 * RUN broken BROKEN_DONE_FENCE DONE READERS=1
 * RUN broken BROKEN_AWAITED_FENCE DONE READERS=1
 * RUN broken BROKEN_AWAITED_MIN BOTH READERS=1
 * RUN broken BROKEN_AWAITED_CLEAR DONE READERS=1
 * RUN broken BROKEN_REARM DONE READERS=1
 * RUN broken BROKEN_FAIL_BELL DONE FAIL READERS=2 LAST=2
 * RUN broken BROKEN_FAULT_BELL BOTH FAULT READERS=1
 */
#ifndef READERS
#define READERS 3
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef LAST
#define LAST 3
#endif
#define NONE 255 /* awaited: nobody waits */
#define BIT(i) (1 << (i))

byte slot[CAP];
byte tail, tail_buf;                   /* the last record published; in the store buffer, 0 = empty */
byte done_no[READERS], done_buf[READERS]; /* the last record finished, by reader */
byte awaited[READERS] = NONE;
byte sleepers;                         /* readers that sleep or are about to */
byte door_same, door_in;               /* the readers' doorbell */
byte cbell_same, cbell_in;             /* the controller threads' bell */
bool fault, failures;                  /* the guard words */
byte passed[READERS];                  /* ghost: what a reader has really finished */
byte waiters_ended;                    /* ghost */

#ifdef BROKEN_FAULT_CHECK /* left out: the look at the guard words between arming and sleeping */
#define GUARD false
#else
#define GUARD (fault || failures)
#endif

/* Count up, then wake. One step here: who comes in between is only woken for nothing. */
inline ring_door() {
  atomic {
#ifndef BROKEN_BELL_BUMP /* left out: the count, which tells a wake before the sleep */
    door_same = 0;
#endif
#ifdef BROKEN_WAKE_ONE /* left out: waking all, only one reader is woken */
    if
    :: door_in & BIT(0) -> door_in = door_in & ~BIT(0)
    :: !(door_in & BIT(0)) && (door_in & BIT(1)) -> door_in = door_in & ~BIT(1)
    :: else -> door_in = 0
    fi
#else
    door_in = 0
#endif
  }
}

inline ring_cbell() {
  d_step { cbell_same = 0; cbell_in = 0 }
}

/* futex_wait enters only while the bell has the value read before: one step of the kernel. */
inline futex_enter(same, in, who) {
  d_step {
    if
    :: same & BIT(who) -> in = in | BIT(who)
    :: else
    fi;
    same = same & ~BIT(who) /* not read again */
  }
}

proctype memory() {
end:
  do
  :: d_step { tail_buf -> tail = tail_buf; tail_buf = 0 }
  :: d_step { done_buf[0] -> done_no[0] = done_buf[0]; done_buf[0] = 0 }
#if READERS > 1
  :: d_step { done_buf[1] -> done_no[1] = done_buf[1]; done_buf[1] = 0 }
#endif
#if READERS > 2
  :: d_step { done_buf[2] -> done_no[2] = done_buf[2]; done_buf[2] = 0 }
#endif
  od
}

#define ENOUGH(w, n) (done_no[w] >= n)

/* Controller thread `who` (0 or 1) waits until reader w has finished record n, or for a guard word. */
inline wait_done(who, w, n) {
  do
  :: ENOUGH(w, n) || fault || failures -> break
  :: else -> /* arm: read the bell, lower awaited, look again */
    cbell_same = cbell_same | BIT(who);
#ifdef BROKEN_AWAITED_FENCE /* left out: the fence after lowering awaited, so the look moves up */
    early = (ENOUGH(w, n) || GUARD);
#endif
    d_step {
      if
#ifdef BROKEN_AWAITED_MIN /* left out: the minimum, the last to arm wins */
      :: awaited[w] != n -> awaited[w] = n
#else
      :: awaited[w] > n -> awaited[w] = n
#endif
      :: else
      fi
    }
    if
#ifdef BROKEN_AWAITED_FENCE
    :: early -> cbell_same = cbell_same & ~BIT(who)
#else
    :: ENOUGH(w, n) || GUARD -> cbell_same = cbell_same & ~BIT(who)
#endif
    :: else ->
      futex_enter(cbell_same, cbell_in, who);
      !(cbell_in & BIT(who));
#ifdef BROKEN_REARM /* left out: arming again, a woken thread that is not satisfied sleeps on */
      do
      :: ENOUGH(w, n) || GUARD -> break
      :: else ->
        cbell_same = cbell_same | BIT(who);
        if
        :: ENOUGH(w, n) || GUARD
        :: else -> futex_enter(cbell_same, cbell_in, who); !(cbell_in & BIT(who))
        fi
      od
#endif
    fi
  od
}

#ifndef DONE
proctype writer() {
  byte i = 1, r, floor; /* floor: the cached minimum of the readers */
  bool early;
  do
  :: i > LAST || fault -> break
  :: else ->
    if
#ifdef BROKEN_ROOM /* left out: one place is given out too early */
    :: i > floor + CAP + 1 ->
#else
    :: i > floor + CAP ->
#endif
      do
      :: r == READERS || fault -> break
      :: else -> wait_done(0, r, i - CAP); r++
      od;
      if
      :: fault -> break
      :: else -> floor = i - CAP; r = 0
      fi
    :: else
    fi;
#ifdef BROKEN_PUBLISH /* left out: the order, the record is published before it is whole */
    tail_buf = i;
    tail_buf == 0;
    slot[i % CAP] = i;
#else
    d_step {
      tail_buf == 0;
      r = 0;
      do
      :: r == READERS -> break
      :: else -> assert(i <= passed[r] + CAP); r++
      od;
      r = 0;
      slot[i % CAP] = i;
      tail_buf = i
    }
#endif
    if
#ifdef BROKEN_TAIL_FENCE /* left out: the fence between tail and the look at sleepers */
    :: sleepers -> ring_door()
    :: !sleepers
#else
    :: tail_buf == 0 && sleepers -> ring_door()
    :: tail_buf == 0 && !sleepers
#endif
    fi;
    i++
  od
}
#endif

proctype reader(byte me) {
  byte next = 1;
  bool early;
  do
  :: fault -> goto ended
  :: !fault && tail >= next ->
#if defined(FAULT) || defined(FAIL)
    if
    :: me == 0 -> goto end_wedged /* a function that never returns */
    :: true
    fi;
#endif
#ifdef FAIL
    if
    :: me != 0 && next == 2 ->
      failures = 1;
#ifndef BROKEN_FAIL_BELL /* left out: the ring on a failure, which concerns waits for other workers too */
      ring_cbell()
#endif
    :: else
    fi;
#endif
    d_step { /* the command ends: the record, read in place, is still whole */
      done_buf[me] == 0;
#ifndef DONE
      assert(slot[next % CAP] == next);
#endif
      passed[me] = next;
      done_buf[me] = next
    }
    if
#ifdef BROKEN_DONE_FENCE /* left out: the fence between done and the look at awaited */
    :: next >= awaited[me] ->
#else
    :: done_buf[me] == 0 && next >= awaited[me] ->
#endif
#ifdef BROKEN_AWAITED_CLEAR /* left out: the order, awaited is cleared after the bell */
      ring_cbell();
      awaited[me] = NONE
#else
      awaited[me] = NONE; /* an exchange, and before the bell: who lowers it before it has read the old bell */
      ring_cbell()
#endif
#ifdef BROKEN_DONE_FENCE
    :: next < awaited[me]
#else
    :: done_buf[me] == 0 && next < awaited[me]
#endif
    fi;
    if
    :: next == LAST -> goto ended
    :: else -> next++
    fi
  :: atomic { else ->
#ifndef BROKEN_BELL_LATE /* left out: the order, the bell is read after the last look */
       door_same = door_same | BIT(me)
#endif
     }
#ifdef BROKEN_SLEEPERS_FENCE /* left out: the fence after counting itself, so the look at tail moves up */
    early = (tail >= next || GUARD);
#endif
    sleepers++;
    if
#ifdef BROKEN_SLEEPERS_FENCE
    :: early ->
#else
    :: tail >= next || GUARD ->
#endif
      d_step { sleepers--; door_same = door_same & ~BIT(me) }
    :: else ->
#ifdef BROKEN_BELL_LATE
      door_same = door_same | BIT(me);
#endif
      futex_enter(door_same, door_in, me);
      d_step { !(door_in & BIT(me)) -> sleepers-- }
    fi
  od;
end_wedged:
  false;
ended:
  skip
}

#ifndef RING
proctype waiter(byte who) {
  byte w, n;
  bool early;
  select(w : 0 .. READERS - 1);
  select(n : 1 .. LAST);
  wait_done(who, w, n);
  assert(ENOUGH(w, n) || fault || failures);
  waiters_ended++
}
#endif

#if defined(FAULT) || defined(FAIL)
/* The monitor that sees a death, or a shutdown whose grace ran out. */
proctype monitor() {
#ifdef FAIL
  waiters_ended == 2; /* the failure alone must have ended the waits */
#endif
  fault = 1;
  ring_door();
#ifndef BROKEN_FAULT_BELL /* left out: the second bell on a fault */
  ring_cbell()
#endif
}
#endif

init {
  atomic {
    run memory();
#if defined(FAULT) || defined(FAIL)
    run monitor();
#endif
#ifdef DONE
    tail = LAST;
    run waiter(0);
#else
    run writer();
#endif
#ifndef RING
    run waiter(1);
#endif
    run reader(0);
#if READERS > 1
    run reader(1);
#endif
#if READERS > 2
    run reader(2);
#endif
  }
}
