/* Entering and leaving collectives: the ranks of one communicator, up to four commands, each an operation, a call
 * without one, or the resume record. src/ccl/comm.c is the code; small.c and large.c use it.
 *
 * A rank's entry line has a key: the epoch's low bits, the operation's number in the epoch (the counter), a hash of
 * what it is. With two ranks the pair of lines swaps roles at every operation, with more each has one line by parity.
 *   begin   first of an epoch: wait until all have passed the resume record; counter 0; wipe the own lines.
 *           If the last operation did not wait for all entries: wait until all show it
 *   post    print = the full epoch; payload; key; fence; look at the marks of all: at one of this epoch and of this
 *           operation or before, or of a later epoch, give up
 *   meet    wait for the key of one or all. A different hash: give up. In the first two of an epoch it counts only if
 *           the print shows the full epoch and the key is still the same after that
 *   move    between the tensors: look at the marks between pieces; finished = counter + 1
 *   settle  whose tensor others touch: wait until they have finished
 *   give up mark = counter, then epoch; fence; whose tensor others may touch waits for those members whose entry is
 *           there, until each has finished, marked, ended the command, or is confirmed dead. After that every later
 *           operation of the epoch fails at once
 * A wait that is not satisfied gives up when it sees such a mark, a failure at an earlier command of the epoch, or that
 * the one awaited is dead, failed, in a later epoch, or has ended this command. It may time out. The wait in giving up
 * does none of this.
 *
 * Trouble, TROUBLES at most, at any time: a rank raises before it enters, after it has left, or in a call without an
 * operation; calls something else; times out; with DEATH dies, which is confirmed later; with SKIP_CALL ends a command
 * without calling what the others call; with OUTSIDER a worker fails that is no member. SWALLOW: the function may go on
 * after its collective failed, so the command ends well. The resume record comes in any case, while some may still be
 * in a command before it.
 *
 * All epochs have the same low bits here, and but for SKIP_CALL all commands the same hash: the worst case. Marks are
 * one step with their count, which only saves looking at them: "there is no news" is forgotten when a mark of a later
 * operation stands. Meeting, moving and finishing are one step, at any time after the meeting: the ghost `needs` tells
 * whether a line is still needed. Who steps over a command is one step with its start: that it may run although
 * somebody has failed stands for a failure after its look. With FINE, print, payload and key are stored, and read, one
 * by one. Staging buffers, and the bells of those who sleep (doorbell.pml), are not here.
 *
 * Claims: nobody stores into, or reads, a tensor whose living owner has left the operation; every living rank ends all
 * commands; what is read is the payload of that rank for this operation in this command; no line is written while a
 * member still needs what was in it; who gives up has a reason, which is trouble at this command or before and since
 * the last resume record (or a peer already in the next epoch): so what some have completed is not spoilt by what comes
 * later, and after the resume record all works again.
 *
 * Larger ones than these were run once: P=4 DEATH K1=ANY K2=ANY; P=4 K1=ANY K2=RESUME K3=ANY; P=3 DEATH TROUBLES=2 with
 * K1=ANY K2=ANY, and with a resume record between (7, 4, 6 and 8 million states, 1.1 GB at most).
 *
 * RUN good P=4 DEATH K1=ROOT K2=LARGE
 * RUN good P=4 K1=DIRECT K2=SMALL
 * RUN good P=4 K1=ANY K2=RESUME K3=DIRECT
 * RUN good P=4 TROUBLES=0 K1=SMALL K2=SMALL K3=SMALL
 * RUN good P=3 K1=ROOT K2=SMALL K3=ANY
 * RUN good P=3 DEATH TROUBLES=2 K1=DIRECT K2=RESUME K3=LARGE
 * RUN good P=3 DEATH SWALLOW K1=DIRECT K2=ANY
 * RUN good P=3 SKIP_CALL K1=ANY K2=ANY
 * RUN good P=3 OUTSIDER K1=CALL K2=SMALL K3=LARGE
 * RUN good P=3 FINE DEATH K1=ALL K2=RESUME K3=ALL
 * RUN good P=2 TROUBLES=2 K1=ANY K2=ANY K3=RESUME K4=ANY
 * RUN good P=2 DEATH SKIP_CALL SWALLOW K1=ANY K2=ANY K3=ANY
 * RUN broken BROKEN_LEAVE_AT_ONCE P=3 K1=DIRECT
 * RUN broken BROKEN_WAIT_ABSENT P=3 K1=DIRECT
 * RUN broken BROKEN_SETTLE P=3 K1=COPY
 * RUN broken BROKEN_ENTRY_FENCE P=3 K1=DIRECT
 * RUN broken BROKEN_ABORT_FENCE P=3 K1=DIRECT
 * RUN broken BROKEN_GUARD P=3 K1=ANY
 * RUN broken BROKEN_WENT_PAST P=3 SKIP_CALL K1=ANY
 * RUN broken BROKEN_HASH_COMMAND P=3 SKIP_CALL K1=ANY K2=ANY
 * RUN broken BROKEN_CATCH_UP P=4 K1=ROOT K2=ROOT K3=ROOT
 * RUN broken BROKEN_OWN_LINE P=2 K1=COPY K2=ANY
 * RUN broken BROKEN_MARK_COUNTER P=3 K1=ANY K2=ANY
 * RUN broken BROKEN_MARK_EPOCH P=3 K1=ANY K2=RESUME K3=ANY
 * RUN broken BROKEN_MARK_SEEN P=3 K1=SMALL K2=LARGE
 * RUN broken BROKEN_MARK_LATER P=3 TROUBLES=2 K1=LARGE K2=RESUME K3=ANY
 * RUN broken BROKEN_EPOCH_WAIT P=3 K1=ANY K2=RESUME K3=ANY
 * RUN broken BROKEN_FULL_EPOCH P=3 K1=ANY K2=RESUME K3=ANY
 * RUN broken BROKEN_KEY_AGAIN P=3 FINE K1=ALL K2=RESUME K3=ALL
 * RUN broken BROKEN_WIPE_KEY P=3 FINE K1=ALL K2=RESUME K3=ALL
 * RUN broken BROKEN_WIPE_FINISHED P=3 K1=LARGE K2=RESUME K3=LARGE
 */
#ifndef P
#define P 3
#endif
#ifndef TROUBLES
#define TROUBLES 1
#endif

/* What a command does. */
#define NOTHING 0 /* there is no such command */
#define CALL 1    /* a function without a collective */
#define RESUME 2
#define ALL 3     /* small allreduce: all give, all read */
#define ROOT 4    /* small broadcast: the root waits for nobody, the others for the root */
#define GATHER 5  /* small gather: the root waits for all, the others for nobody */
#define DIRECT 6  /* allreduce between the tensors: all store into all */
#define COPY 7    /* broadcast between the tensors: all read the root's, only the root waits until they have finished */
#define SMALL 8   /* any of ALL, ROOT, GATHER */
#define LARGE 9   /* any of DIRECT, COPY */
#define ANY 10

#ifndef K1
#define K1 NOTHING
#endif
#ifndef K2
#define K2 NOTHING
#endif
#ifndef K3
#define K3 NOTHING
#endif
#ifndef K4
#define K4 NOTHING
#endif

#if K2 == RESUME
#define RS 2 /* the sequence of the resume record */
#elif K3 == RESUME
#define RS 3
#else
#define RS 6
#endif
#if K4 != NOTHING
#define LAST 4
#elif K3 != NOTHING
#define LAST 3
#elif K2 != NOTHING
#define LAST 2
#else
#define LAST 1
#endif

byte kind[5]; /* of each command */

/* The lines. Counters count from 0 in each epoch; c is the reader's. */
#if P == 2 /* the pair swaps roles at every operation */
#define LINE(m, c) (((c) & 1) ^ (m))
#else
#define LINE(m, c) ((m) * 2 + ((c) & 1))
#endif
byte key[2 * P];      /* (counter + 1) * 16 + what it is; 0: wiped. The low bits of all epochs are the same here */
byte payload[2 * P];  /* whose, for which operation */
byte finished[2 * P]; /* counter + 1 */
byte print[2 * P];    /* the full epoch; by rank and parity, with two ranks, too */
byte abort_epoch[P], abort_counter[P];
#ifdef BROKEN_MARK_SEEN /* left out: forgetting that there is no news, while a mark of a later operation stands */
bool blind[P];
#endif
/* The status lines. */
byte epoch[P] = 1;    /* 2 after the resume record */
byte failed[P], done_no[P];
bool dead[P];         /* confirmed */

#ifdef OUTSIDER
byte outside;         /* the command at which a worker failed that is no member */
#endif

bool gone[P];         /* dead, in truth */
byte troubles;        /* that have struck */
byte exposed[P];      /* ghost: the operation that may touch this rank's tensor */
byte needs[P];        /* ghost: lines of this operation and later ones, of its epoch */
byte struck;          /* ghost: bits of the commands with trouble */
bool killed;          /* ghost */

#if P == 2
#define EVERY(test) (test(0) && test(1))
#define SOME(test) (test(0) || test(1))
#define FIRST_NOT(yes, test) (!yes(0) -> test(0) : test(1))
#elif P == 3
#define EVERY(test) (test(0) && test(1) && test(2))
#define SOME(test) (test(0) || test(1) || test(2))
#define FIRST_NOT(yes, test) (!yes(0) -> test(0) : (!yes(1) -> test(1) : test(2)))
#else
#define EVERY(test) (test(0) && test(1) && test(2) && test(3))
#define SOME(test) (test(0) || test(1) || test(2) || test(3))
#define FIRST_NOT(yes, test) (!yes(0) -> test(0) : (!yes(1) -> test(1) : (!yes(2) -> test(2) : test(3))))
#endif
#define BIT(i) (1 << (i))

#define RESUMED (epoch[me] == 1 -> 0 : RS)
#define OPERATION(c) (s * 4 + (c)) /* a number for the ghosts */
#define PAYLOAD(m, c) (OPERATION(c) * 4 + (m))

/* Is m in operation c? */
#ifdef BROKEN_FULL_EPOCH /* left out: the look at the full epoch */
#define SAME_EPOCH(m, c) true
#else
#define SAME_EPOCH(m, c) ((c) > 1 || print[(m) * 2 + ((c) & 1)] == at)
#endif
#define PRESENT(m, c) (key[LINE(m, c)] >> 4 == (c) + 1 && SAME_EPOCH(m, c))
#define HERE(m) (key[LINE(m, c)] == mine && SAME_EPOCH(m, c))
#define HERE_TOO(m) (m == me || HERE(m))
#define OTHER(m) (m != me && PRESENT(m, c) && !HERE(m))
#define SHOWED(m) (m == me || (key[LINE(m, c - 1)] == mine && SAME_EPOCH(m, c - 1)))
#define SHOWED_OTHER(m) (m != me && PRESENT(m, c - 1) && !SHOWED(m))
#define HAS_FINISHED(m) (m == me || finished[LINE(m, c)] > c)

/* What may end a wait. */
#define FAILED(m) (failed[m] > RESUMED)
#define LATER(m) (epoch[m] > epoch[me])
#define DONE(m) (done_no[m] >= s)
#define EARLIER(m) (FAILED(m) && failed[m] < s)
#define SKIPPED(m) (EARLIER(m) && !LATER(m))
#ifdef BROKEN_GUARD /* left out: the look at those that will not come */
#define GONE(m) false
#elif defined(BROKEN_WENT_PAST) /* left out: the look at those that have ended the command */
#define GONE(m) (dead[m] || LATER(m) || FAILED(m))
#else
#define GONE(m) (dead[m] || LATER(m) || FAILED(m) || DONE(m))
#endif
#define GONE_AWAY(m) (m != me && GONE(m) && !HERE(m))
#define GONE_UNSHOWN(m) (m != me && GONE(m) && !SHOWED(m))
#define PASSED(m) (m == me || done_no[m] >= RESUMED)
#define DEAD_BEFORE(m) (dead[m] && !PASSED(m))
#ifdef BROKEN_MARK_EPOCH /* left out: the epoch of a mark */
#define MARKED(m) (m != me && abort_epoch[m] && abort_counter[m] <= c)
#elif defined(BROKEN_MARK_COUNTER) /* left out: the operation of a mark */
#define MARKED(m) (m != me && abort_epoch[m] >= at)
#elif defined(BROKEN_MARK_LATER) /* left out: marks of later epochs, which took the place of an earlier one */
#define MARKED(m) (m != me && abort_epoch[m] == at && abort_counter[m] <= c)
#else
#define MARKED(m) (m != me && (abort_epoch[m] > at || (abort_epoch[m] == at && abort_counter[m] <= c)))
#endif
#define MARKED_AHEAD(m) (m != me && abort_epoch[m] == at && abort_counter[m] > c)
#ifdef BROKEN_MARK_SEEN
#define ABORTED (!blind[me] && SOME(MARKED))
#else
#define ABORTED SOME(MARKED)
#endif
#ifdef OUTSIDER
#define OUTSIDE_FAILED (outside > RESUMED && outside < s)
#else
#define OUTSIDE_FAILED false
#endif
#define SOME_EARLIER (SOME(EARLIER) || OUTSIDE_FAILED)
#define OVER (ABORTED || SOME(SKIPPED) || OUTSIDE_FAILED)

/* It can touch nothing of ours any more. */
#ifdef BROKEN_WAIT_ABSENT /* left out: the look who has come at all */
#define HAS_LEFT(m) (m == me || finished[LINE(m, c)] > c || abort_epoch[m] == at || dead[m])
#else
#define HAS_LEFT(m) (m == me || !HERE(m) || finished[LINE(m, c)] > c || abort_epoch[m] == at || dead[m] || DONE(m))
#endif
#define STAYS(m) (HAS_LEFT(m) -> 0 : BIT(m))
#if P == 2
#define STAYING (STAYS(0) + STAYS(1))
#elif P == 3
#define STAYING (STAYS(0) + STAYS(1) + STAYS(2))
#else
#define STAYING (STAYS(0) + STAYS(1) + STAYS(2) + STAYS(3))
#endif

/* Ranks other than the root differ by their numbers only: the n-th trouble strikes one of the first n + 1. */
#define MAY_STRIKE (troubles < TROUBLES && me <= troubles + 1)

/* Who gives up has a reason: trouble at this command or before, since the last resume record. */
#define HAD_REASON \
  (killed || (struck & (BIT(s + 1) - 1) & ~(BIT(RESUMED + 1) - 1)) || (epoch[me] == 1 && struck >> (RS + 1)))
#define NEEDS_NOT(m) (m == me || gone[m] || needs[m] + 2 > c)
#define ALL_ENDED 9
#define MAY_TOUCH(m) (m == me || gone[m] || exposed[m] == OPERATION(c) + 1)
#define GAVE(m) (m == me || payload[LINE(m, c)] == PAYLOAD(m, c))

#if defined(SKIP_CALL) && !defined(BROKEN_HASH_COMMAND) /* left out: the command's number in the hash */
#define MAKE_KEY ((c + 1) * 16 + 1 + differs + 2 * s)
#else
#define MAKE_KEY ((c + 1) * 16 + 1 + differs)
#endif

#ifdef FINE
#define SPLIT }; atomic {
#else
#define SPLIT
#endif

inline strike() {
  d_step { troubles++; struck = struck | BIT(s) }
}

inline wipe() {
#if P == 2
#ifndef BROKEN_WIPE_KEY /* left out: wiping the keys */
  key[me] = 0;
#endif
#ifndef BROKEN_WIPE_FINISHED /* left out: wiping the flags */
  finished[me] = 0
#endif
#else
#ifndef BROKEN_WIPE_KEY
  key[me * 2] = 0; key[me * 2 + 1] = 0;
#endif
#ifndef BROKEN_WIPE_FINISHED
  finished[me * 2] = 0; finished[me * 2 + 1] = 0
#endif
#endif
}

inline write_entry() {
  payload[LINE(me, c)] = PAYLOAD(me, c);
  if
  :: kind[s] == DIRECT || (kind[s] == COPY && me == 0) -> exposed[me] = OPERATION(c) + 1
  :: else
  fi;
  key[LINE(me, c)] = mine
}

/* The command ends. */
inline end_command(fails) {
  if
  :: fails && !FAILED(me) -> failed[me] = s
  :: else
  fi;
  done_no[me] = s;
  exposed[me] = 0; differs = 0; staying = 0
}

proctype rank(byte me) {
  byte s, c, at = 1; /* the command; operations ended; the epoch of the communicator */
  byte mine;         /* the key of this operation, or of the last one */
  byte staying;      /* members that may still touch our tensor */
  bool behind, aborted, skips, differs; /* behind: not all have shown the last operation yet */
#ifdef BROKEN_ENTRY_FENCE
  bool early;
#endif
#ifdef FINE
  byte m, seen;
#endif
{
next:
  do
  :: s == LAST -> goto ended
  :: atomic { s < LAST ->
       s++;
       if
       :: kind[s] == RESUME -> epoch[me] = 2; skips = 0; needs[me] = 0; done_no[me] = s; goto next
       :: kind[s] != RESUME && (skips || FAILED(me) || SOME_EARLIER) ->
         skips = 1; needs[me] = ALL_ENDED; done_no[me] = s;
         goto next
       :: kind[s] == CALL -> done_no[me] = s; goto next
       :: kind[s] != RESUME && MAY_STRIKE -> strike(); needs[me] = ALL_ENDED; end_command(true); goto next /* raises */
#ifdef SKIP_CALL
       :: kind[s] > RESUME && MAY_STRIKE -> strike(); end_command(false); goto next
#endif
       :: kind[s] > RESUME && !skips && !FAILED(me) -> /* even if somebody has failed since it looked */
         if
         :: true
         :: MAY_STRIKE -> strike(); differs = 1
         fi
       fi;
       if
       :: at != epoch[me] ->
         d_step { at = epoch[me]; c = 0; behind = 0; aborted = 0; mine = 0 }
         if
#ifdef BROKEN_EPOCH_WAIT /* left out: waiting until all have passed the resume record */
         :: true
#else
         :: EVERY(PASSED)
         :: !EVERY(PASSED) && (OVER || SOME(DEAD_BEFORE)) -> goto give_up
         :: !EVERY(PASSED) && MAY_STRIKE -> strike(); goto give_up
#endif
         fi
       :: at == epoch[me] && aborted -> end_command(true); goto next
       :: else
       fi;
       d_step {
         if
         :: mine == 0 -> wipe()
         :: else
         fi
       };
       SPLIT
       if
#ifdef BROKEN_CATCH_UP /* left out: waiting until all have shown the last operation */
       :: true
#else
       :: !behind || EVERY(SHOWED)
       :: behind && !EVERY(SHOWED) && FIRST_NOT(SHOWED, SHOWED_OTHER) -> goto give_up
       :: behind && !EVERY(SHOWED) && (OVER || SOME(GONE_UNSHOWN)) -> goto give_up
       :: behind && !EVERY(SHOWED) && MAY_STRIKE -> strike(); goto give_up
#endif
       fi;
       d_step {
#ifndef BROKEN_CATCH_UP
         if
         :: behind -> needs[me] = c; behind = 0
         :: else
         fi;
#endif
#if P == 2
         assert(c == 0 || needs[me] >= c); /* it was the other's line, and is read */
#else
         assert(c < 2 || EVERY(NEEDS_NOT));
#endif
         mine = MAKE_KEY;
         print[me * 2 + (c & 1)] = at
       };
       SPLIT
#ifdef BROKEN_ENTRY_FENCE /* left out: the fence between the entry and the look at the marks, so the look moves up */
       early = ABORTED
     };
     atomic {
#endif
       write_entry()
     };
     atomic {
       if
#ifdef BROKEN_ENTRY_FENCE
       :: early -> early = 0; goto give_up
#else
       :: ABORTED -> goto give_up
#endif
       :: else
#ifdef BROKEN_MARK_SEEN
         ;
         if
         :: SOME(MARKED_AHEAD) -> blind[me] = 1
         :: else
         fi
#endif
       fi;
       if
       :: (kind[s] == ROOT && me == 0) || (kind[s] == GATHER && me != 0) ->
         behind = 1; c++; end_command(false);
         goto next
       :: else
       fi
     };
#ifdef FINE /* one word at a time: key, epoch, key again */
     do
     :: m == P -> break
     :: m == me -> m++
     :: atomic { m != me && m < P && key[LINE(m, c)] >> 4 == c + 1 -> seen = key[LINE(m, c)] };
       if
       :: print[m * 2 + (c & 1)] == at ->
         atomic {
           if
#ifndef BROKEN_KEY_AGAIN /* left out: the second look at the key */
           :: key[LINE(m, c)] != seen
#endif
           :: else ->
             if
             :: seen == mine -> m++
             :: else -> m = 0; seen = 0; goto give_up
             fi
           fi;
           seen = 0
         }
       :: else -> seen = 0
       fi
     :: atomic { m != me && m < P && (OVER || SOME(GONE_AWAY)) && !EVERY(HERE_TOO) -> m = 0; goto give_up }
     od;
     atomic {
       m = 0;
       assert(EVERY(GAVE));
       needs[me] = c + 1; c++; end_command(false);
       goto next
     };
#endif
     atomic { /* meet, and move the data */
       if
       :: kind[s] == ROOT ->
         if
         :: HERE(0) -> assert(GAVE(0)); behind = 1; c++; end_command(false); goto next
         :: OTHER(0) -> goto give_up
         :: !HERE(0) && (OVER || GONE_AWAY(0)) -> goto give_up
         :: !HERE(0) && MAY_STRIKE -> strike(); goto give_up
         fi
       :: else ->
         if
         :: EVERY(HERE_TOO) -> assert(EVERY(GAVE)); needs[me] = c + 1
         :: !EVERY(HERE_TOO) && FIRST_NOT(HERE_TOO, OTHER) -> goto give_up
         :: !EVERY(HERE_TOO) && (OVER || SOME(GONE_AWAY)) -> goto give_up
         :: !EVERY(HERE_TOO) && MAY_STRIKE -> strike(); goto give_up
         :: kind[s] >= DIRECT && ABORTED -> goto give_up /* seen between two pieces */
         fi
       fi;
       if
       :: kind[s] < DIRECT -> c++; end_command(false); goto next
       :: kind[s] == DIRECT -> assert(EVERY(MAY_TOUCH))
       :: kind[s] == COPY && me != 0 -> assert(MAY_TOUCH(0))
       :: kind[s] == COPY && me == 0
#ifdef BROKEN_OWN_LINE /* left out: a copy of one's own addresses, so they are read where they were given */
         ;
         assert(payload[LINE(me, c)] == PAYLOAD(me, c))
#endif
       fi;
       finished[LINE(me, c)] = c + 1;
       if
       :: kind[s] == COPY && me != 0 -> c++; end_command(false); goto next
       :: else
       fi
     };
     atomic { /* settle */
       if
#ifdef BROKEN_SETTLE /* left out: waiting until all have finished */
       :: true
#else
       :: EVERY(HAS_FINISHED)
       :: !EVERY(HAS_FINISHED) && (OVER || FIRST_NOT(HAS_FINISHED, GONE)) -> goto give_up
       :: !EVERY(HAS_FINISHED) && MAY_STRIKE -> strike(); goto give_up
#endif
       fi;
       c++;
       if
       :: true -> end_command(false)
       :: MAY_STRIKE -> strike(); needs[me] = ALL_ENDED; end_command(true) /* raises after it has left */
       fi;
       goto next
     };
give_up:
#ifdef BROKEN_ABORT_FENCE /* left out: the fence between the mark and the look at the entries, so the look moves up */
     staying = (exposed[me] -> STAYING : 0);
#endif
     atomic {
       assert(HAD_REASON);
       abort_counter[me] = c;
       abort_epoch[me] = at;
       aborted = 1;
       needs[me] = ALL_ENDED;
#ifdef BROKEN_MARK_SEEN
       d_step { blind[0] = 0; blind[1] = 0; if :: P > 2 -> blind[2] = 0 :: else fi }
#endif
#ifndef BROKEN_ABORT_FENCE
       staying = (exposed[me] -> STAYING : 0)
#endif
     };
     atomic {
#ifndef BROKEN_LEAVE_AT_ONCE /* left out: waiting until nobody can touch our tensor */
       !(staying & STAYING) ->
#endif
       if
       :: true -> end_command(true)
#ifdef SWALLOW
       :: true -> end_command(false) /* the function goes on */
#endif
       fi
     }
  od
} unless { gone[me] };
ended:
  skip
}

#ifdef DEATH
/* For the survivors it is a failure at the command that it did not finish. */
inline confirm(i) {
  dead[i] = 1;
  if
  :: failed[i] <= done_no[i] -> failed[i] = done_no[i] + 1
  :: else
  fi
}

proctype killer() {
  byte v;
end:
  do
  :: atomic { troubles < TROUBLES ->
       troubles++; killed = 1;
       if
       :: v = 0
       :: v = 1
       :: troubles > 1 && P > 2 -> v = 2
       fi;
       gone[v] = 1;
       v = 0
     }
  :: d_step { gone[0] && !dead[0] -> confirm(0) }
  :: d_step { gone[1] && !dead[1] -> confirm(1) }
#if P > 2
  :: d_step { gone[2] && !dead[2] -> confirm(2) }
#endif
  od
}
#endif

#ifdef OUTSIDER
proctype outsider() {
end:
  atomic { troubles < TROUBLES -> troubles++; struck = struck | BIT(1); outside = 1 }
}
#endif

#define CHOOSE(n, k) \
  if \
  :: k < SMALL -> kind[n] = k \
  :: k == SMALL || k == ANY -> kind[n] = ALL \
  :: k == SMALL || k == ANY -> kind[n] = ROOT \
  :: k == SMALL || k == ANY -> kind[n] = GATHER \
  :: k == LARGE || k == ANY -> kind[n] = DIRECT \
  :: k == LARGE || k == ANY -> kind[n] = COPY \
  fi

init {
  atomic {
    CHOOSE(1, K1); CHOOSE(2, K2); CHOOSE(3, K3); CHOOSE(4, K4);
#ifdef DEATH
    run killer();
#endif
#ifdef OUTSIDER
    run outsider();
#endif
    run rank(0); run rank(1);
#if P > 2
    run rank(2);
#endif
#if P > 3
    run rank(3)
#endif
  }
}
