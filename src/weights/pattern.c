/* Patterns of names. fnmatch(3) is not used: what it matches depends on the locale of the process, and it can take
 * exponential time. */
#include <string.h>

#include "weights/plan.h"

/* One character of UTF-8 as a number; a byte that begins none counts as one of its own. */
static uint32_t next_character(const char **at) {
  const unsigned char *s = (const unsigned char *)*at;
  int more = s[0] >= 0xf0 && s[0] < 0xf8 ? 3 : s[0] >= 0xe0 && s[0] < 0xf0 ? 2 : s[0] >= 0xc0 && s[0] < 0xe0 ? 1 : 0;
  uint32_t value = more == 3 ? s[0] & 7u : more == 2 ? s[0] & 15u : more == 1 ? s[0] & 31u : s[0];
  for (int i = 1; i <= more; i++) {
    if ((s[i] & 0xc0) != 0x80) {
      *at += 1;
      return 0x110000u + s[0]; /* past Unicode: equal to itself only */
    }
    value = value << 6 | (s[i] & 63u);
  }
  *at += 1 + more;
  return value;
}

/* The end of the set that begins at `open` ('['): its ']'. NULL when it has none. */
static const char *end_of_set(const char *open) {
  const char *at = open + 1;
  if (*at == '!' || *at == '^') at++;
  if (*at == ']') at++;
  return strchr(at, ']');
}

static bool set_has(const char *open, const char *end, uint32_t character) {
  const char *at = open + 1;
  bool is_negated = *at == '!' || *at == '^', found = false;
  if (is_negated) at++;
  while (at < end) {
    uint32_t low = next_character(&at), high = low;
    if (*at == '-' && at + 1 < end) {
      at++;
      high = next_character(&at);
    }
    if (low <= character && character <= high) found = true;
  }
  return found != is_negated;
}

const char *dsc_pattern_fault(const char *pattern) {
  if (*pattern == 0) return "is empty and matches nothing";
  for (const char *at = pattern; *at != 0; at++) {
    if (*at != '[') continue;
    const char *end = end_of_set(at);
    if (end == NULL) return "has a `[` without its `]` (for the character itself write `[[]`)";
    at += at[1] == '!' || at[1] == '^' ? 2 : 1;
    while (at < end) {
      uint32_t low = next_character(&at);
      if (*at != '-' || at + 1 >= end) continue;
      at++;
      if (next_character(&at) < low) return "has a range in `[...]` whose end comes before its beginning";
    }
    at = end;
  }
  return NULL;
}

/* One step of the pattern that is no `*` against one character. The pattern has no fault. */
static bool step(const char **pattern, uint32_t character) {
  if (**pattern == 0) return false;
  if (**pattern == '?') {
    ++*pattern;
    return true;
  }
  if (**pattern == '[') {
    const char *open = *pattern, *end = end_of_set(open);
    if (end == NULL) return false;
    *pattern = end + 1;
    return set_has(open, end, character);
  }
  return next_character(pattern) == character;
}

bool dsc_pattern_matches(const char *pattern, const char *name) {
  const char *star = NULL, *retry = NULL; /* behind the last `*`, and where its run in the name ends for now */
  for (;;) {
    if (*pattern == '*') {
      star = ++pattern;
      retry = name;
      continue;
    }
    if (*name == 0) return *pattern == 0; /* else: a longer run of the last `*` leaves even less */
    if (step(&pattern, next_character(&name))) continue;
    if (star == NULL) return false;
    pattern = star;
    (void)next_character(&retry);
    name = retry;
  }
}
