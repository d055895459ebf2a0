/* The command ring with sleep and wake, in both directions. Three casts of one play:
 *   RING  1 or 2 callers that post, 2 or 3 readers
 *   DONE  readers with work to do, 2 controller threads that await any done number of any of them
 *   BOTH  a caller, 1 reader, 1 more controller thread: a wait for room and a wait for a done number meet at one reader
 *
 * FAULT: the fault word is set at any time, and reader 0 may never return from a command. FAIL: reader 0 may never
 * return, another reader fails. LONG: the last command never ends, one of the two awaits it.
 *
 * Forward (bell `door`, all readers sleep on it). Under the lock a caller claims a place among CAP, fills it and
 * stores tail. Then: unlock; fence; if door_asleep is set, take it back by an exchange and ring. Ring: count the
 * bell up, wake all. A reader with nothing to read: read the bell; door_asleep = 1; fence; look at tail and the
 * fault again; futex_wait(bell, value read); from the start. Nobody but a waker clears door_asleep, so it may be
 * set for nothing.
 *
 * Backward (bell `cbell`, all controller threads sleep on it). Each reader has two words, awaited_done and
 * awaited_position: the smallest number that somebody waits for. To wait: read the bell; lower the word; fence;
 * look at done or position and the guard words again; futex_wait; from the start. Reader: store position; store
 * done; fence; if one of the words is reached: clear both by exchanges and ring. After a failure ring in any case.
 * In this model record i has sequence i and position i.
 *
 * Fences. A store with a fence before the next load might as well be in memory at once, so the good model has no
 * store buffers. The variants without such a fence have one: the store waits in it until the process `memory` puts
 * it in memory, some time later. Where a fence follows a read-modify-write (awaited), which has no buffer, its
 * absence is modelled by the load moving up before it.
 *
 * A futex is two bits per sleeper. `same`: the bell still has the value that the sleeper read. `in`: it is inside
 * futex_wait. This is the counter (without its wrap at 2^32) in far fewer states.
 *
 * Claims: no deadlock, no livelock; every reader runs every record once, in order, whole; no record is overwritten
 * before all readers have passed it; a wait ends only when it is satisfied or a guard word is set; a failure ends
 * the waits for all workers; with a fault all end but a wedged reader.
 *
 * RUN good RING LAST=2 CAP=1
 * RUN good RING READERS=2 LAST=4
 * RUN good RING CALLERS=2 READERS=2 LAST=2 CAP=1
 * RUN good RING CALLERS=2 READERS=1 LAST=4
 * RUN good RING FAULT READERS=2
 * RUN good DONE READERS=1 LAST=4
 * RUN good DONE LONG READERS=1
 * RUN good DONE FAIL READERS=2 LAST=2
 * RUN good BOTH READERS=1 LAST=4
 * RUN good BOTH FAULT READERS=1
 * RUN good live RING READERS=2
 * RUN good live DONE READERS=1 LAST=4
 * RUN good live BOTH READERS=1
 * RUN broken BROKEN_TAIL_FENCE RING READERS=2
 * RUN broken BROKEN_ASLEEP_FENCE RING READERS=2
 * RUN broken BROKEN_ASLEEP_AGAIN RING READERS=2
 * RUN broken BROKEN_TAKE_LATE RING READERS=2
 * RUN broken BROKEN_BELL_LATE RING READERS=2
 * RUN broken BROKEN_BELL_BUMP RING READERS=2
 * RUN broken BROKEN_WAKE_ONE RING READERS=2
 * RUN broken BROKEN_PUBLISH RING READERS=2
 * RUN broken BROKEN_ROOM RING READERS=2
 * RUN broken BROKEN_FAULT_CHECK RING FAULT READERS=2
 * RUN broken BROKEN_DONE_FENCE DONE READERS=1
 * RUN broken BROKEN_AWAITED_FENCE DONE READERS=1
 * RUN broken BROKEN_AWAITED_CLEAR DONE READERS=1
 * RUN broken BROKEN_REARM DONE READERS=1
 * RUN broken BROKEN_FAIL_BELL DONE FAIL READERS=2 LAST=2
 * RUN broken BROKEN_AWAITED_MIN DONE LONG READERS=1
 * RUN broken BROKEN_AWAITED_ONE BOTH READERS=1
 * RUN broken BROKEN_FAULT_BELL BOTH FAULT READERS=1
 */
#ifndef READERS
#define READERS 3
#endif
#ifndef CALLERS
#define CALLERS 1
#endif
#ifndef CAP
#define CAP 2    /* records in the ring */
#endif
#ifndef LAST
#define LAST 3   /* the last record: shutdown */
#endif
#define NONE 255 /* awaited: nobody waits */
#define BIT(i) (1 << (i))

byte slot[CAP];
byte tail;                                     /* the last record published */
byte position[READERS], done_no[READERS];      /* the last record passed and finished, by reader */
byte awaited_position[READERS] = NONE, awaited_done[READERS] = NONE;
bool door_asleep;                              /* a reader sleeps, or is about to */
byte door_same, door_in;
byte cbell_same, cbell_in;
bool fault, failures;                          /* the guard words */
bool lock;
byte next_record = 1, minimum;                 /* under the lock: the next one; cached minimum of the readers */
byte passed[READERS];                          /* ghost: what a reader has really finished */
byte waiters_ended;                            /* ghost */

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

#if defined(BROKEN_TAIL_FENCE) || defined(BROKEN_DONE_FENCE) || defined(BROKEN_ASLEEP_FENCE)
/* Store buffers of one entry. 0: empty. */
byte tail_buf, done_buf[READERS], asleep_buf[READERS];

#define MEMORY
proctype memory(byte r) {
end:
  do
  :: d_step { tail_buf -> tail = tail_buf; tail_buf = 0 }
  :: d_step { done_buf[r] -> done_no[r] = done_buf[r]; done_buf[r] = 0 }
  :: d_step { asleep_buf[r] -> door_asleep = 1; asleep_buf[r] = 0 }
  od
}
#endif

/* Controller thread `who` (0 or 1) waits until a reader's word `upto` has reached n, or for a guard word. */
inline wait_for(upto, awaited, who, n) {
  do
  :: upto >= n || fault || failures -> break
  :: else -> /* arm: read the bell, lower awaited, look again */
    cbell_same = cbell_same | BIT(who);
#ifdef BROKEN_AWAITED_FENCE /* left out: the fence after lowering awaited, so the look moves up */
    early = (upto >= n || GUARD);
#endif
    d_step {
      if
#ifdef BROKEN_AWAITED_MIN /* left out: the minimum, the last to arm wins */
      :: awaited != n -> awaited = n
#else
      :: awaited > n -> awaited = n
#endif
      :: else
      fi
    }
    if
#ifdef BROKEN_AWAITED_FENCE
    :: early -> cbell_same = cbell_same & ~BIT(who)
#else
    :: upto >= n || GUARD -> cbell_same = cbell_same & ~BIT(who)
#endif
    :: else ->
      futex_enter(cbell_same, cbell_in, who);
      !(cbell_in & BIT(who));
#ifdef BROKEN_REARM /* left out: arming again, a woken thread that is not satisfied sleeps on */
      do
      :: upto >= n || GUARD -> break
      :: else ->
        cbell_same = cbell_same | BIT(who);
        if
        :: upto >= n || GUARD
        :: else -> futex_enter(cbell_same, cbell_in, who); !(cbell_in & BIT(who))
        fi
      od
#endif
    fi
  od
}

#ifdef BROKEN_ROOM /* left out: one place is given out too early */
#define FULL (next_record > minimum + CAP + 1)
#else
#define FULL (next_record > minimum + CAP)
#endif

#ifndef DONE
proctype caller(byte who) {
  byte r, n; /* n: what all readers must have passed */
  bool early;
  do
  :: atomic { !lock -> lock = 1 }
    d_step { /* positions only grow: reading them in one step finds room no earlier */
      if
      :: FULL ->
        minimum = position[0];
        r = 1;
        do
        :: r == READERS -> break
        :: r < READERS && position[r] < minimum -> minimum = position[r]; r++
        :: else -> r++
        od;
        r = 0
      :: else
      fi
    }
    if
    :: next_record > LAST || fault -> lock = 0; break
    :: next_record <= LAST && !fault && FULL ->
      n = next_record - CAP;
      lock = 0;
      do
      :: r == READERS || fault -> break
      :: else -> wait_for(position[r], awaited_position[r], who, n); r++
      od;
      atomic { r = 0; n = 0 }
    :: else ->
#ifdef BROKEN_PUBLISH /* left out: the order, the record is published before it is whole */
      tail = next_record;
      slot[next_record % CAP] = next_record;
#else
      d_step {
        do
        :: r == READERS -> break
        :: else -> assert(next_record <= passed[r] + CAP); r++
        od;
        r = 0;
        slot[next_record % CAP] = next_record
      }
#ifdef BROKEN_TAIL_FENCE /* left out: the fence between tail and the look at door_asleep */
      d_step { !tail_buf -> tail_buf = next_record }
#else
      tail = next_record;
#endif
#endif
      d_step { next_record++; lock = 0 }
      if
      :: door_asleep ->
#ifdef BROKEN_TAKE_LATE /* left out: the order, the flag is taken back after the ring */
        ring_door();
        door_asleep = 0
#else
        atomic {
          if
          :: door_asleep -> door_asleep = 0
          :: else -> goto next_call
          fi
        };
        ring_door()
#endif
      :: else
      fi;
next_call:
      n = 0
    fi
  od
}
#endif

proctype reader(byte me) {
  byte next = 1;
  bool said;
  do
  :: fault -> goto ended
  :: !fault && tail >= next ->
#if defined(FAULT) || defined(FAIL)
    if
    :: me == 0 -> goto end_wedged /* a function that never returns */
    :: true
    fi;
#endif
#ifdef LONG
    if
    :: next == LAST -> goto end_wedged
    :: else
    fi;
#endif
#ifdef FAIL
    if
    :: me != 0 && next == 2 -> failures = 1
    :: else
    fi;
#endif
#ifndef DONE
    d_step { /* the command ends: the record, read in place, is still whole */
      assert(slot[next % CAP] == next);
      passed[me] = next;
      position[me] = next
    }
#endif
#ifdef BROKEN_DONE_FENCE /* left out: the fence between done and the look at awaited */
    d_step { !done_buf[me] -> done_buf[me] = next }
#elif !defined(RING)
    done_no[me] = next;
#endif
#if defined(FAIL) && !defined(BROKEN_FAIL_BELL) /* left out: the ring on a failure, which concerns all waits */
#define REACHED (next >= awaited_done[me] || next >= awaited_position[me] || (me != 0 && next == 2))
#elif defined(BROKEN_AWAITED_ONE) /* left out: the look at the second word */
#define REACHED (next >= awaited_done[me])
#else
#define REACHED (next >= awaited_done[me] || next >= awaited_position[me])
#endif
    if
    :: REACHED ->
#ifdef BROKEN_AWAITED_CLEAR /* left out: the order, awaited is cleared after the bell */
      ring_cbell();
      d_step { awaited_done[me] = NONE; awaited_position[me] = NONE }
#else
      awaited_done[me] = NONE; /* before the bell: who lowers it before this has read the old bell */
      awaited_position[me] = NONE;
      ring_cbell()
#endif
    :: !REACHED
    fi;
    if
    :: next == LAST -> goto ended
    :: else -> next++
    fi
  :: else ->
#ifndef BROKEN_BELL_LATE /* left out: the order, the bell is read after the last look */
    door_same = door_same | BIT(me);
#endif
#ifdef BROKEN_ASLEEP_FENCE /* left out: the fence between the flag and the look at tail */
    asleep_buf[me] = 1;
#elif defined(BROKEN_ASLEEP_AGAIN) /* left out: setting the flag again before every sleep */
    if
    :: !said -> door_asleep = 1; said = 1
    :: else
    fi;
#else
    door_asleep = 1;
#endif
    if
    :: tail >= next || GUARD -> door_same = door_same & ~BIT(me)
    :: else ->
#ifdef BROKEN_BELL_LATE
      door_same = door_same | BIT(me);
#endif
      futex_enter(door_same, door_in, me);
      !(door_in & BIT(me))
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
#ifdef LONG
  if
  :: who == 0 -> select(n : 1 .. LAST - 1)
  :: who == 1 -> n = LAST
  fi;
#else
  select(n : 1 .. LAST);
#endif
  wait_for(done_no[w], awaited_done[w], who, n);
  assert(done_no[w] >= n || fault || failures);
  waiters_ended++
}
#endif

#if defined(FAULT) || defined(FAIL) || defined(LONG)
/* The monitor that sees a death, or a shutdown whose grace ran out. */
proctype monitor() {
#ifdef FAIL
  waiters_ended == 2; /* the failure alone must have ended the waits */
#endif
#ifdef LONG
  waiters_ended == 1; /* its number is done: it must not wait for the other's */
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
#if defined(FAULT) || defined(FAIL) || defined(LONG)
    run monitor();
#endif
#ifdef DONE
    tail = LAST;
    run waiter(0);
#else
    run caller(0);
#endif
#if CALLERS == 2
    run caller(1);
#endif
#ifndef RING
    run waiter(1);
#endif
#ifdef MEMORY
    run memory(0);
#if READERS > 1
    run memory(1);
#endif
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
