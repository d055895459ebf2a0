/* Failures, the one that is told, and the resume record: 1 controller, 2 or 3 workers, shutdown.
 *
 * Worker. When a command fails, and it is the first since the worker's last resume record: fill the slot;
 * failed[w] = f; failure_count++; then done. (A second one before the next resume record only poisons its register.)
 * Before each command: compare the count with the one seen last. When it changed, and at every resume record, read all
 * failed numbers: first = the lowest after the last resume record. Between two resume records first never grows,
 * though failed numbers do: a peer far ahead may have failed again after a resume record that is still to come
 * here. Skip what comes after first and may be skipped.
 *
 * Controller. Each call, and each wait after it has read done, compares the count; the count is read before the
 * failed numbers. A failed number after the last resume record: tell the lowest, once, and append a resume record.
 * If the ring is full it is due in front of the next record, but its number is fixed here, so that what fails until
 * then is before it. A failed number before the last resume record is late: kept among the last errors if its slot
 * can be read, never told. All of it under the session lock. After shutdown one more look: what nobody was told
 * stays in last-error.
 *
 * The slot. One is enough for what is told: its worker fills it again only after passing a resume record that is
 * not in the ring yet. Read it before the lock is left. The slot of a late failure may be filled again during the
 * read, so it has a version, odd while it is filled. If that changed, or the text is of another sequence, the late
 * text is gone (the statistics count it); the new failure has a count of its own to come. Trying again is allowed but
 * not needed.
 *
 * What the model does not promise: a slow worker may run what its peers skipped, when the failed number was
 * replaced before it looked. Such commands are those "that only some workers ran".
 *
 * Sleep, wake and publishing are doorbell.pml's. Here records appear whole, stores are releases and loads acquires;
 * no pattern needs a fence, hence no store buffers.
 *
 * Claims: nothing is skipped unless an earlier command failed after the same resume record. Between the first
 * command a worker skips and its next resume record it runs none that may be skipped. A failure that is counted and
 * stands makes every later command skipped. No call is posted over a failure that was counted. What is told is the
 * lowest known, with its own text, once per epoch (the commands between two resume records); at the end each epoch
 * with a failure was told or is in last-error. A wait that ends well hides no failure. Shutdown is run by all.
 *
 * COARSE reads all failed numbers in one step. NAMES has commands that are never skipped. SLOT has slots, WAIT has
 * waits.
 *
 * RUN good POSTS=2 FAILS=2
 * RUN good COARSE POSTS=3 FAILS=2
 * RUN good NAMES WORKERS=2 POSTS=3 FAILS=3
 * RUN good SLOT WORKERS=2 POSTS=4 FAILS=3
 * RUN good WAIT WORKERS=2 POSTS=3 FAILS=3
 * RUN broken BROKEN_COUNT_ORDER WORKERS=2
 * RUN broken BROKEN_DONE_ORDER WAIT WORKERS=2
 * RUN broken BROKEN_WAIT_ORDER WAIT WORKERS=2
 * RUN broken BROKEN_SEEN_LATE WORKERS=2
 * RUN broken BROKEN_SKIP_ALL WORKERS=2
 * RUN broken BROKEN_SKIP_ON WORKERS=2
 * RUN broken BROKEN_RESUME_LOOK WORKERS=2 POSTS=4
 * RUN broken BROKEN_FORGET WORKERS=2 POSTS=4 FAILS=2
 * RUN broken BROKEN_FIRST_KEEPS NAMES WORKERS=2
 * RUN broken BROKEN_TELL_LATE WORKERS=2
 * RUN broken BROKEN_DUE WORKERS=2
 * RUN broken BROKEN_LOWEST WORKERS=2
 * RUN broken BROKEN_SLOT_VERSION SLOT WORKERS=2
 * RUN broken BROKEN_SLOT_TEXT SLOT WORKERS=2
 * RUN broken BROKEN_SLOT_LOCK SLOT WORKERS=2
 * RUN broken BROKEN_LAST_ERROR WORKERS=2
 */
#ifndef POSTS
#define POSTS 3 /* commands posted */
#endif
#ifndef FAILS
#define FAILS 3 /* failures in all */
#endif
#ifndef WORKERS
#define WORKERS 3
#endif
#define LAST (POSTS + FAILS + 1) /* highest sequence: commands, a resume record per failure at most, shutdown */
#define NONE 255

#define CALL 1   /* can be skipped, can fail */
#define NAME 2   /* as GetGlobalFunc: never skipped, can fail */
#define RESUME 3
#define STOP 4
#define BIT(i) (1 << (i))

byte stream[LAST + 1]; /* kinds, from 1 */
byte posted;           /* the last sequence in the ring */
byte failed[WORKERS];
byte failure_count;
byte done_no[WORKERS];
byte slot_a[WORKERS], slot_b[WORKERS]; /* two halves of a text: the sequence that it is about */
byte slot_version[WORKERS];

/* ghosts */
byte fails_left = FAILS;                   /* no ghost: the failures still to come */
byte truth[WORKERS], truth_epoch[WORKERS]; /* the last failure of each worker, before anybody can know it */
byte counted[WORKERS];                     /* the same, once it is counted */
byte earliest[FAILS + 1] = NONE;           /* by epoch: the lowest sequence that failed */
byte stopped;

/* the lowest of word[] after position p, or NONE */
#define AFTER(x, p) ((x) > (p) -> (x) : NONE)
#define MIN(x, y) ((x) < (y) -> (x) : (y))
#if WORKERS == 3
#define LOWEST(word, p) MIN(AFTER(word[0], p), MIN(AFTER(word[1], p), AFTER(word[2], p)))
#define STANDS(x) (failed[0] == (x) || failed[1] == (x) || failed[2] == (x))
#else
#define LOWEST(word, p) MIN(AFTER(word[0], p), AFTER(word[1], p))
#define STANDS(x) (failed[0] == (x) || failed[1] == (x))
#endif

/* Run or skip command s. One step unless it fails: the done number is read by waits only. */
inline run_command() {
  if
#ifdef BROKEN_SKIP_ALL /* left out: the order, commands before the failure are skipped too */
  :: stream[s] == CALL && first != NONE && s != first ->
#else
  :: stream[s] == CALL && s > first ->
#endif
    skipped = 1;
    assert(earliest[epoch] < s);
    done_no[me] = s
  :: else ->
    assert(stream[s] != CALL || (!skipped && (s <= known || !STANDS(known))));
    if
    :: done_no[me] = s
#ifdef BROKEN_FIRST_KEEPS /* left out: only the first failure of an epoch is stored */
    :: stream[s] != RESUME && fails_left ->
#else
    :: stream[s] != RESUME && fails_left && failed[me] <= resumed ->
#endif
      assert(s > truth[me]);
      fails_left--;
      truth[me] = s;
      truth_epoch[me] = epoch;
      earliest[epoch] = MIN(earliest[epoch], s);
      goto fails
    fi
  fi;
  known = 0
}

proctype worker(byte me) {
  byte s, resumed, cached, first = NONE; /* sequence; last resume record; count and lowest failed number seen */
  byte known;                            /* ghost: the lowest counted failure when it looked at the count */
  byte epoch;                            /* ghost: resume records passed */
  bool skipped;                          /* ghost: since the last one */
take:
  do
  :: atomic {
       posted > s ->
       s++;
       known = LOWEST(counted, resumed);
       if
       :: stream[s] == STOP -> break
       :: stream[s] == RESUME ->
         resumed = s;
         epoch++;
         skipped = 0;
#ifndef BROKEN_SKIP_ON /* left out: the end of skipping at a resume record */
         first = NONE;
#endif
#ifndef BROKEN_RESUME_LOOK /* left out: the look at a resume record when the count is the same */
         cached = failure_count;
         goto look
#endif
       :: else
       fi;
       if
       :: failure_count != cached -> cached = failure_count; goto look
       :: else
       fi;
       run_command()
     };
     goto take;
look:
#ifdef BROKEN_FORGET /* left out: the minimum with what was known */
     first = NONE;
#endif
#ifndef COARSE
     first = MIN(first, AFTER(failed[0], resumed));
#if WORKERS == 3
     first = MIN(first, AFTER(failed[1], resumed));
#endif
#endif
     atomic {
#ifdef COARSE
       first = MIN(first, LOWEST(failed, resumed));
#else
       first = MIN(first, AFTER(failed[WORKERS - 1], resumed));
#endif
       run_command()
     };
     goto take;
fails:
#ifdef SLOT
     atomic { known = 0; slot_version[me]++; slot_a[me] = s }
     d_step { slot_b[me] = s; slot_version[me]++ }
#else
     known = 0;
#endif
#ifdef BROKEN_DONE_ORDER /* left out: the order, done before the failure is counted */
     done_no[me] = s;
#endif
#ifdef BROKEN_COUNT_ORDER /* left out: the order, counted before the failed number stands there */
     d_step { failure_count++; counted[me] = s }
     failed[me] = s;
#else
     failed[me] = s;
     d_step { failure_count++; counted[me] = s }
#endif
     done_no[me] = s
  od;
  stopped++
}

/* Look for failures. told = the sequence told, or 0. */
inline look_for_failures(told) {
  told = 0;
#ifdef BROKEN_SEEN_LATE /* left out: the order, the count is read after the failed numbers */
  count = NONE;
#else
  d_step { count = failure_count; known = LOWEST(counted, last) }
#endif
  if
  :: count != seen ->
    low = NONE;
    do
    :: v == WORKERS -> break
    :: else ->
      atomic {
        f = failed[v];
        if
#ifdef BROKEN_TELL_LATE /* left out: failures before the last resume record belong to the error told then */
        :: f > noted[v] && f < low -> low = f; who = v; noted[v] = f
#elif defined(BROKEN_LOWEST) /* left out: the lowest, the first one found is told */
        :: f > last && low == NONE -> low = f; who = v
#else
        :: f > last && f < low -> low = f; who = v
#endif
        :: else
        fi
      }
      if
#ifdef SLOT
      :: f && f <= last && f > noted[v] -> /* late: only to be kept */
        noted[v] = f;
        version = slot_version[v];
        if
#ifdef BROKEN_SLOT_VERSION /* left out: the version of the slot */
        :: true ->
#else
        :: !(version & 1) ->
#endif
          a = slot_a[v];
          b = slot_b[v];
          d_step {
            if
#ifndef BROKEN_SLOT_VERSION
            :: version != slot_version[v] -> skip
#endif
#ifdef BROKEN_SLOT_TEXT /* left out: the look at the text's sequence; that the failed number stays is not enough */
            :: version == slot_version[v] && failed[v] == f -> assert(a == f)
#endif
            :: else -> assert(a == b) /* kept if a == f, else the late text is gone */
            fi
          }
        :: else
        fi
#endif
      :: else
      fi;
      v++
    od;
    atomic {
      v = 0; a = 0; b = 0; f = 0; version = 0;
#ifdef BROKEN_SEEN_LATE
      count = failure_count; known = low;
#endif
      seen = count
    }
    if
    :: low != NONE ->
#ifdef BROKEN_SLOT_LOCK /* left out: the lock around append and read, another thread calls in between */
      d_step { posted++; stream[posted] = RESUME; last = posted }
      d_step { posted++; stream[posted] = CALL; posts++ }
#endif
#ifdef SLOT
      a = slot_a[who];
      b = slot_b[who];
      assert(a == low && b == low);
#endif
      d_step { /* tell it */
        assert(low <= known && low == truth[who] && epoch == truth_epoch[who]);
        epoch++;
        told = low;
        a = 0; b = 0; who = 0
      }
#ifndef BROKEN_SLOT_LOCK
#ifdef BROKEN_DUE /* left out: fixing the number of a resume record that is due */
      if
      :: true -> d_step { posted++; stream[posted] = RESUME; last = posted }
      :: due = 1
      fi
#else
      d_step { last = posted + 1; due = 1 }
      if
      :: true -> post_due() /* there is room */
      :: true               /* the ring is full */
      fi
#endif
#endif
    :: else
    fi;
    low = 0
  :: else
  fi;
  d_step { count = 0; known = 0 }
}

inline post_due() {
  d_step {
    if
    :: due -> due = 0; posted++; stream[posted] = RESUME; last = posted
    :: else
    fi
  }
}

inline post(kind) {
  atomic { posted++; stream[posted] = kind }
}

proctype controller() {
  byte epoch;               /* ghost: errors told */
  byte seen, last, posts;   /* failures handled up to this count; the last resume record; commands posted */
  bool due;                 /* the last resume record is not in the ring yet */
  byte noted[WORKERS];      /* late failures looked at */
  byte count, known, low, who, v, f, a, b, version, told, kept, w;
next_call:
  do
  :: posts < POSTS -> /* a call */
    atomic {
      if
      :: failure_count == seen ->
        assert(LOWEST(counted, last) == NONE);
        post_due();
        if
        :: post(CALL)
#ifdef NAMES
        :: post(NAME)
#endif
        fi;
        posts++;
        goto next_call
      :: else
      fi
    };
    look_for_failures(told);
    told = 0; /* told: the call is not posted */
#ifdef WAIT
  :: atomic { posts -> /* wait for one worker to finish all */
       if
       :: w = 0
       :: w = 1
       fi
     };
     do
     :: failure_count != seen ->
       look_for_failures(told);
       if
       :: told -> break
       :: else
       fi
#ifdef BROKEN_WAIT_ORDER /* left out: the order, the last look at the count is before done is read */
     :: failure_count == seen ->
       if
       :: done_no[w] >= posted -> assert(truth[w] <= last); break
       :: else
       fi
#else
     :: done_no[w] >= posted ->
       if
       :: failure_count == seen -> assert(truth[w] <= last); break
       :: else
       fi
#endif
     od;
     atomic { told = 0; w = 0 }
#endif
  :: true -> break
  od;
  post_due();
  post(STOP);
  stopped == WORKERS;
  atomic { /* an error nobody was told stays in last-error */
#ifndef BROKEN_LAST_ERROR /* left out: the look at the failures after the workers have ended */
    low = LOWEST(failed, last);
    if
    :: low != NONE -> kept = epoch + 1
    :: else
    fi;
#endif
    do /* epochs before this one were told, one by one */
    :: v > FAILS -> break
    :: else -> assert((earliest[v] != NONE) == (v < epoch || v + 1 == kept)); v++
    od
  }
}

init {
  atomic { run controller(); run worker(0); run worker(1);
#if WORKERS == 3
    run worker(2)
#endif
  }
}
